"""Pixels for the encoder: normalised by the formula, values spread over the range."""

import numpy as np
import torch

from genseg.data.images.inputs import stretch, stretching
from genseg.data.images.pixels import centre, normalise


def test_normalised_pixels_are_the_formula() -> None:
    pixels = torch.randint(
        0, 256, (2, 4, 5, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    mean, std = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
    got = normalise(pixels, mean=mean, std=std)
    for c in range(3):
        torch.testing.assert_close(
            got[:, c], (pixels[..., c].double() / 255 - mean[c]).div(std[c]).float()
        )


def test_normalising_leaves_its_input_alone_and_takes_any_strides() -> None:
    pixels = torch.rand(2, 4, 5, 3, generator=torch.Generator().manual_seed(0)) * 255
    kept, numbers = pixels.clone(), {"mean": (0.4, 0.5, 0.6), "std": (0.1, 0.2, 0.3)}
    want = normalise(pixels[:, 1:, 2:4].contiguous(), **numbers)
    assert torch.equal(normalise(pixels[:, 1:, 2:4], **numbers), want)
    assert torch.equal(pixels, kept)


def test_the_centre_is_the_largest_square() -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 12, 3), dtype=np.uint8)
    np.testing.assert_array_equal(centre(image, 7), image[:, 2:9])


def test_stretching_is_the_line_from_the_darkest_to_the_brightest() -> None:
    ramp = np.repeat(np.linspace(50, 150, 101).astype(np.uint8), 30).reshape(101, 10, 3)
    table = stretching(ramp)
    low, high = np.percentile(ramp, (0.2, 99.8))
    want = np.clip((np.arange(256) - low) * 255 / (high - low), 0, 255)
    np.testing.assert_allclose(table, want, atol=0.5)
    np.testing.assert_array_equal(stretch(ramp), table[ramp])
    assert stretch(ramp).min() == 0 and stretch(ramp).max() == 255


def test_stretching_keeps_the_order_of_values_and_is_not_changed_by_a_few_outliers() -> None:
    image = np.random.default_rng(0).integers(60, 121, (100, 100, 3), dtype=np.uint8)
    table = stretching(image)
    assert (np.diff(table.astype(int)) >= 0).all()
    image[0, :5], image[1, :5] = 255, 0
    assert np.abs(stretching(image).astype(int) - table).max() <= 4


def test_contrast_rises_by_no_more_than_its_limit() -> None:
    image = np.full((20, 20, 3), 100, np.uint8)
    image[:, 10:] = 104
    out = stretch(image)
    assert int(out.max()) - int(out.min()) == 32
    out = stretching(image, most=2.0)[image]
    assert int(out.max()) - int(out.min()) == 8


def test_stretching_again_changes_little() -> None:
    image = np.random.default_rng(0).normal(90, 15, (80, 80, 3)).clip(0, 255).astype(np.uint8)
    once = stretch(image)
    assert np.abs(stretch(once).astype(int) - once).max() <= 1


def test_a_flat_image_stays_flat() -> None:
    for value in (0, 7, 255):
        assert len(np.unique(stretch(np.full((9, 9, 3), value, np.uint8)))) == 1
