"""Hand instances over to labelling tools, in the form that each imports."""

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from genseg.core.check import between
from genseg.core.words import amount
from genseg.data.annotations import CocoError, annotation, file_key, named_after, read_json
from genseg.data.images import decode, list_images
from genseg.data.instances import Instance
from genseg.data.label_images import ENDINGS, instances_of, label_file, read_label_image, write_label_image
from genseg.data.label_studio import encode_brush
from genseg.data.run_length import code_segmentation, polygons, windowed
from genseg.measure.masks import partition
from genseg.train.run import write_text

LOCAL_FILES = "/data/local-files/?d="  # Label Studio's URL of files below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT
BUCKETS = ("s3://", "gs://", "azure-blob://")  # Label Studio takes what follows as it is, and nothing for quoted
INSIDE = "annotations/instances_default.json"  # where CVAT's importer looks in a zip
Content = Mapping[str, Any]


def convert(file: Path, tool: str, out: Path, *, score: float = 0.0, images: str | None = None) -> str:
    """Write the instances of a COCO json for `tool`, and say what was written; for coco, those of a folder of label
    images, `file`.

    score: instances that score less are left out
    images: goes before each file name (FiftyOne: a folder; Label Studio: a URL); of label images, their images

    Raises CocoError or ValueError for what a user can mend.
    """
    between(0, 1, score=score)
    if images is not None and tool in ("cvat", "labels"):
        raise ValueError(f"--images {images} is not for {tool}, which knows images by their names; leave it out")
    if score and tool == "coco":
        raise ValueError("--score is for instances that were found; label images have no scores: leave it out")
    wanted = {"cvat": ".zip", "labels": ""}.get(tool, ".json")
    if out.suffix.lower() != wanted:
        raise ValueError(f"--out {out}: " + (f"what {tool} imports ends in {wanted}" if wanted else "name a folder"))
    if tool == "coco":
        if images is None or not file.is_dir():
            raise ValueError(f"{file}: coco is made of a folder of label images; give that, and --images FOLDER")
        return from_label_images(file, images, out)
    content = dict(read_json(file))
    if any(isinstance(i, dict) and "mask" in i for i in content["images"]):
        raise CocoError(f"{file}: a semantic model has made it, and its classes of pixels are no instances; the maps "
                        f"beside it in masks/ are PNG that labelling tools read as they are")  # fmt: skip
    if not content.get("categories"):
        numbers = sorted({a["category_id"] for a in content["annotations"] if isinstance(a.get("category_id"), int)})
        content["categories"] = [{"id": n, "name": "instance" if len(numbers) < 2 else str(n)} for n in numbers or [1]]
    try:
        content["annotations"] = [a for a in content["annotations"] if float(a.get("score", 1.0)) >= score]
        unlisted = {a["category_id"] for a in content["annotations"]} - {c["id"] for c in content["categories"]}
        if unlisted:
            raise ValueError(f"annotations have category_id {unlisted.pop()}, which is none of `categories`")
        TOOLS[tool](content, out, images)
    except (AttributeError, KeyError, TypeError) as error:
        raise CocoError(f"{file}: an image needs id, file_name, height and width, an annotation id, image_id, "
                        f"category_id, segmentation and, if any, a score; got {error!r}") from None  # fmt: skip
    except ValueError as error:
        raise CocoError(f"{file}: {error}") from None
    what = f"{amount(len(content['annotations']), 'instance')} in {amount(len(content['images']), 'image')}"
    return f"{out}: {what}, for {tool}"


def _is_box(a: Content) -> bool:
    """Whether an annotation has a box and no mask."""
    return not a.get("segmentation") and len(a.get("bbox") or ()) == 4


def _instance(a: Content, sizes: Mapping[int, tuple[int, int]]) -> Instance:
    """The mask of an annotation in its window; of no area when it is empty."""
    try:
        return windowed(code_segmentation(a["segmentation"], *sizes[a["image_id"]]))
    except ValueError as error:
        raise ValueError(f"annotation {a['id']} cannot be used: {error}") from None


def _sizes(content: Content) -> dict[int, tuple[int, int]]:
    return {i["id"]: (int(i["height"]), int(i["width"])) for i in content["images"]}


def to_cvat(content: Content, out: Path, images: str | None) -> None:
    """COCO 1.0 in a zip: polygons, which CVAT can edit, or boxes; it takes an RLE for a crowd. Holes are lost."""
    sizes, kept = _sizes(content), []
    for a in content["annotations"]:
        if _is_box(a):
            w, h = a["bbox"][2:]
            kept.append({**{k: a[k] for k in ("id", "image_id", "category_id", "bbox")}, "iscrowd": 0, "area": w * h,
                         "segmentation": [], "attributes": {"score": float(a.get("score", 1.0))}})  # fmt: skip
            continue
        instance = _instance(a, sizes)
        if instance.area:
            shapes = [p for p in polygons(instance) if len(p) >= 6]
            kept.append({**{k: a[k] for k in ("id", "image_id", "category_id")}, "iscrowd": 0, "area": instance.area,
                         "bbox": list(instance.box), "segmentation": shapes,
                         "attributes": {"score": float(a.get("score", 1.0))}})  # fmt: skip
    listed = [{**i, "file_name": file_key(i["file_name"])} for i in content["images"]]  # CVAT knows them by these names
    text = json.dumps(
        {"info": {}, "licenses": [], "images": listed, "annotations": kept, "categories": content["categories"]}
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(INSIDE, text)


def to_fiftyone(content: Content, out: Path, images: str | None) -> None:
    """COCO with RLE and scores, as FiftyOne's COCODetectionDataset reads it; absolute file names need no data_path."""
    root = None if images is None else Path(images).absolute()
    listed = [
        {**i, "file_name": i["file_name"] if root is None else str(_in(root, i["file_name"]))}
        for i in content["images"]
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps({**content, "info": {}, "licenses": [], "images": listed}))


def _in(root: Path, name: str) -> Path:
    """Where an image of a json lies: below the folder, or below images/ in it."""
    places = (root / name, root / "images" / name, root / file_key(name))
    return next((p for p in places if p.is_file()), places[0])


def _url(name: str, before: str) -> str:
    """A file name as the rest of a URL; undecodable bytes of it come back as they were."""
    path = str(PurePosixPath(name))
    return path if before.startswith(BUCKETS) else quote(path, errors="surrogateescape")


def to_labelstudio(content: Content, out: Path, images: str | None) -> None:
    """Tasks with predictions: brush masks in Label Studio's own RLE, or rectangles, with the score of each."""
    sizes, before = _sizes(content), LOCAL_FILES if images is None else images
    names = {c["id"]: str(c["name"]) for c in content["categories"]}
    found: dict[int, list[dict[str, Any]]] = {i: [] for i in sizes}
    for a in content["annotations"]:
        h, w = sizes[a["image_id"]]
        kind, layer = ("rectanglelabels", "box") if _is_box(a) else ("brushlabels", "label")
        if layer == "box":
            x, y, wide, high = a["bbox"]
            value = {"x": 100 * x / w, "y": 100 * y / h, "width": 100 * wide / w, "height": 100 * high / h,
                     "rotation": 0}  # fmt: skip
        else:
            value = {"format": "rle", "rle": encode_brush(_instance(a, sizes), h, w)}
        value[kind] = [names[a["category_id"]]]
        found[a["image_id"]].append(
            {"id": str(a["id"]), "type": kind, "from_name": layer, "to_name": "image",
             "original_width": w, "original_height": h, "image_rotation": 0, "value": value,
             "score": float(a.get("score", 1.0))}
        )  # fmt: skip
    tasks = []
    for i in content["images"]:
        results = found[i["id"]]
        mean = sum(r["score"] for r in results) / len(results) if results else 0.0
        prediction = {"model_version": "genseg", "score": mean, "result": results}
        tasks.append({"data": {"image": before + _url(i["file_name"], before)}, "predictions": [prediction]})
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(tasks))


def to_labels(content: Content, out: Path, images: str | None) -> None:
    """A label image for each image, 16 bits: instance n has the value n, the best first; where they overlap the better
    one is seen."""
    sizes = _sizes(content)
    found: dict[int, list[Instance]] = {i: [] for i in sizes}
    for a in content["annotations"]:
        if not a.get("segmentation"):
            raise ValueError(f"annotation {a['id']} has no mask, and label images hold masks alone")
        found[a["image_id"]].append(replace(_instance(a, sizes), score=float(a.get("score", 1.0))))
    for i in content["images"]:
        ordered = sorted(found[i["id"]], key=lambda instance: -instance.score)
        name = named_after(Path(file_key(i["file_name"])).with_suffix(""), ".tif")
        write_label_image(out / name, partition(ordered, *sizes[i["id"]]))


def from_label_images(folder: Path, images: str, out: Path) -> str:
    """Write the COCO json of the images that have a label image in `folder`, all instances of one category."""
    listed = list_images(images)
    content: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "instance"}]}
    for n, name in enumerate(listed.files):
        labels = label_file(folder, name)
        if labels is None:
            continue
        numbers, size = read_label_image(labels), decode(listed.path(n)).shape[:2]
        if numbers.shape != size:
            raise CocoError(f"{labels} has {numbers.shape[1]} x {numbers.shape[0]} pixels, its image {listed.path(n)} "
                            f"{size[1]} x {size[0]}")  # fmt: skip
        of = {"image": n + 1, "height": size[0], "width": size[1]}
        first = len(content["annotations"]) + 1
        found = instances_of(numbers)
        content["annotations"] += [annotation(a, number=first + k, **of) for k, a in enumerate(found)]
        place = os.path.relpath(listed.path(n).absolute(), out.absolute().parent)
        content["images"].append({"id": n + 1, "file_name": place, "height": size[0], "width": size[1]})
    if not content["images"]:
        example = Path(listed.files[0]).with_suffix(".tif")
        raise CocoError(f"{folder}: none of {len(listed)} images of {images} has a label image there, as {example}, or "
                        f"that with {', '.join(ENDINGS[1:])} behind its name")  # fmt: skip
    for a in content["annotations"]:
        del a["score"]  # these are labels
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(content))
    without = len(listed) - len(content["images"])
    note = f"; {amount(without, 'image')} without a label image left out" if without else ""
    labelled = f"{amount(len(content['annotations']), 'instance')} in {amount(len(content['images']), 'image')}"
    return f"{out}: {labelled}{note}"


TOOLS: dict[str, Callable[[Content, Path, str | None], None]] = {
    "cvat": to_cvat,
    "fiftyone": to_fiftyone,
    "labelstudio": to_labelstudio,
    "labels": to_labels,
}
