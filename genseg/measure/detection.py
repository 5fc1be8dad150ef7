"""COCO's scores of what was found in a labelled set."""

from typing import Any

from pycocotools import mask as rle

from genseg.data.labels.labelled_set import LabelledImage, LabelledSet
from genseg.measure.coco import CocoScores, Records, coco_scores

MAX_DETS = 100


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
    return coco_scores(
        images, truth, found, masks=masks, per_category=True, max_dets=max_dets, backend=backend
    )


def _truth(image: LabelledImage, labelled: LabelledSet) -> list[dict[str, Any]]:
    boxes = (image.boxes_xyxy if image.listed is None else image.listed).tolist()
    records: list[dict[str, Any]] = [
        {
            "image_id": image.number,
            "category_id": labelled.categories[c][0],
            "iscrowd": int(crowd),
            "bbox": [left, top, right - left, bottom - top],
        }
        for (left, top, right, bottom), c, crowd in zip(
            boxes, image.classes, image.crowd, strict=True
        )
    ]
    for n, record in enumerate(records):
        if image.masks is not None:
            record |= {"segmentation": image.masks[n], "area": float(rle.area(image.masks[n]))}
        if image.areas is not None:
            record["area"] = float(image.areas[n])
    return records
