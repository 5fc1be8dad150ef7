"""COCO scores: pycocotools' own numbers on random data, and its traps, each shown and avoided."""

import contextlib
import io
import math
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from genseg.data.instances.coco import annotation
from genseg.data.instances.instance import cut
from genseg.measure.coco import CocoScores, coco_scores

HEIGHT, WIDTH = 150, 160
ALL = pytest.approx(1, abs=1e-12)  # pycocotools adds an epsilon to the number of detections
ONE = [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}]


def blob(rng: np.random.Generator, box: np.ndarray) -> np.ndarray:
    left, top, w, h = box.astype(int)
    whole = np.zeros((HEIGHT, WIDTH), np.uint8)
    whole[top : top + h, left : left + w] = 255 * (
        rng.random(whole[top : top + h, left : left + w].shape) < 0.95
    )
    return whole


def random_set(
    seed: int,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Images, labels of all sizes with crowds, and detections near them, twice, and nowhere; three
    categories."""
    rng = np.random.default_rng(seed)
    images = [
        {"id": 10 * n + 3, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH}
        for n in range(8)
    ]
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image in images[:-1]:
        for n in range(rng.integers(0, 9)):
            box = np.array(
                [*rng.uniform(0, 100, 2), *rng.choice([15, 45, 110], 2) * rng.uniform(0.7, 1.3, 2)]
            )
            whole = blob(rng, box)
            label = annotation(
                cut(whole), number=len(truth) + 1, image=image["id"], height=HEIGHT, width=WIDTH
            )
            label |= {"category_id": int(rng.choice([2, 5, 9])), "iscrowd": int(n == 4)}
            truth.append(label)
            for _ in range(rng.integers(0, 4)):
                near = blob(rng, np.maximum(box + rng.normal(size=4) * box[2:].min() * 0.07, 1))
                found.append(
                    annotation(
                        cut(near),
                        number=len(found) + 1,
                        image=image["id"],
                        height=HEIGHT,
                        width=WIDTH,
                    )
                    | {
                        "category_id": label["category_id"] if rng.random() < 0.9 else 2,
                        "score": float(rng.random()),
                    }
                )
    return images, truth, found


@contextlib.contextmanager
def silence() -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def reference(
    images: list[dict[str, Any]],
    truth: list[dict[str, Any]],
    found: list[dict[str, Any]],
    *,
    kind: str,
    cats: bool,
) -> COCOeval:
    """pycocotools as its demo uses it."""
    with silence():
        labels = COCO()
        labels.dataset = {"images": images, "annotations": [dict(t) for t in truth]}
        labels.dataset["categories"] = [
            {"id": c} for c in sorted({t["category_id"] for t in truth})
        ]
        labels.createIndex()
        results = [
            {k: v for k, v in f.items() if k != ("bbox" if kind == "segm" else "segmentation")}
            for f in found
        ]
        evaluation = COCOeval(labels, labels.loadRes(results), kind)
        evaluation.params.useCats = int(cats)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def as_stats(s: CocoScores) -> list[float]:
    """In pycocotools' order; -1 where there is no label."""
    values = [
        s.ap,
        s.ap50,
        s.ap75,
        s.small,
        s.medium,
        s.large,
        s.recall[1],
        s.recall[10],
        s.recall[100],
    ]
    values += [s.recall_small, s.recall_medium, s.recall_large]
    return [-1 if math.isnan(v) else v for v in values]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("cats", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_numbers_are_those_of_pycocotools(seed: int, cats: bool, kind: str) -> None:
    images, truth, found = random_set(seed)
    expected = reference(images, truth, found, kind=kind, cats=cats).stats.tolist()
    got = coco_scores(images, truth, found, masks=kind == "segm", per_category=cats, max_dets=100)
    assert as_stats(got) == pytest.approx(expected, abs=1e-12)
    assert 0.05 < got.ap < 0.95 and len({round(v, 6) for v in expected}) > 5


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_numbers_of_a_category_are_those_of_its_records_alone(kind: str) -> None:
    images, truth, found = random_set(4)
    got = coco_scores(images, truth, found, masks=kind == "segm", per_category=True, max_dets=100)
    assert sorted(got.per_class) == [2, 5, 9]
    for number, scores in got.per_class.items():
        own = [[r for r in records if r["category_id"] == number] for records in (truth, found)]
        expected = reference(images, *own, kind=kind, cats=True).stats.tolist()
        assert as_stats(scores) == pytest.approx(expected, abs=1e-12)
        assert not scores.per_class
    assert got.ap == pytest.approx(np.mean([s.ap for s in got.per_class.values()]))


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(3))
def test_the_faster_backend_gives_the_same_numbers(seed: int, kind: str) -> None:
    pytest.importorskip("faster_coco_eval", reason="pip install 'genseg[fast]'")
    images, truth, found = random_set(seed)
    how = {"masks": kind == "segm", "per_category": True, "max_dets": 100}
    slow, fast = (
        coco_scores(images, truth, found, backend=b, **how) for b in ("pycocotools", "faster")
    )
    assert as_stats(fast) == pytest.approx(as_stats(slow), abs=1e-12)
    for number, scores in slow.per_class.items():
        assert as_stats(fast.per_class[number]) == pytest.approx(as_stats(scores), abs=1e-12)
    none = coco_scores(images, truth, [], backend="faster", **how)
    assert as_stats(none) == as_stats(coco_scores(images, truth, [], backend="pycocotools", **how))


def test_an_unknown_backend_is_told() -> None:
    with pytest.raises(ValueError, match="backend=fast: use one of pycocotools, faster"):
        coco_scores(ONE, [], [], masks=True, per_category=True, max_dets=100, backend="fast")


def labels_in_a_row(count: int) -> list[dict[str, Any]]:
    """Squares of 4 pixels, of category 1."""
    squares = []
    for n in range(count):
        whole = np.zeros((HEIGHT, WIDTH), np.uint8)
        top, left = 6 * (n // 25), 6 * (n % 25)
        whole[top : top + 4, left : left + 4] = 255
        squares.append(
            annotation(cut(whole, 1 - n / 1000), number=n + 1, image=1, height=HEIGHT, width=WIDTH)
        )
    return squares


@pytest.mark.parametrize("masks", [False, True])
def test_more_than_100_instances_an_image_need_more_detections(masks: bool) -> None:
    labels = labels_in_a_row(200)
    at_100 = coco_scores(ONE, labels, labels, masks=masks, per_category=False, max_dets=100)
    at_1000 = coco_scores(ONE, labels, labels, masks=masks, per_category=False, max_dets=1000)
    assert at_100.ap == pytest.approx(51 / 101)  # recall levels 0, 0.01 .. 0.5 are reached
    assert at_1000.ap == at_1000.ap50 == at_1000.small == ALL
    assert at_1000.recall == pytest.approx({1: 0.005, 10: 0.05, 100: 0.5, 1000: 1})
    few = coco_scores(ONE, labels, labels, masks=masks, per_category=False, max_dets=20)
    assert few.ap == pytest.approx(11 / 101) and few.recall[20] == 0.1


def test_trap_an_empty_result_list_raises_there() -> None:
    labels = labels_in_a_row(3)
    with pytest.raises(IndexError):
        reference(ONE, labels, [], kind="bbox", cats=True)
    got = coco_scores(ONE, labels, [], masks=True, per_category=True, max_dets=100)
    assert got.ap == got.ap50 == got.recall[100] == 0


def test_trap_annotation_id_0_loses_a_perfect_detection_there() -> None:
    labels = [labels_in_a_row(1)[0] | {"id": 0}]
    assert reference(ONE, labels, labels, kind="bbox", cats=True).stats[0] == 0
    assert coco_scores(ONE, labels, labels, masks=False, per_category=True, max_dets=100).ap == ALL


def test_trap_detections_without_100_among_them_give_minus_1_there() -> None:
    labels = labels_in_a_row(3)
    with silence():
        evaluation = reference(ONE, labels, labels, kind="bbox", cats=True)
        evaluation.params.maxDets = [1, 10, 1000]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == -1
    assert coco_scores(ONE, labels, labels, masks=False, per_category=True, max_dets=1000).ap == ALL


def test_trap_a_polygon_of_four_numbers_raises_there() -> None:
    line, triangle = [1.0, 1.0, 5.0, 5.0], [1.0, 1.0, 5.0, 5.0, 9.0, 1.0]
    first, second = labels_in_a_row(2)
    for polygons in ([line], [line, triangle]):
        with pytest.raises(TypeError):
            reference(ONE, [first | {"segmentation": polygons}], [first], kind="segm", cats=True)
    truth = [first, second | {"segmentation": [line]}]
    got = coco_scores(ONE, truth, [first, second], masks=True, per_category=False, max_dets=100)
    assert got.recall[100] == 0.5  # a label that nothing can match


def test_trap_a_result_with_a_box_is_sized_by_it_there() -> None:
    """A thin diagonal of 60 pixels in a box of 3600 is a small instance, and an unmatched one a
    small mistake."""
    thin = annotation(
        cut(np.eye(HEIGHT, WIDTH, dtype=np.uint8)[:60] * 255),
        number=1,
        image=1,
        height=60,
        width=WIDTH,
    )
    image = [ONE[0] | {"height": 60}]
    square = np.zeros((60, WIDTH), np.uint8)
    square[20:40, 100:120] = 255
    label = annotation(cut(square), number=1, image=1, height=60, width=WIDTH)
    found = [label | {"score": 0.5}, thin | {"score": 0.9}]
    with silence():
        labels = COCO()
        labels.dataset = {"images": image, "annotations": [dict(label)], "categories": [{"id": 1}]}
        labels.createIndex()
        evaluation = COCOeval(labels, labels.loadRes([dict(f) for f in found]), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    got = coco_scores(image, [label], found, masks=True, per_category=True, max_dets=100)
    assert evaluation.stats[3] == ALL and got.small == pytest.approx(0.5)


def test_a_crowd_is_ignored_not_counted() -> None:
    single, many, other = labels_in_a_row(3)
    truth = [single, many | {"iscrowd": 1}]
    for found in ([single], [single, many], [single, many, many]):
        found = [f | {"score": 1.0 - n / 10} for n, f in enumerate(reversed(found))]
        assert (
            coco_scores(ONE, truth, found, masks=True, per_category=False, max_dets=100).ap == ALL
        )
    wrong = [other | {"score": 1.0}, single | {"score": 0.5}]
    assert coco_scores(
        ONE, truth, wrong, masks=True, per_category=False, max_dets=100
    ).ap == pytest.approx(0.5)


def test_detections_of_another_category_count_only_when_all_are_one() -> None:
    labels = labels_in_a_row(2)
    found = [f | {"category_id": 77} for f in labels]
    assert coco_scores(ONE, labels, found, masks=False, per_category=False, max_dets=100).ap == ALL
    assert coco_scores(ONE, labels, found, masks=False, per_category=True, max_dets=100).ap == 0


def test_without_labels_nothing_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    for truth in ([], [labels_in_a_row(1)[0] | {"iscrowd": 1}]):
        for found in ([], labels_in_a_row(2)):
            for per_category in (False, True):
                got = coco_scores(
                    ONE, truth, found, masks=True, per_category=per_category, max_dets=100
                )
                assert math.isnan(got.ap) and math.isnan(got.recall[100])
    assert capsys.readouterr().out == ""
