"""Pictures of instances: what is drawn over an image, by hand, and where a grid puts it."""

import cv2
import numpy as np
import pytest

from genseg.data.instances.instance import Instance
from genseg.show.draw import (
    CHECKER,
    GAP,
    PALETTE,
    SQUARE,
    colour,
    colours,
    cut_outs,
    grid,
    overlay,
    titled,
)

SOFT = np.zeros((12, 14), np.uint8)
SOFT[1:11, 1:13] = 100  # below half: a veil, but no mask
SOFT[3:9, 4:10] = 255
ONE = Instance(SOFT, 5, 8)
TWO = Instance(np.full((6, 7), 255, np.uint8), 22, 30)


def noise(h: int = 40, w: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)


def test_only_pixels_under_an_alpha_change() -> None:
    image = noise()
    before = image.copy()
    drawn = overlay(image, [ONE, TWO])
    np.testing.assert_array_equal(image, before)  # the image itself is left alone
    under = np.maximum(ONE.paint(40, 48), TWO.paint(40, 48)) > 0
    np.testing.assert_array_equal(drawn[~under], image[~under])
    assert (drawn[under] != image[under]).any(1).mean() > 0.95
    np.testing.assert_array_equal(overlay(image, []), image)


@pytest.mark.parametrize("strength", [0.0, 0.45, 1.0])
def test_a_veil_is_the_mean_of_image_and_colour(strength: float) -> None:
    """Outside of the outline: out = image + strength * alpha * (colour - image), one instance after
    the other."""
    image = noise()
    behind = Instance(np.full((20, 20), 200, np.uint8), 2, 3)
    drawn = overlay(image, [behind, ONE], strength=strength)
    want = image.astype(np.float64)
    for n, instance in enumerate((behind, ONE)):
        alpha = instance.paint(40, 48)[..., None] / 255
        want = (1 - strength * alpha) * want + strength * alpha * np.array(colour(n))
    line = np.zeros((40, 48), bool)
    for instance in (behind, ONE):
        mask = np.pad(instance.mask, 1).astype(np.uint8)
        inner = cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))[1:-1, 1:-1]
        line[instance.window] |= instance.mask & (inner == 0)
    assert line.sum() == 2 * (20 + 20) - 4 + 2 * (6 + 6) - 4
    np.testing.assert_allclose(drawn[~line], want[~line], atol=0.51)
    # a line at full strength
    assert {tuple(c) for c in drawn[line].tolist()} == {colour(0), colour(1)}


def test_the_palette_is_that_of_okabe_and_ito() -> None:
    known = {"#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
    assert {"#" + "".join(f"{v:02X}" for v in c) for c in PALETTE} == known
    assert [colour(n) for n in range(14)] == [*PALETTE, *PALETTE]


def test_instances_that_are_near_each_other_differ_in_colour() -> None:
    """A board of squares that touch: no two neighbours, diagonal ones too, share one of the seven
    colours."""
    size = 10
    squares = [
        Instance(np.full((size, size), 255, np.uint8), size * y, size * x)
        for y in range(6)
        for x in range(6)
    ]
    hues = colours(squares)
    assert colours([]) == [] and colours(squares[:1]) == [0] and len(set(hues)) == len(PALETTE)
    at = {(n // 6, n % 6): hue for n, hue in enumerate(hues)}
    for (y, x), hue in at.items():
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            assert at.get((y + dy, x + dx)) != hue


def test_far_instances_share_colours_evenly() -> None:
    far = [Instance(np.full((5, 5), 255, np.uint8), 0, 40 * n) for n in range(21)]
    assert sorted(colours(far)) == sorted(list(range(7)) * 3)


def test_cut_outs_show_the_image_by_its_alpha_over_a_checkerboard() -> None:
    image = noise()
    drawn = cut_outs(image, [ONE, TWO])
    y, x = np.mgrid[:40, :48] // SQUARE
    board = np.array(CHECKER, float)[(y + x) % 2]
    alpha = (1 - (1 - ONE.paint(40, 48) / 255) * (1 - TWO.paint(40, 48) / 255))[..., None]
    np.testing.assert_allclose(drawn, alpha * image + (1 - alpha) * board, atol=0.51)


def test_titles_stand_above_the_grid_and_leave_it_alone() -> None:
    sheet = grid([noise(32, 32)] * 2, columns=2, side=96)
    out = titled(sheet, ["image", "found"], side=96)
    other = titled(sheet, ["image", "found"], side=96, below=True)
    words = len(out) - len(sheet)
    assert (other[: len(sheet)] == sheet).all() and (other[len(sheet) :] == out[:words]).all()
    band = out[: len(out) - len(sheet)]
    np.testing.assert_array_equal(out[len(band) :], sheet)
    assert out.shape[1] == sheet.shape[1]
    dark = (band < 128).any(2).any(0)
    assert dark[:60].any() and not dark[60:100].any() and dark[100:160].any()


def test_a_grid_puts_each_picture_into_the_middle_of_its_square() -> None:
    side = 20
    wide, tall, small = (
        np.full((h, w, 3), v, np.uint8) for h, w, v in ((20, 40, 10), (60, 30, 90), (5, 5, 200))
    )
    sheet = grid([wide, tall, small], columns=2, side=side)
    want = np.full((2 * side + GAP, 2 * side + GAP, 3), 255, np.uint8)
    want[5:15, 0:20] = 10  # shrunk to 10 x 20
    want[0:20, 24 + 5 : 24 + 15] = 90  # to 20 x 10
    want[24:44, 0:20] = 200  # enlarged to 20 x 20
    np.testing.assert_array_equal(sheet, want)


def test_pictures_of_a_squares_size_are_put_in_as_they_are() -> None:
    pictures = [noise(16, 16), noise(16, 9), np.flip(noise(16, 16))]
    sheet = grid(pictures, columns=3, side=16)
    assert sheet.shape == (16, 3 * 16 + 2 * GAP, 3)
    np.testing.assert_array_equal(sheet[:, :16], pictures[0])
    np.testing.assert_array_equal(sheet[:, 20 + 3 : 20 + 12], pictures[1])
    np.testing.assert_array_equal(sheet[:, 40:], pictures[2])
    assert (sheet[:, 16:20] == 255).all()
    assert grid(pictures, columns=1, side=16).shape == (3 * 16 + 2 * GAP, 16, 3)
    thin = np.zeros((400, 1, 3), np.uint8)
    # of a thin one at least a line is left
    assert (grid([thin], columns=1, side=16) == 0).all(2).sum() == 16
