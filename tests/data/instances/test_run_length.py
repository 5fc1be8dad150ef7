"""Run lengths against pycocotools, and what is damaged."""

import numpy as np
import pytest
from coco_made import blob, code
from pycocotools import mask as rle

from genseg.data.instances.instance import Instance, cut, cut_instance
from genseg.data.instances.run_length import _packed, encode, polygons, run_lengths, windowed


@pytest.mark.parametrize("seed", range(6))
def test_a_window_holds_what_pycocotools_decodes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for density in (0.0, 0.02, 0.5, 0.98, 1.0):
        mask = (rng.random((rng.integers(1, 50), rng.integers(1, 50))) < density).astype(np.uint8)
        check(mask)
    check(blob(rng, 500, 700))


def check(mask: np.ndarray) -> None:
    coded = code(mask)
    found = windowed(coded)
    assert (found.paint(*mask.shape) == mask * 255).all()
    if mask.any():
        assert (found.alpha[0].any(), found.alpha[-1].any()) == (True, True)
        assert (found.alpha[:, 0].any(), found.alpha[:, -1].any()) == (True, True)
    runs = run_lengths(coded).tolist()
    again = rle.frPyObjects({"size": list(mask.shape), "counts": runs}, *mask.shape)
    assert again["counts"].decode() == coded["counts"]
    assert run_lengths({"size": mask.shape, "counts": runs}).tolist() == runs
    assert run_lengths({"size": mask.shape, "counts": coded["counts"].encode()}).tolist() == runs
    assert encode(found, *mask.shape) == coded


def test_a_soft_window_is_coded_as_its_mask() -> None:
    alpha = np.zeros((9, 7), np.uint8)
    alpha[2:6, 1:6], alpha[3:5, 2:4] = 100, 200
    assert encode(cut(alpha), 9, 7) == code((alpha >= 128).astype(np.uint8))


def test_runs_may_be_empty() -> None:
    found = windowed({"size": [4, 4], "counts": [0, 0, 5, 0, 2, 2, 7, 0]})
    assert found.paint(4, 4).T.ravel().tolist() == [0] * 7 + [255] * 2 + [0] * 7


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([3, 2], "do not sum up to the 4 x 4 pixels"),
        ([20, -4], "do not sum up"),
        ([16.0], "no list of whole numbers"),
        ([], "no list of whole numbers"),
        ("", "no run-length text"),
        ("\x07", "no run-length text"),
        ("PP", "no run-length text"),
        ("P" * 30 + "0", "a number has no end"),
        ("5", "do not sum up"),
    ],
)
def test_damaged_counts_are_told(counts: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_lengths({"size": [4, 4], "counts": counts})


def disc(radius: float, y: float = 30.3, x: float = 41.8) -> Instance:
    rows, columns = np.mgrid[:80, :90]
    return cut_instance((rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2 < radius**2)


@pytest.mark.parametrize("radius", [2.5, 4, 7, 12, 25])
def test_polygons_cover_their_mask(radius: float) -> None:
    for x in (41.8, 42.0, 42.5, 5.0, 88.0):  # the last two lie at the image's edges
        instance = disc(radius, x=x)
        found = polygons(instance)
        assert all(
            len(p) >= 6 and len(p) % 2 == 0 and min(p) >= 0 and max(p[::2]) <= 90 for p in found
        )
        mask = rle.decode(rle.merge(rle.frPyObjects(found, 80, 90))) > 0
        truth = instance.paint(80, 90) > 127
        assert (mask & truth).sum() / (mask | truth).sum() > 0.9, x


def test_polygons_have_no_point_at_which_they_go_straight_on() -> None:
    instance = Instance(np.full((20, 30), 255, np.uint8), 5, 7)
    (found,) = polygons(instance)
    assert len(found) // 2 == 8  # four sides, whose corners are cut
    for radius in (4, 12, 25):
        (outline,) = (np.array(p).reshape(-1, 2) for p in polygons(disc(radius)))
        steps = np.diff(outline, axis=0, append=outline[:1])
        following = np.roll(steps, -1, 0)
        assert (steps[:, 0] * following[:, 1] != steps[:, 1] * following[:, 0]).all()
        assert len(outline) < 3 * radius + 12  # and not one at each pixel, 2 pi radius


def test_each_piece_of_a_mask_has_a_polygon() -> None:
    whole = np.maximum(disc(6, x=20).paint(80, 90), disc(9, y=60, x=70).paint(80, 90))
    found = polygons(cut_instance(whole))
    assert len(found) == 2
    mask = rle.decode(rle.merge(rle.frPyObjects(found, 80, 90))) > 0
    assert (mask & (whole > 0)).sum() / (mask | (whole > 0)).sum() > 0.9


def test_masks_anywhere_in_images_of_any_size_are_coded_as_pycocotools_does() -> None:
    """Also where columns run into each other, and by the numbers that are ours beyond 32 bits."""
    rng = np.random.default_rng(0)
    for n in range(300):
        height, width = (int(v) for v in rng.integers(1, 30, 2))
        h = height if n % 3 == 0 else int(rng.integers(1, height + 1))
        w = int(rng.integers(1, width + 1))
        alpha = (rng.random((h, w)) < rng.choice([0.0, 0.3, 0.9, 1.0])).astype(np.uint8) * 255
        top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
        one = Instance(alpha, top, left)
        coded = encode(one, height, width)
        assert coded["counts"] == rle.encode(np.asfortranarray(one.paint(height, width) > 0))[
            "counts"
        ].decode("ascii")
        assert _packed(run_lengths(coded).tolist()) == coded["counts"]
        back = windowed(coded)
        assert np.array_equal(back.paint(height, width), one.paint(height, width))


def test_an_image_of_more_pixels_than_32_bits_count() -> None:
    one = Instance(np.full((3, 2), 255, np.uint8), 69_990, 69_000)
    back = windowed(encode(one, 70_000, 70_000))
    assert (back.top, back.left) == (69_990, 69_000) and np.array_equal(back.alpha, one.alpha)
