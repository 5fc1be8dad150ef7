"""Instances for QuPath, ImageJ, napari and YOLO: a folder with files for each image."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from genseg.core.files import replacing, write_text
from genseg.core.tables import Table, Value
from genseg.data.images.coco_files import CocoError
from genseg.data.instances.coco import file_key, named_after, named_after_each
from genseg.data.instances.geojson import Place, feature, tile_of
from genseg.data.instances.imagej import packed, region
from genseg.data.instances.instance import Instance
from genseg.data.instances.label_image import resolution_of, write_label_image
from genseg.data.instances.outline import one_ring, outlines
from genseg.data.labels.annotated import Usable, instance_of
from genseg.data.labels.entries import Entry
from genseg.data.labels.preflight import Label
from genseg.data.regions.georeference import OnMap, on_map
from genseg.measure.overlaps import partition
from genseg.measure.regions import shape_of
from genseg.show.draw import colour
from genseg.workflows.labels.found import categories_of

NAMES = "names"  # the offset of each image is in its name
Offset = tuple[float, float] | str | None


def parse_offset(text: str | None) -> Offset:
    """Of --offset: X,Y in pixels of the slide, or names. Raises ValueError for another word."""
    if text is None or text == NAMES:
        return text
    try:
        x, y = (float(v) for v in text.split(","))
    except ValueError:
        raise ValueError(f"--offset {text}: give X,Y in pixels of the slide, or {NAMES}") from None
    return x, y


def slide_and_place(name: str, offset: Offset) -> tuple[str, Place]:
    """What the file of an image is called, without an ending, and where it lies in its slide.

    Raises ValueError where it should be in the name, and is not.
    """
    if offset is None or not isinstance(offset, str):
        return "", Place(*(offset or (0, 0)))
    found = tile_of(name)
    if found is None:
        raise ValueError(
            f"--offset {NAMES}: {name} does not say where it lies; QuPath exports tiles as "
            "slide [x=512,y=1024,w=256,h=256].png"
        )
    return found


def place_of(path: Path, name: str, offset: Offset) -> tuple[str, Place | OnMap]:
    """`slide_and_place` of an image; without an offset its place on a map, where it has one. Raises
    ValueError, as `on_map` does."""
    if offset is None and (found := on_map(path)) is not None:
        return "", found
    return slide_and_place(name, offset)


def instances_in(found: Usable, entry: Entry) -> Iterator[tuple[Label, Instance]]:
    """The labels of an image with their masks."""
    return ((label, instance_of(label, entry)) for label in found.labels[entry.number])


def refuse_bare(found: Usable, what: str) -> None:
    """Raise CocoError for boxes without masks."""
    bare = (x for labels in found.labels.values() for x in labels if x.mask is None)
    if (label := next(bare, None)) is not None:
        raise CocoError(
            f"{found.source}: annotation {label.number} has no mask, and {what} hold masks alone"
        )


def to_geojson(found: Usable, out: Path, offset: Offset) -> int:
    """A .geojson for each image, or for each slide whose tiles they are, as QuPath imports it:
    detections with holes, class, score and shape. Without an offset, an image that lies on a map is
    in coordinates of the map, with its `crs`, as QGIS reads it."""
    names, classes = dict(categories_of(found)), [n for n, _ in categories_of(found)]
    plain = named_after_each([file_key(e.title) for e in found.entries.values()], ".geojson")
    files: dict[str, list[tuple[Entry, Place | OnMap]]] = {}
    for name, entry in zip(plain, found.entries.values(), strict=True):
        slide, place = place_of(entry.path, file_key(entry.name), offset)
        target = named_after(Path(slide), ".geojson") if slide else name
        files.setdefault(target, []).append((entry, place))
    written = 0
    for target, entries in files.items():
        features = [
            feature(
                place.outward(outlines(instance)),
                number=label.number,
                category=names[label.category],
                colour=colour(classes.index(label.category)),
                measurements=_measurements(label, instance, entry),
            )
            for entry, place in entries
            for label, instance in instances_in(found, entry)
        ]
        (out / target).parent.mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = {"type": "FeatureCollection", "features": features}
        if isinstance(on := entries[0][1], OnMap):
            content = {"type": "FeatureCollection", "crs": on.crs, "features": features}
        write_text(out / target, json.dumps(content))
        written += len(features)
    return written


def _measurements(label: Label, instance: Instance, entry: Entry) -> dict[str, float]:
    """Score and shape, as far as they are known, in pixels."""
    score = {} if label.record.get("score") is None else {"score": label.score}
    shape = shape_of(instance, entry.height, entry.width)
    told = ("centroid_x", "centroid_y", "touches_border")  # by the outline itself
    known = {k: v for k, v in shape.items() if v is not None and k not in told}
    return score | {k: round(float(v), 5) for k, v in known.items()}


def to_imagej(found: Usable, out: Path, offset: Offset) -> int:
    """A .zip for each image, as ImageJ's ROI manager opens it: regions, composite where there are
    holes or pieces, called by class and number."""
    names = dict(categories_of(found))
    files = named_after_each([file_key(e.title) for e in found.entries.values()], ".zip")
    written = 0
    for name, entry in zip(files, found.entries.values(), strict=True):
        regions = [
            region(outlines(i), number=label.number, category=names[label.category])
            for label, i in instances_in(found, entry)
        ]
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        with replacing(out / name) as file:
            file.write_bytes(packed(regions))
        written += len(regions)
    return written


def to_yolo(found: Usable, out: Path, offset: Offset) -> int:
    """Ultralytics' folder: data.yaml, labels/ with a segment for each instance (a box where there
    are boxes alone), images/ with links to the images that are there. Holes are kept by a cut."""
    classes = {number: n for n, (number, _) in enumerate(categories_of(found))}
    texts: dict[str, str] = {}
    written = 0
    for entry in found.entries.values():
        name = file_key(entry.name)
        text = named_after(Path(name).with_suffix(""), ".txt")
        if text in texts:
            raise CocoError(
                f"{found.source}: {texts[text]} and {name} have one label file in YOLO, {text}; "
                "rename one"
            )
        texts[text] = name
        lines = [
            " ".join([str(classes[label.category]), *_parts(label, i, entry)])
            for label, i in instances_in(found, entry)
        ]
        (out / "labels" / text).parent.mkdir(parents=True, exist_ok=True)
        write_text(out / "labels" / text, "".join(f"{line}\n" for line in lines))
        written += len(lines)
        _link(entry.path, out / "images" / PurePosixPath(text).with_suffix(Path(name).suffix))
    described = {"train": "images", "names": dict(enumerate(n for _, n in categories_of(found)))}
    write_text(out / "data.yaml", yaml.safe_dump(described, sort_keys=False, allow_unicode=True))
    return written


def _parts(label: Label, instance: Instance, entry: Entry) -> list[str]:
    """The numbers of a line, in parts of the image's sides."""
    sides = np.array((entry.width, entry.height))
    if label.mask is None:
        left, top, right, bottom = np.clip(np.array(label.box_xyxy) / np.tile(sides, 2), 0, 1)
        box = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
        return [f"{v:.7g}" for v in box]
    return [f"{v:.7g}" for v in (one_ring(outlines(instance)) / sides).ravel()]


def _link(image: Path, place: Path) -> None:
    """A link to an image, or a copy where the system has no links; nothing for a missing image and
    where something lies already."""
    if image.is_file() and not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            place.symlink_to(image.absolute())
        except OSError:
            with contextlib.suppress(FileExistsError):
                shutil.copyfile(image, place)


def to_napari(found: Usable, out: Path, offset: Offset) -> int:
    """A label image for each image, .tif of 16 bits, and its features, .csv: the value, id, class,
    score and shape of each instance that is seen."""
    refuse_bare(found, "label images")
    names, written = dict(categories_of(found)), 0
    files = named_after_each([file_key(e.title) for e in found.entries.values()], ".tif")
    for name, entry in zip(files, found.entries.values(), strict=True):
        pairs = sorted(instances_in(found, entry), key=lambda pair: -pair[1].score)
        numbers = partition([i for _, i in pairs], entry.height, entry.width)
        seen = set(np.unique(numbers[numbers > 0]).tolist())
        write_label_image(out / name, numbers, resolution_of(entry.path))
        with Table((out / name).with_suffix(".csv")) as table:
            for n, (label, instance) in enumerate(pairs, start=1):
                if n in seen:
                    table.add(_features(n, names, label, instance, entry))
        written += len(seen)
    return written


def _features(
    n: int, names: Mapping[int, str], label: Label, instance: Instance, entry: Entry
) -> dict[str, Value]:
    shape = shape_of(instance, entry.height, entry.width)
    known = {k: v for k, v in shape.items() if not k.endswith(("_um", "_um2"))}
    score = label.score if label.record.get("score") is not None else None
    return {
        "index": n,
        "id": label.number,
        "category": names[label.category],
        "score": score,
        **known,
    }


# each says how many instances it has written
FOLDERS: dict[str, Callable[[Usable, Path, Offset], int]] = {
    "geojson": to_geojson,
    "imagej": to_imagej,
    "napari": to_napari,
    "yolo": to_yolo,
}
