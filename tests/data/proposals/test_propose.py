"""Proposals lie in the image, are repeatable, the same in a mirror, keep apart, and find what is
known to be there."""

from collections.abc import Callable
from typing import get_args

import cv2
import numpy as np
import pytest
from skimage.morphology import convex_hull_image

from genseg.data.instances.instance import Instance
from genseg.data.proposals import component_tree as ct
from genseg.data.proposals.controls import propose_blobs
from genseg.data.proposals.inpainting import inpainting_error
from genseg.data.proposals.propose import (
    PROPOSERS,
    TAUGHT,
    Proposals,
    propose,
    propose_tree,
)
from genseg.data.proposals.superpixels import scored
from genseg.data.scenes.scenes import compose_scene

PHOTO = compose_scene(0, 3, size=96).image
DISCS = [(27, 28, 20), (90, 38, 24), (34, 90, 22), (98, 100, 9)]  # x, y, radius


def disc(x: float, y: float, radius: float, size: int = 128) -> np.ndarray:
    rows, columns = np.indices((size, size))
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def discs(ground: float, figure: float, noise: float = 2) -> np.ndarray:
    """A grey image of DISCS, slightly out of focus and with noise."""
    picture = np.full((128, 128), ground, np.float32)
    for d in DISCS:
        picture[disc(*d)] = figure
    picture = cv2.GaussianBlur(picture, (0, 0), 1) + np.random.default_rng(0).normal(
        0, noise, picture.shape
    )
    return np.repeat(np.clip(picture.round(), 0, 255).astype(np.uint8)[..., None], 3, 2)


def whole(found: list[Instance], image: np.ndarray) -> np.ndarray:
    """Masks, `n h w`."""
    h, w = image.shape[:2]
    return np.stack([i.paint(h, w) > 0 for i in found]) if found else np.zeros((0, h, w), bool)


def best_iou(mask: np.ndarray, masks: np.ndarray) -> float:
    return max(((mask & m).sum() / (mask | m).sum() for m in masks), default=0.0)


def test_a_recipe_may_name_each_of_them() -> None:
    assert get_args(Proposals) == (*PROPOSERS, *TAUGHT)


@pytest.mark.parametrize("name", list(PROPOSERS))
def test_proposals_lie_in_the_image_and_come_in_order(name: str) -> None:
    for image in (PHOTO, PHOTO[:61, :90], discs(20, 120), PHOTO[40:48, 40:48], PHOTO[30:38, :]):
        found = PROPOSERS[name](image)
        h, w = image.shape[:2]
        scores = [i.score for i in found]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= s <= 1 for s in scores)
        for i in found:
            height, width = i.alpha.shape
            assert 0 <= i.top <= i.top + height <= h and 0 <= i.left <= i.left + width <= w
            assert 20 <= i.area <= 0.51 * h * w
        again = PROPOSERS[name](image.copy())
        assert len(again) == len(found)
        for a, b in zip(found, again, strict=True):
            assert (a.top, a.left, a.score) == (b.top, b.left, b.score) and np.array_equal(
                a.alpha, b.alpha
            )
    assert PROPOSERS[name](PHOTO)


@pytest.mark.parametrize("name", list(PROPOSERS))
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (90, 20, 200)])
@pytest.mark.parametrize("shape", [(8, 8), (40, 64)])
def test_a_flat_image_has_none(
    name: str, colour: tuple[int, int, int], shape: tuple[int, int]
) -> None:
    assert PROPOSERS[name](np.full((*shape, 3), colour, np.uint8)) == []


@pytest.mark.parametrize("name", ["tree", "otsu"])
@pytest.mark.parametrize(
    "image", [PHOTO, discs(20, 120), discs(200, 90)], ids=["photo", "bright", "dark"]
)
def test_no_two_share_a_pixel(name: str, image: np.ndarray) -> None:
    assert whole(PROPOSERS[name](image), image).sum(0).max() == 1


@pytest.mark.parametrize("name", ["tree", "otsu", "felzenszwalb"])
@pytest.mark.parametrize(("ground", "figure"), [(20, 120), (200, 90), (6, 14), (120, 160)])
def test_known_discs_are_found_on_either_side(name: str, ground: int, figure: int) -> None:
    """On dark and on bright ground, and with no more than eight grey levels between; the tree finds
    nothing else."""
    image = discs(ground, figure, noise=abs(figure - ground) / 40)
    found = PROPOSERS[name](image)
    masks = whole(found, image)
    for x, y, radius in DISCS:
        # pixels by which a region may be too large all around
        near = 1 if name != "felzenszwalb" else 4
        # a pixel: 0.907 of 20
        assert best_iou(disc(x, y, radius), masks) > (radius / (radius + near)) ** 2
    if name != "felzenszwalb":
        assert len(found) == len(DISCS)


def test_the_tree_splits_discs_that_touch_and_leaves_a_convex_one_whole() -> None:
    picture = np.full((96, 96), 30, np.float32)
    pair = [disc(34, 48, 15, 96), disc(61, 48, 13, 96)]
    picture[pair[0] | pair[1]] = 150  # of one grey: no level tells them apart
    picture = cv2.GaussianBlur(picture, (0, 0), 1)
    image = np.repeat(picture.astype(np.uint8)[..., None], 3, 2)
    found = propose_tree(image)
    assert len(found) == 2
    assert min(best_iou(d, whole(found, image)) for d in pair) > 0.9
    one = np.repeat((30 + 120 * disc(48, 48, 20, 96)).astype(np.uint8)[..., None], 3, 2)
    assert len(propose_tree(one)) == 1


def test_uneven_light_hides_no_disc_from_the_tree() -> None:
    """The ground rises by more than the discs stand out: no one threshold finds them, Otsu's for
    one."""
    ramp = np.linspace(20, 140, 128)[None, :, None]
    image = np.clip(discs(0, 60, noise=0).astype(np.float64) + ramp, 0, 255).astype(np.uint8)
    for x, y, radius in DISCS:
        assert best_iou(disc(x, y, radius), whole(propose_tree(image), image)) > 0.8
    assert min(best_iou(disc(*d), whole(PROPOSERS["otsu"](image), image)) for d in DISCS) < 0.5


@pytest.mark.parametrize(
    "turn",
    [np.fliplr, np.flipud, lambda a: np.swapaxes(a, 0, 1)],
    ids=["mirror", "upside down", "transposed"],
)
@pytest.mark.parametrize("image", [PHOTO, discs(20, 120)], ids=["photo", "discs"])
def test_the_tree_sees_the_same_in_a_mirror(
    turn: Callable[[np.ndarray], np.ndarray], image: np.ndarray
) -> None:
    """Up to ties between levels: nearly all regions have a twin."""
    here = whole(propose_tree(image), image)
    turned = np.ascontiguousarray(turn(image))
    there = [turn(m) for m in whole(propose_tree(turned), turned)]
    assert abs(len(here) - len(there)) <= 1
    assert np.mean([best_iou(m, np.array(there)) > 0.9 for m in here]) >= 0.9


def test_the_tree_s_discs_move_with_the_image() -> None:
    image = discs(20, 120)
    moved = np.roll(image, (5, 9), (0, 1))
    first, second = whole(propose_tree(image), image), whole(propose_tree(moved), moved)
    assert len(first) == len(second) == len(DISCS)
    assert min(best_iou(np.roll(m, (5, 9), (0, 1)), second) for m in first) > 0.97


def test_a_region_is_measured_as_its_pixels_are() -> None:
    """Pick's theorem against a count, and the hull of a notched square against its closed form."""
    square = np.zeros((40, 40), np.uint8)
    square[5:35, 5:35] = 1
    notched = square.copy()
    notched[5:20, 15:25] = 0
    for mask, solidity in (
        (square, 1.0),
        (notched, 750 / 900),
        (disc(20, 20, 11, 40).astype(np.uint8), 1.0),
    ):
        outline = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0][0][:, 0]
        found = ct.region(outline)
        assert found.area == mask.sum()
        assert found.solidity == pytest.approx(solidity, abs=0.06)
        painted, top, left = ct.paint(outline)
        assert (painted > 0).sum() == mask.sum() and (top, left) == tuple(np.argwhere(mask).min(0))


def test_levels_lie_where_the_edges_are() -> None:
    """A step between 50 and 200 on a ground with a faint step at 20: weights, not pixels, place the
    levels."""
    values = np.full((64, 64), 20, np.uint8)
    values[:, 32:] = 200
    edges = ct.slope(cv2.GaussianBlur(values.astype(np.float32), (0, 0), 2))
    smooth = cv2.GaussianBlur(values, (0, 0), 2)
    levels = ct.levels_at_edges(smooth, edges, 9)
    assert levels == sorted(levels) and min(levels) > 20 and max(levels) <= 200
    assert np.median(levels) == pytest.approx(110, abs=20)
    assert ct.levels_at_edges(values, np.zeros((64, 64), np.float32), 9) == []


def test_choose_is_the_best_of_all_sets_that_are_nested_rightly() -> None:
    """A parent with two children: kept when it scores more than their mean, less what they do not
    cover."""
    outline = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.int32)
    nest = [
        ct.Region(outline, 100, 1.0),
        ct.Region(outline, 40, 1.0, 0),
        ct.Region(outline, 40, 1.0, 0),
    ]
    children = (0.9 * 40 + 0.5 * 40) / 80 * 0.8**ct.GAIN
    for own, expected in ((children + 0.01, [0]), (children - 0.01, [1, 2])):
        assert ct.choose(nest, np.array([own, 0.9, 0.5]), min_score=0.1) == expected
    # a bad child is no reason to join
    assert ct.choose(nest, np.array([0.8, 0.9, 0.05]), min_score=0.1) == [1]
    assert ct.choose(nest, np.array([0.05, 0.05, 0.05]), min_score=0.1) == []
    cut = [ct.Region(outline, 100, 0.7), *(ct.Region(outline, 49, 1.0, 0, True) for _ in range(2))]
    assert ct.choose(cut, np.array([0.3, 0.8, 0.7]), min_score=0.1) == [1, 2]


def test_regions_of_two_maps_are_listed_once() -> None:
    image = discs(20, 120)
    one = disc(*DISCS[1]).astype(np.int64)
    nearly = disc(DISCS[1][0], DISCS[1][1], DISCS[1][2] + 1).astype(np.int64)
    other = disc(*DISCS[0]).astype(np.int64) * 2
    assert len(scored([one, nearly], image, min_area=20, max_part=0.5)) == 1
    assert len(scored([one, nearly + other], image, min_area=20, max_part=0.5)) == 2
    assert scored([one], image, min_area=20, max_part=0.01) == []


def test_the_gradient_of_the_inpainting_error_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.random((24, 20, 3)), (0, 0), 1)
    mask = rng.uniform(0.2, 0.8, (24, 20))
    slope = inpainting_error(picture, mask)[1]
    for row, column in ((0, 0), (5, 7), (12, 10), (23, 19)):
        step = np.zeros_like(mask)
        step[row, column] = 1e-5
        change = (
            inpainting_error(picture, mask + step)[0] - inpainting_error(picture, mask - step)[0]
        )
        assert slope[row, column] == pytest.approx(change / 2e-5, rel=1e-4)


def test_inpainting_finds_one_object_off_the_middle() -> None:
    image = discs(40, 40)
    there = disc(58, 70, 26)
    image[there] = image[there] + 120
    found = PROPOSERS["iem"](image)
    assert best_iou(there, whole(found, image)[:1]) > 0.85


def test_controls_know_nothing_of_objects() -> None:
    """The ellipse is the image's, with half of its area; blobs depend on the content by their seed
    alone."""
    (ellipse,) = PROPOSERS["centre"](PHOTO[:60])
    assert ellipse.area == pytest.approx(60 * 96 / 2, rel=0.02)
    left, top, w, h = ellipse.box_xywh
    assert (2 * left + w, 2 * top + h) == (96, 60)
    other = PHOTO.copy()
    other[0, 0] ^= 1
    first, second = PROPOSERS["blobs"](PHOTO), PROPOSERS["blobs"](other)
    assert [b.box_xywh for b in first] != [b.box_xywh for b in second]
    areas = [b.area for b in first]
    assert max(areas) > 4 * min(areas)


def test_some_blobs_are_hollow_or_bitten() -> None:
    """Convex ones alone would teach that every object is: a hull then holds little more than the
    blob."""
    photo = compose_scene(0, 3, size=256).image
    filled, hollow = [], 0
    for blob in propose_blobs(photo, count=60, min_area=200):
        mask = np.pad(blob.mask.astype(np.uint8), 1)
        filled.append(blob.area / convex_hull_image(mask).sum())
        hollow += cv2.connectedComponents(1 - mask)[0] > 2
    assert 3 <= hollow <= 20 and np.quantile(filled, 0.8) > 0.9 and np.quantile(filled, 0.1) < 0.85


@pytest.mark.parametrize("size", [8, 40])
def test_blobs_of_few_pixels_may_be_bitten_to_nothing(size: int) -> None:
    for seed in range(60):
        noise = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
        assert all(b.area >= 1 for b in propose_blobs(noise, min_area=1))


@pytest.mark.parametrize("name", PROPOSERS)
@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (7, 200)])
def test_nothing_is_found_in_an_image_too_small_to_look_at(
    name: str, shape: tuple[int, int]
) -> None:
    assert (
        propose(name, np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)) == []
    )


@pytest.mark.parametrize("name", PROPOSERS)
def test_no_proposal_is_smaller_than_asked(name: str) -> None:
    small, large = (propose(name, PHOTO, min_area=n) for n in (6, 300))
    assert (
        len(small) >= len(large)
        and all(a.area >= 6 for a in small)
        and all(a.area >= 300 for a in large)
    )
