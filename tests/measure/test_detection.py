"""Detections as records and back; scores of a labelled set against pycocotools on its json itself."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from coco_made import note, write_blobs, write_json
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from genseg.data.instances import CocoError
from genseg.data.labelled import LabelledSet, read_labelled
from genseg.measure.coco import CocoScores
from genseg.measure.detection import coco_table, detection_scores, detections, read_detections


def guessed(labelled: LabelledSet, seed: int) -> list[dict]:
    """Detections beside the labels, of which some are lost, some shifted and some of another class."""
    rng = np.random.default_rng(seed)
    records: list[dict] = []
    for image in labelled.images:
        masks = image.masks
        if masks is None:
            boxes = image.boxes + rng.normal(size=image.boxes.shape)
        else:
            whole = [np.roll(rle.decode(m), rng.integers(-2, 3, 2), (0, 1)) for m in masks]
            masks = tuple(rle.encode(np.asfortranarray(m)) for m in whole)
            boxes = np.array([rle.toBbox(m) for m in masks])
            boxes[:, 2:] += boxes[:, :2]
        classes = np.where(rng.random(len(boxes)) < 0.8, image.classes, (image.classes + 1) % len(labelled.categories))
        records += detections(
            labelled, image.number, boxes=boxes, classes=classes, scores=rng.random(len(boxes)), masks=masks
        )
    return [r for r in records if rng.random() < 0.8]


def reference(path: Path, found: list[dict], kind: str) -> list[float]:
    """pycocotools' own numbers, of the json as it is."""
    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO(str(path))
        results = [{k: v for k, v in f.items() if k != ("bbox" if kind == "segm" else "segmentation")} for f in found]
        evaluation = COCOeval(labels, labels.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


def as_stats(s: CocoScores) -> list[float]:
    values = [s.ap, s.ap50, s.ap75, s.small, s.medium, s.large, s.recall[1], s.recall[10], s.recall[100]]
    return [-1 if v != v else v for v in (*values, s.recall_small, s.recall_medium, s.recall_large)]


@pytest.mark.parametrize(("kind", "masks"), [("bbox", True), ("bbox", False), ("segm", True)])
def test_the_numbers_are_those_of_pycocotools_on_the_json(tmp_path: Path, kind: str, masks: bool) -> None:
    path = write_blobs(tmp_path, count=6, each=14, sizes=(150, 190))
    labelled, findings = read_labelled(path, masks=masks)
    assert {f.what for f in findings} == {"crowds"}
    found = guessed(labelled, 0)
    scores = detection_scores(labelled, found, masks=kind == "segm")
    assert as_stats(scores) == pytest.approx(reference(path, found, kind), abs=1e-12)
    assert 0.02 < scores.ap < 0.9 and sorted(scores.per_class) == [3, 7]


def test_detections_go_through_a_json_and_back(tmp_path: Path) -> None:
    labelled, _ = read_labelled(write_blobs(tmp_path), masks=True)
    found = guessed(labelled, 1)
    (tmp_path / "found.json").write_text(json.dumps(found))
    assert read_detections(tmp_path / "found.json", labelled) == found
    image = labelled.images[0]
    perfect = detections(
        labelled, image.number, boxes=image.boxes, classes=image.classes, scores=np.ones(len(image.boxes)),
        masks=image.masks,
    )  # fmt: skip
    assert {r["category_id"] for r in perfect} == {3, 7} and perfect[0]["image_id"] == 1
    one = labelled.subset([image.number])
    assert detection_scores(one, perfect, masks=True).ap == pytest.approx(1)
    assert detection_scores(one, [], masks=True).ap == 0


def test_the_area_of_the_json_decides_what_is_small(tmp_path: Path) -> None:
    """As pycocotools has it: COCO's boxes are sized by their masks."""
    path = write_json(tmp_path, [note(1, bbox=[0, 0, 35, 35], area=900)])
    labelled, _ = read_labelled(path, masks=False)
    found = detections(
        labelled, 1, boxes=np.array([[0, 0, 35.0, 35]]), classes=np.array([0]), scores=np.array([0.5])
    )  # fmt: skip
    scores = detection_scores(labelled, found, masks=False)
    assert scores.small == pytest.approx(1) and np.isnan(scores.medium)
    assert as_stats(scores) == pytest.approx(reference(path, found, "bbox"))


def test_the_table() -> None:
    half = CocoScores(0.5, 0.6, 0.7, float("nan"), 0.1, 0.2, {1: 0.3, 10: 0.4, 100: 0.5})
    whole = CocoScores(0.5, 0.6, 0.7, 0.0, 0.1, 1.0, {1: 0.3, 10: 0.4, 100: 0.5}, 0.8, 0.9, 1.0, {3: half})
    lines = coco_table(whole, ((3, "cat"), (7, "dog"))).splitlines()
    assert [line.split() for line in lines[:3]] == [["AP", "50.0"], ["AP50", "60.0"], ["AP75", "70.0"]]
    assert lines[6:9] == ["AR 1        30.0", "AR 10       40.0", "AR 100      50.0"] and "AR large   100.0" in lines
    assert lines[-1].split() == ["cat", "50.0", "60.0", "70.0"] and len(lines) == 14
    assert "AP small       -" in coco_table(half, ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": []}, "is no list of COCO results"),
        ([{"image_id": 1}], "is no list of COCO results, each with image_id, category_id and score"),
        ([{"image_id": 5, "category_id": 3, "score": 1}], "1 of 1 results have image_ids that none of the images of"),
        ([{"image_id": 1, "category_id": 4, "score": 1}], "have category_ids that none of the categories .* is 4"),
    ],
)
def test_results_of_something_else(tmp_path: Path, content: object, message: str) -> None:
    labelled, _ = read_labelled(write_blobs(tmp_path), masks=True)
    (tmp_path / "found.json").write_text(json.dumps(content))
    with pytest.raises(CocoError, match=message):
        read_detections(tmp_path / "found.json", labelled)


def test_boxes_are_scored_as_the_json_has_them_also_where_masks_are_known(tmp_path: Path) -> None:
    """COCO's boxes are those of polygons, in parts of a pixel; a mask's are whole pixels."""
    odd = [4.3, 5.4, 10.5, 10.2]
    labelled, _ = read_labelled(write_json(tmp_path, [note(1, bbox=odd)]), masks=True)
    record = {"image_id": 1, "category_id": 3, "score": 1.0, "bbox": odd}
    assert detection_scores(labelled, [record], masks=False).ap == pytest.approx(1)
    far = read_labelled(write_json(tmp_path, [note(1, bbox=[30, 20, 5, 5])]), masks=True)[0].images[0]
    assert far.listed is not None and far.listed.tolist() == far.boxes.tolist()  # the mask counts
