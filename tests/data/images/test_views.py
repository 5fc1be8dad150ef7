"""Views: the draws, their application by both libraries, and the crop that is carried along."""

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from scipy.stats import kstest

from genseg.data.images.views import (
    View,
    ViewConfig,
    colour_batch,
    colour_view,
    crop_view,
    draw_view,
)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :80] / 96
    smooth = np.stack([x, y, (x * 3 + y * 5) % 1], -1) * 200 + rng.uniform(0, 40, (96, 80, 3))
    return smooth.astype(np.uint8)


def draws(config: ViewConfig, n: int = 2000, height: int = 96, width: int = 80) -> list[View]:
    return [draw_view(np.random.default_rng([0, 0, i, 0]), config, height, width) for i in range(n)]


def test_the_same_seed_draws_the_same_view_and_another_view_another() -> None:
    config = ViewConfig()
    one, again, other = (
        draw_view(np.random.default_rng([3, 1, 7, v]), config, 50, 60) for v in (0, 0, 1)
    )
    assert one == again
    assert one != other


def test_crops_have_the_areas_and_ratios_that_were_asked_for() -> None:
    found = draws(ViewConfig(scale=(0.2, 0.5)), height=400, width=400)
    areas = np.array([v.crop[2] * v.crop[3] for v in found]) / 160_000
    ratios = np.log([v.crop[3] / v.crop[2] for v in found])
    assert kstest(areas, "uniform", (0.2, 0.3)).pvalue > 0.01
    assert kstest(ratios, "uniform", (np.log(3 / 4), np.log(16 / 9))).pvalue > 0.01
    assert all(v.crop[0] + v.crop[2] <= 400 and v.crop[1] + v.crop[3] <= 400 for v in found)


def test_a_crop_that_never_fits_becomes_the_largest_centred_one() -> None:
    view = draw_view(np.random.default_rng(0), ViewConfig(scale=(1.0, 1.0)), 300, 20)
    assert view.crop == (136, 0, 27, 20)


def test_probabilities_and_strengths_are_those_of_the_recipe() -> None:
    found = draws(
        ViewConfig(flip=0.3, jitter=0.8, gray=0.2, blur=0.1, solarize=0.4, hue=0.1, brightness=0.4)
    )
    for name, p in (("flip", 0.3), ("gray", 0.2), ("solarize", 0.4)):
        assert np.mean([getattr(v, name) for v in found]) == pytest.approx(p, abs=0.03)
    assert np.mean([v.sigma > 0 for v in found]) == pytest.approx(0.1, abs=0.03)
    assert np.mean([v.order != () for v in found]) == pytest.approx(0.8, abs=0.03)
    assert kstest([v.factors[0] for v in found], "uniform", (0.6, 0.8)).pvalue > 0.01
    assert kstest([v.factors[3] for v in found], "uniform", (-0.1, 0.2)).pvalue > 0.01
    assert kstest([v.sigma for v in found if v.sigma], "uniform", (0.1, 1.9)).pvalue > 0.01
    firsts = np.bincount([v.order[0] for v in found if v.order], minlength=4) / sum(
        v.order != () for v in found
    )
    np.testing.assert_allclose(firsts, 0.25, atol=0.04)


def test_factors_of_strengths_above_1_are_even_between_0_and_the_largest() -> None:
    """As torchvision's, and not black for half of the draws that would be below 0."""
    factors = [v.factors[1] for v in draws(ViewConfig(jitter=1, contrast=2.0))]
    assert kstest(factors, "uniform", (0, 3)).pvalue > 0.01


@pytest.mark.parametrize("place", range(4))
def test_colour_operations_are_torchvisions(image: np.ndarray, place: int) -> None:
    factor = 0.07 if place == 3 else 1.3
    factors = [1.0, 1.0, 1.0, 0.0]
    factors[place] = factor
    view = View((0, 0, 96, 80), False, False, order=(place,), factors=tuple(factors))
    operation = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)[
        place
    ]
    want = operation(torch.from_numpy(image).movedim(-1, 0), factor).movedim(0, -1).numpy()
    difference = np.abs(colour_view(image, view).astype(int) - want.astype(int))
    # hue: OpenCV's 8-bit circle has 180 steps
    assert np.percentile(difference, 99) <= (6 if place == 3 else 1)


def test_solarize_inverts_from_the_middle(image: np.ndarray) -> None:
    view = View((0, 0, 96, 80), False, False, solarize=True)
    np.testing.assert_array_equal(
        colour_view(image, view), np.where(image < 128, image, 255 - image)
    )


def test_kornia_on_the_device_makes_what_albumentations_makes_on_the_cpu(image: np.ndarray) -> None:
    config = ViewConfig(size=64, gray=0.3, blur=0.5, solarize=0.2, sigma=(0.1, 2.0))
    views = draws(config, 64)
    crops = [crop_view(image, v, 64) for v in views]
    want = (
        torch.from_numpy(np.stack([colour_view(x, v) for x, v in zip(crops, views, strict=True)]))
        / 255
    )
    batch = torch.from_numpy(np.stack(crops)).movedim(-1, 1) / 255
    got = colour_batch(batch, torch.from_numpy(np.stack([v.vector() for v in views]))).movedim(
        1, -1
    )
    close = (got - want).abs() < 6 / 255
    assert close.float().mean() > 0.99  # not all: a value at 127.5 is solarised on one side only
    assert (got - want).abs().mean() < 2 / 255


def test_the_carried_crop_and_flips_find_each_pixel_again() -> None:
    """A view of a coordinate picture shows where its pixels come from."""
    y, x = np.mgrid[:200, :200]
    picture = np.stack([y, x, y * 0], -1).astype(np.uint8)
    config = ViewConfig(scale=(0.3, 0.6), flip=0.5, vertical_flip=0.5)
    for view in draws(config, 20, 200, 200):
        out = crop_view(picture, view, 50)
        top, left, h, w = view.crop
        rows = top + (np.arange(50) + 0.5) * h / 50 - 0.5
        columns = left + (np.arange(50) + 0.5) * w / 50 - 0.5
        rows = rows[::-1] if view.vertical_flip else rows
        columns = columns[::-1] if view.flip else columns
        np.testing.assert_allclose(out[:, 25, 0], rows, atol=2)
        np.testing.assert_allclose(out[25, :, 1], columns, atol=2)


def test_a_vector_holds_everything_that_was_drawn() -> None:
    view = View((1, 2, 3, 4), True, False, (2, 0, 1, 3), (0.5, 1.5, 1.0, -0.1), True, 0.7, True)
    want = [1, 2, 3, 4, 1, 0, 2, 0, 1, 3, 0.5, 1.5, 1.0, -0.1, 1, 0.7, 1]
    np.testing.assert_allclose(view.vector(), np.array(want, np.float32))
    assert View((0, 0, 1, 1), False, False).vector()[6:10].tolist() == [-1, -1, -1, -1]
