"""Hand instances over to labelling tools, in the form that each imports."""

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np

from genseg.core.check import between
from genseg.core.files import write_text
from genseg.core.words import amount
from genseg.data.images.coco_files import YAML
from genseg.data.images.decode import TIFFS
from genseg.data.instances.coco import file_key, named_after_each
from genseg.data.instances.label_image import resolution_of, write_label_image
from genseg.data.instances.label_studio import encode_brush
from genseg.data.instances.run_length import is_polygon, polygons
from genseg.data.labels.annotated import Usable, instance_of, read_usable
from genseg.data.labels.entries import Entry, by_header, by_json
from genseg.data.labels.findings import format_findings
from genseg.data.labels.preflight import Box, Label
from genseg.data.regions.georeference import on_map
from genseg.measure.overlaps import partition
from genseg.workflows.labels.found import categories_of, looked_at, refuse_semantic
from genseg.workflows.labels.from_tools import from_tool, kind_of_export
from genseg.workflows.labels.result import Converted
from genseg.workflows.labels.to_coco import from_label_images, from_yolo
from genseg.workflows.labels.to_tools import FOLDERS, Offset, parse_offset, refuse_bare

# Label Studio's URL of files below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT
LOCAL_FILES = "/data/local-files/?d="
# Label Studio takes what follows as it is, and nothing for quoted
BUCKETS = ("s3://", "gs://", "azure-blob://")
INSIDE = "annotations/instances_default.json"  # where CVAT's importer looks in a zip
Content = Mapping[str, Any]


def convert(
    file: Path,
    tool: str,
    out: Path,
    *,
    score: float = 0.0,
    images: str | None = None,
    offset: str | None = None,
) -> Converted:
    """Write the instances of a COCO json for `tool`, and say what was written; for coco, those of
    `file`, what a tool has exported: label images, YOLO, GeoJSON, ImageJ's regions, CVAT's and
    Label Studio's.

    score: instances that score less are left out
    images: goes before each file name (FiftyOne: a folder; Label Studio: a URL); of coco, the
        images, or the json whose ids they keep
    offset: of geojson, where the images lie in a slide: X,Y, or names

    Raises CocoError or ValueError for what a user can mend.
    """
    between(0, 1, score=score)
    place, yolo = parse_offset(offset), file.suffix.lower() in YAML
    _refuse(file, tool, out, score=score, images=images, place=place)
    if tool == "coco" and yolo:
        return from_yolo(file, out)
    if tool == "coco":
        if images is None:
            raise ValueError(
                f"{file}: coco is made of a folder of label images, or of what a labelling tool "
                "has exported; give that, and --images FOLDER; or of YOLO's data.yaml"
            )
        if kind_of_export(file) == "labels":
            return from_label_images(file, images, out)
        return from_tool(file, images, out, offset=place)
    taken = images is not None and tool in ("fiftyone", "labels", *FOLDERS)
    where = Path(str(images)) if taken else looked_at(file) if tool == "geojson" else None
    folders = None if where is None else [where, where / "images"]
    found = read_usable(file, folders=folders, size=by_json if tool in FOLDERS else by_header)
    refuse_semantic(found)
    kept = {
        n: [label for label in labels if label.score >= score] for n, labels in found.labels.items()
    }
    found = replace(found, labels=kept)
    if tool in FOLDERS:
        written = FOLDERS[tool](found, out, place)
    else:
        written = TOOLS[tool](found, out, images)
    said = _said(written, kept, found, out, tool)
    maps = _maps_of(found) if tool == "geojson" and place is None else []
    return replace(said, lines=(*said.lines, *maps))


def _maps_of(found: Usable) -> list[str]:
    """In which coordinates polygons are, where some are those of a map, or may be."""
    places = [on_map(e.path) for e in found.entries.values()]
    known = sorted({f"EPSG:{p.epsg}" for p in places if p is not None})
    lines = [f"in coordinates of {', '.join(known)}"] if known else []
    tiffs = [e for e in found.entries.values() if Path(e.name).suffix.lower() in TIFFS]
    if missing := sum(not e.path.is_file() for e in tiffs):
        lines.append(
            f"note: {amount(missing, 'TIFF')} not found, so polygons are in pixels; where they lie "
            "on a map, give their folder by --images"
        )
    return lines


def _refuse(
    file: Path, tool: str, out: Path, *, score: float, images: str | None, place: Offset
) -> None:
    """Raise ValueError for options that do not fit."""
    yolo = file.suffix.lower() in YAML
    if images is not None and (tool == "cvat" or yolo):
        raise ValueError(
            f"--images {images} is not for {'YOLO' if yolo else tool}, which knows images by "
            "their names; leave it out"
        )
    if score and tool == "coco":
        raise ValueError(
            "--score is for instances that were found; label images have no scores: leave it out"
        )
    if place is not None and tool not in ("geojson", "coco"):
        raise ValueError(f"--offset is for geojson, whose coordinates may be a slide's; not {tool}")
    folder = tool == "labels" or tool in FOLDERS
    wanted = "" if folder else {"cvat": ".zip"}.get(tool, ".json")
    if out.suffix.lower() != wanted:
        raise ValueError(
            f"--out {out}: "
            + (f"what {tool} imports ends in {wanted}" if wanted else "name a folder")
        )


def _said(
    written: int, kept: Mapping[int, Sequence[Label]], found: Usable, out: Path, tool: str
) -> Converted:
    """What was written, and what was not."""
    total = sum(len(labels) for labels in kept.values())
    crowds = sum(label.crowd for labels in kept.values() for label in labels)
    lines = [f"{out}: {amount(written, 'instance')} in {amount(len(kept), 'image')}, for {tool}"]
    if crowds:
        lines.append(f"{amount(crowds, 'crowd')} among them, each written as one instance")
    if written < total:
        lines.append(
            f"{amount(total - written, 'instance')} wholly under others of a better score: left out"
        )
    return Converted((out,), (*lines, *filter(None, [format_findings(found.lost)])))


def _coco(found: Usable, annotations: Sequence[Content], names: Sequence[str]) -> str:
    """A COCO json of the images, which are called `names` there."""
    images = [
        {**e.record, "id": e.number, "file_name": name, "height": e.height, "width": e.width}
        for e, name in zip(found.entries.values(), names, strict=True)
    ]
    categories = [{"id": number, "name": name} for number, name in categories_of(found)]
    return json.dumps(
        {
            "info": {},
            "licenses": [],
            "images": images,
            "annotations": annotations,
            "categories": categories,
        }
    )


def _size_of(box: Box) -> list[float]:
    """Left, top, width and height of a box."""
    left, top, right, bottom = box
    return [left, top, right - left, bottom - top]


def to_cvat(found: Usable, out: Path, images: str | None) -> int:
    """COCO 1.0 in a zip: polygons, which CVAT can edit, or boxes; it takes an RLE for a crowd.
    Holes are lost."""
    made = []
    for entry, label in _pairs(found):
        shapes, box, area = list[list[float]](), _size_of(label.listed), label.area
        if label.mask is not None:
            instance = instance_of(label, entry)
            shapes, box, area = polygons(instance), list(instance.box_xywh), instance.area
        made.append(
            {
                "id": label.number,
                "image_id": entry.number,
                "category_id": label.category,
                "iscrowd": 0,
                "area": area,
                "bbox": box,
                "segmentation": shapes,
                "attributes": {"score": label.score, "id": str(label.number)},
            }
        )
    names = [file_key(e.title) for e in found.entries.values()]  # CVAT knows them by these
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(INSIDE, _coco(found, made, names))
    return len(made)


def to_fiftyone(found: Usable, out: Path, images: str | None) -> int:
    """COCO with masks as they are and scores, as FiftyOne's COCODetectionDataset reads it; absolute
    file names need no data_path."""
    root = None if images is None else Path(images).absolute()
    made = []
    for entry, label in _pairs(found):
        usable = {
            "id": label.number,
            "image_id": entry.number,
            "category_id": label.category,
            "iscrowd": int(label.crowd),
            "bbox": _size_of(label.listed),
            "area": label.area,
        }
        shapes = label.record.get("segmentation")
        if label.mask is not None and isinstance(shapes, list):
            usable["segmentation"] = [p for p in shapes if is_polygon(p, entry.height, entry.width)]
        scored = {} if label.record.get("score") is None else {"score": label.score}
        made.append({k: v for k, v in label.record.items() if k != "score"} | usable | scored)
    names = [e.name if root is None else str(_in(root, e.name)) for e in found.entries.values()]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, _coco(found, made, names))
    return len(made)


def _pairs(found: Usable) -> Iterator[tuple[Entry, Label]]:
    """Each label with its image."""
    return ((found.entries[n], label) for n, labels in found.labels.items() for label in labels)


def _in(root: Path, name: str) -> Path:
    """Where an image of a json lies: below the folder, or below images/ in it."""
    places = (root / name, root / "images" / name, root / file_key(name))
    return next((p for p in places if p.is_file()), places[0])


def _url(name: str, before: str) -> str:
    """A file name as the rest of a URL; undecodable bytes of it come back as they were."""
    path = str(PurePosixPath(name))
    return path if before.startswith(BUCKETS) else quote(path, errors="surrogateescape")


def to_labelstudio(found: Usable, out: Path, images: str | None) -> int:
    """Tasks with predictions: brush masks in Label Studio's own RLE, or rectangles, with the score
    of each."""
    before, names = LOCAL_FILES if images is None else images, dict(categories_of(found))
    tasks, written = [], 0
    for number, entry in found.entries.items():
        results = [_result(label, entry, names[label.category]) for label in found.labels[number]]
        written += len(results)
        mean = sum(r["score"] for r in results) / len(results) if results else 0.0
        prediction = {"model_version": "genseg", "score": mean, "result": results}
        tasks.append(
            {"data": {"image": before + _url(entry.name, before)}, "predictions": [prediction]}
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(tasks))
    return written


def _result(label: Label, entry: Entry, name: str) -> dict[str, Any]:
    """A label as Label Studio has it."""
    h, w = entry.height, entry.width
    value: dict[str, Any]
    if label.mask is None:
        kind, layer = "rectanglelabels", "box"
        x, y, wide, high = _size_of(label.listed)
        value = {
            "x": 100 * x / w,
            "y": 100 * y / h,
            "width": 100 * wide / w,
            "height": 100 * high / h,
            "rotation": 0,
        }
    else:
        kind, layer = "brushlabels", "label"
        value = {"format": "rle", "rle": encode_brush(instance_of(label, entry), h, w)}
    return {
        "id": str(label.number),
        "type": kind,
        "from_name": layer,
        "to_name": "image",
        "original_width": w,
        "original_height": h,
        "image_rotation": 0,
        "value": value | {kind: [name]},
        "score": label.score,
    }


def to_labels(found: Usable, out: Path, images: str | None) -> int:
    """A label image for each image, 16 bits: instance n has the value n, the best first; where they
    overlap the better one is seen. The size of the pixels is that of the image, where its file is
    found and states it."""
    refuse_bare(found, "label images")
    seen = 0
    names = named_after_each([file_key(entry.title) for entry in found.entries.values()], ".tif")
    for name, (number, entry) in zip(names, found.entries.items(), strict=True):
        instances = [instance_of(label, entry) for label in found.labels[number]]
        ordered = sorted(instances, key=lambda instance: -instance.score)
        numbers = partition(ordered, entry.height, entry.width)
        seen += np.unique(numbers[numbers > 0]).size
        write_label_image(out / name, numbers, resolution_of(entry.path))
    return seen


# each says how many instances it has written
TOOLS: dict[str, Callable[[Usable, Path, str | None], int]] = {
    "cvat": to_cvat,
    "fiftyone": to_fiftyone,
    "labelstudio": to_labelstudio,
    "labels": to_labels,
}
