"""Outlines: exact, simple rings, holes and pieces; filled again against a naive loop."""

import numpy as np
import pytest
from pycocotools import mask as rle

from genseg.data.instances.instance import Instance, cut_instance
from genseg.data.instances.outline import Drawn, filled_polygons, one_ring, outlines, signed_area

RNG = np.random.default_rng(0)


def masks() -> list[np.ndarray]:
    """Noise of several densities, which has holes in holes and pixels that meet at corners; a
    frame, a single pixel, a whole image."""
    out = [RNG.random((13, 17)) < p for p in (0.1, 0.3, 0.5, 0.6, 0.8, 0.95)]
    frame = np.ones((9, 9), bool)
    frame[2:7, 2:7] = False
    frame[4, 4] = True
    pinched = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], bool)
    two_holes = np.ones((6, 6), bool)
    two_holes[2, 2] = two_holes[3, 3] = False
    single = np.zeros((5, 5), bool)
    single[4, 0] = True
    return [*out, frame, pinched, two_holes, single, np.ones((4, 3), bool)]


@pytest.mark.parametrize("mask", masks(), ids=str)
def test_outlines_lose_nothing_and_are_valid(mask: np.ndarray) -> None:
    instance = cut_instance(mask)
    assert instance is not None
    found = outlines(instance)
    again = filled_polygons(found, *mask.shape)
    assert again is not None
    np.testing.assert_array_equal(again.paint(*mask.shape) > 0, mask)
    for outer, *holes in found:
        assert signed_area(outer) > 0 and all(signed_area(hole) < 0 for hole in holes)
        for ring in (outer, *holes):
            assert len({tuple(p) for p in ring.tolist()}) == len(ring), "it touches itself"
            steps = np.roll(ring, -1, 0) - ring
            assert ((steps == 0).sum(1) == 1).all(), "corners alone, along the pixels"
            turns = steps * np.roll(steps, 1, 0)
            assert (turns == 0).all(), "no corner on a straight line"
    areas = [sum(map(signed_area, polygon)) for polygon in found]
    assert sum(areas) == mask.sum()


def test_pieces_and_holes_of_a_known_mask() -> None:
    frame, pinched, two_holes = masks()[6:9]
    as_found = [outlines(i) for m in (frame, pinched, two_holes) if (i := cut_instance(m))]
    assert [[len(p) for p in found] for found in as_found] == [[2, 1], [2], [3]]
    np.testing.assert_array_equal(
        as_found[0][1][0], [[4, 4], [5, 4], [5, 5], [4, 5]], "clockwise from the upper left"
    )


def test_any_polygon_is_filled_as_a_naive_loop_fills_it() -> None:
    for _ in range(20):
        rings = tuple(RNG.uniform(-4, 24, (RNG.integers(3, 8), 2)) for _ in range(2))
        truth = np.zeros((20, 18), bool)
        for y in range(20):
            for x in range(18):
                crossings = 0
                for ring in rings:
                    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, 0), strict=True):
                        if (y0 <= y + 0.5) != (y1 <= y + 0.5):
                            crossings += x0 + (y + 0.5 - y0) / (y1 - y0) * (x1 - x0) <= x + 0.5
                truth[y, x] = crossings % 2 == 1
        found = filled_polygons([rings], 20, 18)
        painted = np.zeros_like(truth) if found is None else found.paint(20, 18) > 0
        np.testing.assert_array_equal(painted, truth)


def test_what_lies_outside_or_holds_no_middle_is_nothing() -> None:
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], float)
    assert filled_polygons([(square + 30,)], 20, 20) is None
    assert filled_polygons([(square / 10,)], 20, 20) is None
    assert filled_polygons([(square[:2],)], 20, 20) is None and filled_polygons([], 9, 9) is None
    half_outside = filled_polygons([(square - 2,)], 20, 20)
    assert half_outside is not None and half_outside.box_xywh == (0, 0, 2, 2)
    both = filled_polygons([(square,), (square + 2,)], 20, 20)
    assert both is not None and both.area == 28, "what two cover counts once, and is covered"


@pytest.mark.parametrize("mask", masks()[2:9], ids=str)
def test_one_ring_has_the_area_of_all(mask: np.ndarray) -> None:
    instance = cut_instance(mask)
    assert instance is not None
    ring = one_ring(outlines(instance))
    assert signed_area(ring) == mask.sum()
    again = filled_polygons([(ring,)], *mask.shape)
    assert again is not None
    np.testing.assert_array_equal(again.paint(*mask.shape) > 0, mask)
    code = rle.merge(rle.frPyObjects([ring.ravel().tolist()], *mask.shape))
    np.testing.assert_array_equal(rle.decode(code) > 0, mask, "also by COCO's own code")


def test_the_window_moves_the_outline() -> None:
    mask = np.ones((3, 2), np.uint8) * 255
    ((ring,),) = outlines(Instance(mask, 10, 20))
    np.testing.assert_array_equal(ring, [[20, 10], [22, 10], [22, 13], [20, 13]])


def test_a_mask_that_reaches_out_of_its_image_is_cut() -> None:
    alpha = np.zeros((6, 6), np.uint8)
    alpha[1:5, 1:5] = 255
    inside = Drawn(Instance(alpha, 7, 8)).instance(10, 11)
    assert inside is not None and inside.box_xywh == (9, 8, 2, 2)
    assert Drawn(Instance(alpha, 20, 3)).instance(10, 11) is None
    assert Drawn(Instance(alpha[:1], 0, 0)).instance(10, 11) is None
