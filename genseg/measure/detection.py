"""Detections of a labelled set: as COCO's records, their scores, and COCO's table of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from pycocotools import mask as rle

from genseg.data.instances import CocoError, load_json
from genseg.data.labelled import LabelledImage, LabelledSet
from genseg.measure.coco import CocoScores, Records, coco_scores

MAX_DETS = 100


def detections(
    labelled: LabelledSet,
    number: int,
    *,
    boxes: Float[np.ndarray, "n 4"],
    classes: Int[np.ndarray, "n"],
    scores: Float[np.ndarray, "n"],
    masks: Sequence[Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """What was found in image `number`, as COCO's records with the json's category ids.

    boxes: left, top, right, bottom in pixels of the image; masks: compressed RLE of each
    """
    records = []
    for n, ((left, top, right, bottom), c, score) in enumerate(
        zip(boxes.tolist(), classes.tolist(), scores.tolist(), strict=True)
    ):
        record = {"image_id": number, "category_id": labelled.categories[c][0], "score": score}
        record["bbox"] = [left, top, right - left, bottom - top]
        if masks is not None:
            counts = masks[n]["counts"]
            text = counts.decode() if isinstance(counts, bytes) else counts
            record["segmentation"] = {"size": [int(v) for v in masks[n]["size"]], "counts": text}
        records.append(record)
    return records


def read_detections(path: Path, labelled: LabelledSet) -> Records:
    """COCO's json of results. Raises CocoError when it is none, or is not of this set's images and categories."""
    records = load_json(path)
    keys = {"image_id", "category_id", "score"}
    if not isinstance(records, list) or not all(isinstance(r, dict) and keys <= r.keys() for r in records):
        raise CocoError(f"{path} is no list of COCO results, each with image_id, category_id and score")
    numbers, ids = {image.number for image in labelled.images}, {number for number, _ in labelled.categories}
    for key, known, what in (("image_id", numbers, "images"), ("category_id", ids, "categories")):
        if wrong := [r[key] for r in records if r[key] not in known]:
            raise CocoError(f"{path}: {len(wrong)} of {len(records)} results have {key}s that none of the {what} of "
                            f"{labelled.source} has, the first is {wrong[0]}")  # fmt: skip
    return records


def detection_scores(
    labelled: LabelledSet,
    found: Records,
    *,
    masks: bool,
    max_dets: int = MAX_DETS,
    backend: str = "pycocotools",
) -> CocoScores:
    """COCO's numbers of `found`, over categories; `per_class` is by the json's ids.

    masks: compare masks, otherwise boxes, which are those of the json
    """
    truth: list[dict[str, Any]] = []
    for image in labelled.images:
        truth += _truth(image, labelled)
    images = [{"id": i.number, "height": i.height, "width": i.width} for i in labelled.images]
    return coco_scores(images, truth, found, masks=masks, per_category=True, max_dets=max_dets, backend=backend)


def _truth(image: LabelledImage, labelled: LabelledSet) -> list[dict[str, Any]]:
    boxes = (image.boxes if image.listed is None else image.listed).tolist()
    records: list[dict[str, Any]] = [
        {
            "image_id": image.number,
            "category_id": labelled.categories[c][0],
            "iscrowd": int(crowd),
            "bbox": [left, top, right - left, bottom - top],
        }
        for (left, top, right, bottom), c, crowd in zip(boxes, image.classes, image.crowd, strict=True)
    ]
    for n, record in enumerate(records):
        if image.masks is not None:
            record |= {"segmentation": image.masks[n], "area": float(rle.area(image.masks[n]))}
        if image.areas is not None:
            record["area"] = float(image.areas[n])
    return records


def coco_table(scores: CocoScores, categories: Sequence[tuple[int, str]], *, max_dets: int = MAX_DETS) -> str:
    """COCO's twelve numbers in percent, and AP, AP50 and AP75 of each category."""
    s = scores
    rows = [
        ("AP", s.ap), ("AP50", s.ap50), ("AP75", s.ap75), ("AP small", s.small), ("AP medium", s.medium),
        ("AP large", s.large), *((f"AR {n}", v) for n, v in s.recall.items() if n <= max_dets),
        ("AR small", s.recall_small), ("AR medium", s.recall_medium), ("AR large", s.recall_large),
    ]  # fmt: skip
    lines = [f"{name:10s} {_percent(value)}" for name, value in rows]
    named = [(name, s.per_class[number]) for number, name in categories if number in s.per_class]
    width = max((len(name) for name, _ in named), default=0)
    lines += [f"{'':{width}s}     AP  AP50  AP75"] if named else []
    lines += [f"{name:{width}s}  {_percent(c.ap)} {_percent(c.ap50)} {_percent(c.ap75)}" for name, c in named]
    return "\n".join(lines)


def _percent(value: float) -> str:
    return "    -" if value != value else f"{100 * value:5.1f}"
