"""Proposals by cuts: two known objects, what scores and what is left out, and the whole with a
teacher."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from genseg.data.proposals import cut
from genseg.data.proposals.cut import (
    CANVAS,
    CROP,
    WHOLE,
    View,
    propose_cut,
    scored_segments,
    segments,
    views,
)
from genseg.data.proposals.propose import TAUGHT, check_teacher, propose
from genseg.nn.teacher import Teacher, load_teacher

# top, left, bottom, right in parts of the image's sides; the last touches its border
OBJECTS = ((0.1, 0.1, 0.45, 0.4), (0.5, 0.55, 0.9, 0.95))
SKY = (0.0, 0.0, 0.3, 1.0)


def pictured(boxes: tuple[tuple[float, float, float, float], ...], size: int) -> np.ndarray:
    """A label of each pixel: 0, or the number of the last box that holds it."""
    labels = np.zeros((size, size), int)
    for n, box in enumerate(boxes, start=1):
        top, left, bottom, right = (round(size * x) for x in box)
        labels[top:bottom, left:right] = n
    return labels


def seen(boxes: tuple[tuple[float, float, float, float], ...]) -> list[View]:
    """Views of features that have a direction for each label, with noise."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(8, 8)))[0]

    def view(places: int, top: float, left: float, side: float) -> View:
        at = (np.arange(places) + 0.5) / places * side
        rows, columns = ((at + first) * 960 for first in (top, left))
        labels = pictured(boxes, 960)[np.ix_(rows.astype(int), columns.astype(int))]
        found = directions[labels] + 0.05 * rng.normal(size=(places, places, 8))
        return View(np.moveaxis(found, -1, 0).astype(np.float32), top, left, side)

    whole = [view(places, 0, 0, 1) for places in WHOLE]
    return whole + [view(CROP, top, left, 0.6) for top in (0.0, 0.4) for left in (0.0, 0.4)]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def test_two_known_objects_are_the_two_best() -> None:
    found = scored_segments(segments(seen(OBJECTS)))
    labels = pictured(OBJECTS, CANVAS)
    for n in (1, 2):
        assert max(iou(mask, labels == n) for mask, _ in found[:2]) > 0.8
    assert found[1][1] > 0.6
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True) and all(0 <= s <= 1 for s in scores)
    for i, (mask, _) in enumerate(found):  # no doubles
        assert all(iou(mask, other) < 0.5 for other, _ in found[:i])


def test_the_sky_is_no_object() -> None:
    found = scored_segments(segments(seen((SKY, OBJECTS[1]))))
    sky, thing = (pictured((SKY, OBJECTS[1]), CANVAS) == n for n in (1, 2))
    assert iou(found[0][0], thing) > 0.8
    assert not any(iou(mask, sky) > 0.5 for mask, _ in found)


def test_what_a_crop_cuts_off_is_left_out() -> None:
    """An object of half the image, of which each crop sees a part."""
    large = ((0.2, 0.2, 0.8, 0.8),)
    found = segments(seen(large))
    assert any(s.cut_off for s in found) and not any(s.cut_off for s in found if s.view < 2)
    masks = scored_segments(found)
    assert iou(masks[0][0], pictured(large, CANVAS) == 1) > 0.8


def test_the_score_is_that_of_a_naive_loop() -> None:
    found = segments(seen(OBJECTS))
    for mask, score in scored_segments(found):
        (own, *_) = [s for s in found if s.mask is mask]
        agreed = 0.0
        for threshold in {s.threshold for s in found}:
            mine = [s for s in found if s.threshold == threshold]
            for scale in (0, 1):
                agreed += max((iou(mask, s.mask) for s in mine if s.view == scale), default=0) / 2
            agreed += max((iou(mask, s.mask) for s in mine if s.view > 1), default=0) / 2
        rim = [mask[y, x] for y in range(CANVAS) for x in range(CANVAS) if {y, x} & {0, CANVAS - 1}]
        wanted = agreed / 4.5 * (1 - own.value / 2) * (1 - np.mean(rim))
        assert score == pytest.approx(wanted, abs=1e-5)


def test_nothing_to_cut_is_no_proposal() -> None:
    assert scored_segments(segments(seen(()))) == []


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("teacher") / "vit.safetensors"
    save_file(timm.create_model("test_convnext", pretrained=False).state_dict(), file)
    return load_teacher(str(file), name="test_convnext")


def test_views_are_the_image_and_its_corners(
    teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cut, "WHOLE", (4, 2))
    monkeypatch.setattr(cut, "CROP", 3)
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    found = views(image, teacher)
    sizes = [v.features.shape[1] for v in found]
    assert sizes == [4, 2, 3, 3, 3, 3]
    places = [(v.top, v.left, v.side) for v in found[2:]]
    assert places == [(t, s, 0.6) for t in (0, 0.4) for s in (0, 0.4)]


def test_an_image_is_looked_at_and_the_same_twice(
    teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cut, "WHOLE", (12, 8))  # fewer places take less time
    monkeypatch.setattr(cut, "CROP", 8)
    y, x = np.mgrid[:72, :96]
    disc = (y - 34) ** 2 + (x - 50) ** 2 < 20**2
    noise = np.random.default_rng(0).integers(0, 60, (72, 96, 3))
    image = np.where(disc[..., None], noise + 180, noise // 3).astype(np.uint8)
    found, again = (propose("cut", image, teacher=teacher) for _ in range(2))
    assert [i.score for i in found] == [i.score for i in again]
    for a, b in zip(found, again, strict=True):
        assert np.array_equal(a.alpha, b.alpha) and (a.top, a.left) == (b.top, b.left)
        assert 20 <= a.area <= 0.8 * image[..., 0].size
    assert found and all(a.score >= b.score for a, b in zip(found, found[1:], strict=False))
    small = sum(i.area >= 400 for i in found)
    assert len(propose_cut(image, teacher, min_area=400)) == small


def test_one_colour_has_none_and_tiny_images_neither(teacher: Teacher) -> None:
    assert propose("cut", np.full((40, 50, 3), 77, np.uint8), teacher=teacher) == []
    assert propose("cut", np.zeros((5, 50, 3), np.uint8), teacher=teacher) == []


def test_a_teacher_goes_with_cut_alone() -> None:
    assert list(TAUGHT) == ["cut"]
    with pytest.raises(ValueError, match=r"cut proposes by what a frozen teacher sees.*--teacher"):
        check_teacher("cut", None, key="--teacher")
    with pytest.raises(ValueError, match=r"alpha.teacher: tree asks no teacher.*cut"):
        check_teacher("tree", "vit.safetensors", key="alpha.teacher")
    check_teacher("cut", "vit.safetensors", key="--teacher")
    check_teacher("tree", None, key="--teacher")
