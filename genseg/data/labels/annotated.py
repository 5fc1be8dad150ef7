"""What a COCO json holds that can be used, for all commands that do not train; `labelled` is for
those that do."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from genseg.data.images.coco_files import CocoError
from genseg.data.instances.coco import AnnotatedImage, read_json
from genseg.data.instances.instance import Instance, filled
from genseg.data.instances.run_length import windowed
from genseg.data.labels.categories import Categories, read_categories
from genseg.data.labels.entries import Entry, as_number, by_header, by_json, usable_images
from genseg.data.labels.findings import Findings, Tally, counted
from genseg.data.labels.preflight import Label, none_usable, usable_labels


@dataclass(frozen=True)
class Usable:
    """The part of a COCO json that can be used, and what was found wrong with the rest.

    categories: None where the json has none: then annotations of all are taken
    listed: ids of all images of the json
    outlined: it has masks, of which each label has one; if not, boxes alone
    """

    source: Path
    categories: Categories | None
    entries: dict[int, Entry]
    labels: dict[int, list[Label]]
    listed: set[int]
    outlined: bool
    findings: Findings

    @property
    def lost(self) -> Findings:
        """The findings by which images or labels are left out."""
        return tuple(f for f in self.findings if f.lost)

    def images(self) -> list[AnnotatedImage]:
        """The images with their instances, whose category is its place in `categories`."""
        places = {number: place for place, (number, _) in enumerate(self.categories or ())}
        return [
            _annotated(e, self.labels[n], places, outlined=self.outlined)
            for n, e in self.entries.items()
        ]


def read_usable(
    path: Path,
    *,
    folders: Sequence[Path] | None = None,
    size: Callable[[Entry], tuple[int, int]] = by_header,
) -> Usable:
    """What can be used of a COCO json; folders, size: as for `usable_images`. Raises CocoError when
    it is no COCO json, or none of its images or annotations can be used; a json without annotations
    is one."""
    content = read_json(path)
    tally = Tally()
    entries = usable_images(content["images"], path, tally, folders=folders, size=size)
    categories = read_categories(content, path, tally) if content.get("categories") else None
    classes = None if categories is None else {number: number for number, _ in categories}
    annotations = content["annotations"]
    outlined = _is_outlined(annotations)
    listed = {as_number(image["id"]) for image in content["images"]}
    labels = usable_labels(annotations, entries, listed, classes, tally, masks=outlined)
    if annotations and not any(labels.values()):
        raise none_usable(path, annotations, labels, tally)
    return Usable(path, categories, entries, labels, listed, outlined, tally.findings())


def read_scored(
    images: Sequence[Any],
    annotations: Sequence[Mapping[str, Any]],
    source: Path,
    *,
    listed: Set[int] = frozenset(),
) -> list[AnnotatedImage]:
    """Predictions for `images` as they are: scores measure them all, pages show them. `source` is
    their file.

    listed: ids of further images, whose predictions are passed over

    Raises CocoError when an image or an annotation cannot be used.
    """
    tally = Tally()
    entries = usable_images(images, source, tally, size=by_json) if images else {}
    outlined = _is_outlined(annotations)
    labels = usable_labels(
        annotations, entries, {*entries, *listed}, None, tally, masks=outlined, scored=True
    )
    if lost := tuple(f for f in tally.findings() if f.lost):
        raise CocoError(
            f"{source}: {counted(lost)}; predictions are taken as they are: mend these, or take "
            "them out"
        )
    return [_annotated(e, labels[n], {}, outlined=outlined) for n, e in entries.items()]


def _is_outlined(annotations: Sequence[Mapping[str, Any]]) -> bool:
    """Whether annotations are masks, not boxes alone; without any, nothing contradicts it."""
    return not annotations or any(a.get("segmentation") for a in annotations)


def _annotated(
    entry: Entry, labels: Sequence[Label], places: Mapping[int, int], *, outlined: bool
) -> AnnotatedImage:
    listed = [label.listed for label in labels]
    return AnnotatedImage(
        name=entry.name,
        page=entry.page,
        height=entry.height,
        width=entry.width,
        instances=tuple(
            replace(instance_of(a, entry), category=places.get(a.category, 0)) for a in labels
        ),
        numbers=tuple(label.number for label in labels),
        boxes_xywh=np.array([(a, b, c - a, d - b) for a, b, c, d in listed], float).reshape(-1, 4),
        areas=np.array([label.area for label in labels], float),
        crowd=np.array([label.crowd for label in labels], bool),
        outlined=outlined,
        kind=entry.kind,
    )


def instance_of(label: Label, entry: Entry) -> Instance:
    """The mask of a label, or all of its box where it has none."""
    if label.mask is not None:
        return replace(windowed(label.mask), score=label.score)
    return filled(label.listed, entry.height, entry.width, label.score)
