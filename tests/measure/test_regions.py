"""Measures of instances against naive loops, closed forms and scikit-image on the whole image."""

import math

import numpy as np
import pytest
from skimage.measure import regionprops

from genseg.data.instances.instance import Instance, cut, cut_instance
from genseg.measure.regions import intensities, shape_of

RNG = np.random.default_rng(1)


def irregular() -> Instance:
    alpha = RNG.integers(0, 256, (11, 9), dtype=np.uint8)
    return Instance(alpha, 3, 5, 0.5)


def test_a_rectangle_has_its_closed_form() -> None:
    alpha = np.full((4, 10), 255, np.uint8)
    found = shape_of(Instance(alpha, 7, 20), 40, 60, (0.5, 0.5))
    assert found["area_px"] == 40 and found["area_um2"] == 10
    assert found["equivalent_diameter_px"] == math.sqrt(160 / math.pi)
    assert (found["centroid_x"], found["centroid_y"]) == (24.5, 8.5)
    # an ellipse of the same second moments; the variance of 1 ... n is (n² - 1) / 12
    major, minor = (4 * math.sqrt((n**2 - 1) / 12) for n in (10, 4))
    assert found["major_axis_px"] == pytest.approx(major)
    assert found["minor_axis_um"] == pytest.approx(minor / 2)
    assert found["eccentricity"] == pytest.approx(math.sqrt(1 - (minor / major) ** 2))
    assert found["solidity"] == 1 and abs(float(found["orientation"] or 0)) == math.pi / 2
    assert found["perimeter_px"] == 2 * (4 - 1 + 10 - 1) and not found["touches_border"]


def test_shapes_are_those_of_scikit_image_on_the_whole_image() -> None:
    instance = irregular()
    (whole,) = regionprops((instance.paint(30, 31) >= 128).astype(np.uint8))
    found = shape_of(instance, 30, 31)
    for name, value in {
        "area_px": whole.area,
        "equivalent_diameter_px": whole.equivalent_diameter_area,
        "major_axis_px": whole.axis_major_length,
        "minor_axis_px": whole.axis_minor_length,
        "perimeter_px": whole.perimeter,
        "eccentricity": whole.eccentricity,
        "solidity": whole.solidity,
        "orientation": whole.orientation,
        "centroid_y": whole.centroid[0],
        "centroid_x": whole.centroid[1],
    }.items():
        assert found[name] == pytest.approx(value), name
    assert found["area_um2"] is None and found["perimeter_um"] is None


def test_pixels_that_are_no_squares_have_areas_alone() -> None:
    found = shape_of(irregular(), 30, 31, (2.0, 0.5))
    assert found["area_um2"] == found["area_px"] and found["perimeter_um"] is None


@pytest.mark.parametrize(
    ("top", "left", "touches"),
    [(0, 5, True), (5, 0, True), (16, 5, True), (5, 17, True), (5, 5, False)],
)
def test_the_border(top: int, left: int, touches: bool) -> None:
    instance = Instance(np.full((4, 3), 255, np.uint8), top, left)
    assert shape_of(instance, 20, 20)["touches_border"] is touches


def test_intensities_are_those_of_a_naive_loop() -> None:
    instance = irregular()
    pixels = RNG.integers(0, 65536, (30, 31, 2)).astype(np.uint16)
    found = intensities(instance, pixels, ("a", "b"), instance)
    for c, name in enumerate("ab"):
        inside, weighted, weights = [], 0.0, 0.0
        for y in range(11):
            for x in range(9):
                value = float(pixels[3 + y, 5 + x, c])
                alpha = instance.alpha[y, x] / 255
                inside += [value] if instance.alpha[y, x] >= 128 else []
                weighted, weights = weighted + alpha * value, weights + alpha
        mean = sum(inside) / len(inside)
        assert found[f"{name}_mean"] == pytest.approx(mean)
        assert found[f"{name}_sum"] == sum(inside)
        assert (found[f"{name}_min"], found[f"{name}_max"]) == (min(inside), max(inside))
        variance = sum((v - mean) ** 2 for v in inside) / len(inside)
        assert found[f"{name}_sd"] == pytest.approx(math.sqrt(variance))
        assert found[f"{name}_alpha_mean"] == pytest.approx(weighted / weights)


def test_a_hard_alpha_weighs_as_the_mask_and_nan_counts_nowhere() -> None:
    mask = np.zeros((6, 6), bool)
    mask[1:4, 2:5] = True
    hard = cut_instance(mask)
    assert hard is not None
    pixels = RNG.random((6, 6, 1))
    found = intensities(hard, pixels, ("v",), hard)
    assert found["v_alpha_mean"] == pytest.approx(found["v_mean"])
    pixels[1, 2] = np.nan
    kept = pixels[..., 0][mask][1:]
    found = intensities(hard, pixels, ("v",), cut(np.where(mask, 255, 0).astype(np.uint8)))
    assert found["v_mean"] == pytest.approx(kept.mean()) == found["v_alpha_mean"]
    assert found["v_sum"] == pytest.approx(kept.sum())
    pixels[:] = np.nan
    assert set(intensities(hard, pixels, ("v",), hard).values()) == {None}
