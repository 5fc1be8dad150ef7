"""A labelled set: the images of a COCO json with boxes, classes and masks that are fit for training
and scoring."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from genseg.core.reading import Reading, current
from genseg.data.images.coco_files import CocoError
from genseg.data.instances.coco import read_json
from genseg.data.labels.categories import Categories, matched, read_categories
from genseg.data.labels.entries import Entry, as_number, usable_images
from genseg.data.labels.findings import Findings, Tally
from genseg.data.labels.preflight import Label, none_usable, usable_labels


@dataclass(frozen=True)
class LabelledImage:
    """An image and its n labels.

    number: the json's image id
    boxes_xyxy: left, top, right, bottom in pixels: of the masks where the set has them, else those
        of the json
    classes: index into the categories of the set
    crowd: a region that holds many: no training target, and ignored in scoring
    masks: COCO's compressed RLE of each; None when the set has boxes alone
    semantic: a PNG of class indices, for sets that have no instances
    listed: the boxes as the json has them, which COCO scores (None: `boxes_xyxy`)
    areas: in pixels, by which COCO's scores are small, medium or large: the json's (None: those of
        masks or boxes)
    page: which image of its file, from 1; 0: the only one
    reading: how its file is read
    """

    path: Path
    name: str
    number: int
    height: int
    width: int
    kind: str
    boxes_xyxy: Float[np.ndarray, "n 4"]
    classes: Int[np.ndarray, "n"]
    crowd: Bool[np.ndarray, "n"]
    masks: tuple[dict[str, Any], ...] | None
    semantic: Path | None = None
    areas: Float[np.ndarray, "n"] | None = None
    listed: Float[np.ndarray, "n 4"] | None = None
    page: int = 0
    reading: Reading = Reading()


@dataclass(frozen=True)
class LabelledSet:
    """Labelled images; a class is an index into `categories`, which are the json's ids and
    names."""

    source: Path
    categories: Categories
    images: tuple[LabelledImage, ...]

    @property
    def outlined(self) -> bool:
        """Whether the masks are known."""
        return all(image.masks is not None for image in self.images)

    def subset(self, numbers: Sequence[int]) -> "LabelledSet":
        """The images with these ids, in this order. Raises CocoError for an id that the set has
        not."""
        known = {image.number: image for image in self.images}
        if missing := [n for n in numbers if n not in known]:
            raise CocoError(
                f"{self.source}: it has no usable image {missing[0]}; {len(missing)} of "
                f"{len(numbers)} ids are unknown"
            )
        return replace(self, images=tuple(known[n] for n in numbers))


def read_labelled(
    path: Path, *, categories: Categories | None = None, masks: bool
) -> tuple[LabelledSet, Findings]:
    """The usable part of a COCO json, and what was found wrong with the rest.

    categories: those of the training split: a class is one of these, found by its name. The set
        then has their order, with the ids that this json gives to the names. None: the json's own,
        in the order of their ids
    masks: read masks; then an annotation without one is left out. False: boxes alone

    Raises CocoError when nothing can be used: see genseg.data.labels.preflight for all that can be
    found.
    """
    content = read_json(path)
    tally = Tally()
    own = tuple(sorted(read_categories(content, path, tally)))
    if categories is None:
        categories, classes = own, {number: n for n, (number, _) in enumerate(own)}
    else:
        categories, classes = matched(own, categories, path)
    annotations = content["annotations"]
    if masks and annotations and not any(a.get("segmentation") for a in annotations):
        raise CocoError(
            f"{path}: none of its {len(annotations)} annotations has a segmentation; train a "
            "detector of boxes on it, or give it masks"
        )
    entries = usable_images(content["images"], path, tally)
    listed = {as_number(image["id"]) for image in content["images"]}
    labels = usable_labels(annotations, entries, listed, classes, tally, masks=masks)
    if not any(not label.crowd for found in labels.values() for label in found):
        raise none_usable(path, annotations, labels, tally)
    images = tuple(_image(entry, labels[number], masks=masks) for number, entry in entries.items())
    return LabelledSet(path, categories, images), tally.findings()


def _image(entry: Entry, labels: Sequence[Label], *, masks: bool) -> LabelledImage:
    return LabelledImage(
        path=entry.path,
        name=entry.name,
        number=entry.number,
        height=entry.height,
        width=entry.width,
        kind=entry.kind,
        boxes_xyxy=np.array([label.box_xyxy for label in labels], float).reshape(-1, 4),
        classes=np.array([label.category for label in labels], np.int64),
        crowd=np.array([label.crowd for label in labels], bool),
        areas=np.array([label.area for label in labels], float),
        listed=np.array([label.listed for label in labels], float).reshape(-1, 4),
        masks=tuple(label.mask for label in labels if label.mask is not None) if masks else None,
        page=entry.page,
        reading=current(),
    )
