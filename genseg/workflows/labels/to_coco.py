"""COCO jsons made of what others write: label images, YOLO's text files."""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from genseg.core.files import write_text
from genseg.core.words import amount
from genseg.data.images.coco_files import CocoError
from genseg.data.images.files import ImageList, list_images
from genseg.data.images.source import decoded_size
from genseg.data.instances.coco import file_key
from genseg.data.instances.label_image import ENDINGS, instances_of, label_file, read_label_image
from genseg.data.instances.outline import Drawn
from genseg.workflows.labels.corrections import Corrections
from genseg.workflows.labels.result import Converted

SPLITS = ("train", "val", "test")
BEYOND = 0.01  # by this part of the image a shape may lie outside of it: rounding


def from_label_images(folder: Path, images: str, out: Path) -> Converted:
    """Write the COCO json of the images that have a label image in `folder`. A .csv beside it, as
    genseg convert --to napari writes, gives the ids and categories of its values."""
    made = Corrections(images)
    stacks, masks = list[Path](), list[Path]()
    for i, name in enumerate(made.names):
        labels = _label_image(folder, name, own=made.several[i])
        if labels is None:
            continue
        image, size = read_label_image(labels), made.size(i)
        stacks += [labels] if image.pages > 1 else []
        masks += [labels] if image.binary else []
        if image.numbers.shape != size:
            raise CocoError(
                f"{labels} has {image.numbers.shape[1]} x {image.numbers.shape[0]} pixels, its "
                f"image {made.listed.path(i)} {size[1]} x {size[0]}"
            )
        known = _features(labels.with_suffix(".csv"))
        values = np.unique(image.numbers)
        found = zip(values[values > 0].tolist(), instances_of(image.numbers), strict=True)
        made.add(i, [Drawn(a, *known.get(value, ("", None))) for value, a in found])
    if not made.drawn:
        example = Path(made.listed.files[0]).with_suffix(".tif")
        raise CocoError(
            f"{folder}: none of {len(made.listed)} images of {images} has a label image there, as "
            f"{example}, or that with {', '.join(ENDINGS[1:])} behind its name"
        )
    return made.write(out, missing="a label image", notes=_doubts(stacks, masks))


def _label_image(folder: Path, name: str, *, own: bool) -> Path | None:
    """The label image of an image of that name. own: of one of several images of a file, which
    share none."""
    labels = label_file(folder, name) or label_file(folder, file_key(name))
    shared = labels is not None and not labels.name.startswith(PurePosixPath(file_key(name)).name)
    return None if own and shared else labels


def _features(file: Path) -> dict[int, tuple[str, int | None]]:
    """Category and id by value, of a table with the columns index, id and category; nothing where
    there is none."""
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            rows = list(csv.DictReader(opened))
        return {int(r["index"]): (r["category"] or "", int(r["id"])) for r in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _doubts(stacks: Sequence[Path], masks: Sequence[Path]) -> list[str]:
    """What label images hold that is hardly meant."""
    said = []
    if stacks:
        said.append(
            f"{amount(len(stacks), 'label image')} of several pages, of which the first page is "
            f"read, for example {stacks[0]}: save each page that has labels as a file of its own, "
            "beside its image"
        )
    if masks:
        said.append(
            f"{amount(len(masks), 'label image')} of one value in several pieces, for example "
            f"{masks[0]}: all of it is one instance; if it is a mask of many, number them first: "
            "scipy.ndimage.label(mask)[0]"
        )
    return said


@dataclass(frozen=True)
class _Shape:
    """A line of YOLO's: a class and a box (centre, width, height) or a polygon, in parts of the
    image."""

    category: int
    numbers: tuple[float, ...]

    @property
    def is_box(self) -> bool:
        return len(self.numbers) == 4

    def box(self, height: int, width: int) -> list[float]:
        """Left, top, width and height in pixels."""
        if self.is_box:
            x, y, w, h = self.numbers
            left, top, right, bottom = x - w / 2, y - h / 2, x + w / 2, y + h / 2
        else:
            xs, ys = self.numbers[::2], self.numbers[1::2]
            left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
        left, top, right, bottom = (min(max(v, 0.0), 1.0) for v in (left, top, right, bottom))
        return [left * width, top * height, (right - left) * width, (bottom - top) * height]

    def area(self, height: int, width: int) -> float:
        """Of the box, or of the polygon by the shoelace formula; in pixels."""
        if self.is_box:
            return self.box(height, width)[2] * self.box(height, width)[3]
        corners = np.reshape(self.polygon(height, width), (-1, 2))
        x, y = corners.T
        return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)

    def polygon(self, height: int, width: int) -> list[float]:
        """Corners in pixels, x and y in turn."""
        sides = (width, height)
        return [min(max(v, 0.0), 1.0) * sides[k % 2] for k, v in enumerate(self.numbers)]


def from_yolo(file: Path, out: Path) -> Converted:
    """Write the COCO json of each split of a YOLO data set (Ultralytics' data.yaml): boxes, or
    segments as polygons.

    One split becomes `out`; of several, `train` becomes `out` with -train behind its name, and so
    on. An image without a text file has no objects. Where a split holds boxes and segments, all
    become boxes. Raises CocoError for a file that is none, and names the line that cannot be used.
    """
    content = _described(file)
    names = _names(content.get("names"), file)
    root = file.parent / str(content.get("path") or ".")
    root = root if root.is_dir() else file.parent  # the path of another machine
    splits = [name for name in SPLITS if content.get(name)]
    if not splits:
        raise CocoError(f"{file}: it names no images; give train, val or test a folder of images")
    made = {}
    for split in splits:
        target = out if len(splits) == 1 else out.with_name(f"{out.stem}-{split}{out.suffix}")
        places = content[split] if isinstance(content[split], list) else [content[split]]
        made[target] = _coco_of(file, [_place(root, file, split, p) for p in places], names, target)
    said = []
    for target, (text, words) in made.items():  # all or none
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, text)
        said.append(f"{target}: {words}")
    return Converted(tuple(made), tuple(said))


def _described(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise CocoError(f"{file} cannot be read as YOLO's data.yaml: {error}") from None
    if not isinstance(content, dict):
        raise CocoError(f"{file} is no data.yaml of YOLO: it needs names, and train or val")
    return content


def _names(names: Any, file: Path) -> dict[int, str]:
    """Class number -> name."""
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(isinstance(n, int) for n in names):
        raise CocoError(
            f"{file}: names is {str(names)[:60]}; give the names of the classes, as names: [cell, "
            "debris]"
        )
    return {number: str(name) for number, name in names.items()}


def _place(root: Path, file: Path, split: str, given: Any) -> Path:
    """Where the images of a split lie; Roboflow writes ../train/images for a folder beside the
    yaml."""
    places = (
        root / str(given),
        file.parent / str(given),
        file.parent / str(given).removeprefix("../"),
    )
    found = next((p for p in places if p.exists()), None)
    if found is None:
        raise CocoError(
            f"{file}: {split} is {given}, and there is no {places[0]}; mend path or {split}"
        )
    return found


def _coco_of(
    file: Path, places: Sequence[Path], names: Mapping[int, str], out: Path
) -> tuple[str, str]:
    """The json of a split, and what is in it."""
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    shapes, without = list[tuple[int, _Shape]](), 0
    for listed in map(list_images, places):
        for path, text in _pairs(listed):
            try:
                height, width = decoded_size(path)
            except ValueError as error:
                raise CocoError(
                    f"{path} cannot be read: {error}; mend it, or remove it and {text}"
                ) from None
            number = len(images) + 1
            place = os.path.relpath(path.absolute(), out.absolute().parent)
            images.append({"id": number, "file_name": place, "height": height, "width": width})
            without += not text.is_file()
            shapes += [(number, shape) for shape in _shapes(text, names)] if text.is_file() else []
    if without == len(images):
        raise CocoError(
            f"{file}: none of {amount(len(images), 'image')} in {places[0]} has a text file; YOLO "
            "looks for that of images/a.jpg at labels/a.txt"
        )
    boxes = sum(shape.is_box for _, shape in shapes)
    for number, shape in shapes:
        size = images[number - 1]["height"], images[number - 1]["width"]
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": shape.category + 1,
                "iscrowd": 0,
                "bbox": shape.box(*size),
                "area": shape.area(*size),
            }
            | ({} if boxes else {"segmentation": [shape.polygon(*size)]})
        )
    categories = [{"id": number + 1, "name": name} for number, name in sorted(names.items())]
    words = (
        f"{amount(len(annotations), 'box' if boxes else 'polygon')} in "
        f"{amount(len(images), 'image')}"
    )
    words += (
        f"; {amount(without, 'image')} without a text file, so without objects" if without else ""
    )
    if 0 < boxes < len(shapes):
        words += f"; {amount(len(shapes) - boxes, 'segment')} became boxes, because the others are"
    return json.dumps(
        {"images": images, "annotations": annotations, "categories": categories}
    ), words


def _pairs(listed: ImageList) -> Iterator[tuple[Path, Path]]:
    """Each image and where its text file lies: labels/ in the place of the last images/ of its
    path."""
    for i in range(len(listed)):
        path = listed.path(i)
        parts = list(path.absolute().parts)
        at = max((k for k, part in enumerate(parts[:-1]) if part == "images"), default=None)
        if at is not None:
            parts[at] = "labels"
        yield path, Path(*parts).with_suffix(".txt")


def _shapes(text: Path, names: Mapping[int, str]) -> list[_Shape]:
    """The objects of a text file. Raises CocoError that names the line which cannot be used."""
    found = []
    try:
        lines = text.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CocoError(f"{text} cannot be read: {error}") from None
    for n, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            first, *rest = (float(word) for word in line.split())
        except ValueError:
            raise CocoError(f"{text}, line {n}: {line[:60]!r} is not a class and numbers") from None
        if first not in names:
            raise CocoError(
                f"{text}, line {n}: class {first:g} is none of the {len(names)} names of data.yaml"
            )
        if len(rest) != 4 and (len(rest) < 6 or len(rest) % 2):
            raise CocoError(
                f"{text}, line {n}: {len(rest)} numbers after the class; a box has 4 (centre, "
                "width, height), a segment an x and a y for each of three corners or more"
            )
        if not all(-BEYOND <= v <= 1 + BEYOND for v in rest):
            raise CocoError(
                f"{text}, line {n}: {next(v for v in rest if not -BEYOND <= v <= 1 + BEYOND):g} "
                "lies outside of the image; YOLO's numbers are parts of its width and height, "
                "from 0 to 1"
            )
        found.append(_Shape(int(first), tuple(rest)))
    return found
