"""Scores of a labelled set against pycocotools on its json itself."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from coco_made import note, write_blobs, write_json
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from genseg.data.labels.labelled_set import LabelledSet, read_labelled
from genseg.measure.coco import CocoScores
from genseg.measure.detection import detection_scores


def guessed(labelled: LabelledSet, seed: int) -> list[dict]:
    """Detections beside the labels, of which some are lost, some shifted and some of another
    class."""
    rng = np.random.default_rng(seed)
    records: list[dict] = []
    for image in labelled.images:
        masks = image.masks
        if masks is None:
            boxes = image.boxes_xyxy + rng.normal(size=image.boxes_xyxy.shape)
        else:
            whole = [np.roll(rle.decode(m), rng.integers(-2, 3, 2), (0, 1)) for m in masks]
            masks = tuple(rle.encode(np.asfortranarray(m)) for m in whole)
            boxes = np.array([rle.toBbox(m) for m in masks])
            boxes[:, 2:] += boxes[:, :2]
        classes = np.where(
            rng.random(len(boxes)) < 0.8,
            image.classes,
            (image.classes + 1) % len(labelled.categories),
        )
        for n, ((left, top, right, bottom), c) in enumerate(
            zip(boxes.tolist(), classes.tolist(), strict=True)
        ):
            bbox, number = [left, top, right - left, bottom - top], labelled.categories[c][0]
            record = {
                "image_id": image.number,
                "category_id": number,
                "score": rng.random(),
                "bbox": bbox,
            }
            if masks is not None:
                record["segmentation"] = {**masks[n], "counts": masks[n]["counts"].decode()}
            records.append(record)
    return [r for r in records if rng.random() < 0.8]


def reference(path: Path, found: list[dict], kind: str) -> list[float]:
    """pycocotools' own numbers, of the json as it is."""
    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO(str(path))
        results = [
            {k: v for k, v in f.items() if k != ("bbox" if kind == "segm" else "segmentation")}
            for f in found
        ]
        evaluation = COCOeval(labels, labels.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


def as_stats(s: CocoScores) -> list[float]:
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
    return [-1 if v != v else v for v in (*values, s.recall_small, s.recall_medium, s.recall_large)]


@pytest.mark.parametrize(("kind", "masks"), [("bbox", True), ("bbox", False), ("segm", True)])
def test_the_numbers_are_those_of_pycocotools_on_the_json(
    tmp_path: Path, kind: str, masks: bool
) -> None:
    path = write_blobs(tmp_path, count=6, each=14, sizes=(150, 190))
    labelled, findings = read_labelled(path, masks=masks)
    assert {f.what for f in findings} == {"crowds"}
    found = guessed(labelled, 0)
    scores = detection_scores(labelled, found, masks=kind == "segm")
    assert as_stats(scores) == pytest.approx(reference(path, found, kind), abs=1e-12)
    assert 0.02 < scores.ap < 0.9 and sorted(scores.per_class) == [3, 7]


def test_the_labels_themselves_are_perfect_and_nothing_scores_0(tmp_path: Path) -> None:
    labelled, _ = read_labelled(write_blobs(tmp_path), masks=True)
    image = labelled.images[0]
    one, perfect = (
        labelled.subset([image.number]),
        [
            {
                "image_id": image.number,
                "category_id": labelled.categories[c][0],
                "score": 1.0,
                "segmentation": mask,
            }
            for c, mask in zip(image.classes, image.masks or (), strict=True)
        ],
    )
    assert {r["category_id"] for r in perfect} == {3, 7}
    assert detection_scores(one, perfect, masks=True).ap == pytest.approx(1)
    assert detection_scores(one, [], masks=True).ap == 0


def test_the_area_of_the_json_decides_what_is_small(tmp_path: Path) -> None:
    """As pycocotools has it: COCO's boxes are sized by their masks."""
    path = write_json(tmp_path, [note(1, bbox=[0, 0, 35, 35], area=900)])
    labelled, _ = read_labelled(path, masks=False)
    found = [{"image_id": 1, "category_id": 3, "score": 0.5, "bbox": [0.0, 0, 35, 35]}]
    scores = detection_scores(labelled, found, masks=False)
    assert scores.small == pytest.approx(1) and np.isnan(scores.medium)
    assert as_stats(scores) == pytest.approx(reference(path, found, "bbox"))


def test_boxes_are_scored_as_the_json_has_them_also_where_masks_are_known(tmp_path: Path) -> None:
    """COCO's boxes are those of polygons, in parts of a pixel; a mask's are whole pixels."""
    odd = [4.3, 5.4, 10.5, 10.2]
    labelled, _ = read_labelled(write_json(tmp_path, [note(1, bbox=odd)]), masks=True)
    record = {"image_id": 1, "category_id": 3, "score": 1.0, "bbox": odd}
    assert detection_scores(labelled, [record], masks=False).ap == pytest.approx(1)
    far = read_labelled(write_json(tmp_path, [note(1, bbox=[30, 20, 5, 5])]), masks=True)[0].images[
        0
    ]
    assert (
        far.listed is not None and far.listed.tolist() == far.boxes_xyxy.tolist()
    )  # the mask counts
