"""What is wrong with a COCO json, found before any training: what it is, how often, and what happens to it.

No file is changed. What cannot be used at all is a CocoError.
"""

import hashlib
import json
import math
import posixpath
from collections.abc import Container, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycocotools import mask as rle

from genseg.core.paths import exists
from genseg.data.annotations import CocoError, file_key
from genseg.data.decode import decoded_size
from genseg.data.images import coco_folders
from genseg.data.run_length import code_segmentation, is_polygon, run_lengths

KINDS = {  # what may be found: in words, and what happens to it
    "twice": ("images that are listed twice", "listed once"),
    "same file": ("images with the file of another", "left out, with their annotations"),
    "missing": ("files that are missing or cannot be read", "left out, with their annotations"),
    "size": ("images of another size than the json says", "left out, with their annotations"),
    "empty": ("images without a label", "kept, as background"),
    "no image": ("annotations of images that are not listed", "left out"),
    "category": ("annotations of an unknown category", "left out"),
    "number": ("annotations with the id of another", "numbered anew"),
    "duplicate": ("annotations that repeat another", "left out"),
    "no mask": ("annotations without a segmentation", "left out"),
    "polygon": ("annotations with bad polygons", "those polygons are left out"),
    "rle": ("annotations with a bad segmentation", "left out"),
    "nothing": ("annotations whose mask holds no pixel", "left out"),
    "no box": ("annotations without a box that can be used", "left out"),
    "outside": ("boxes wholly outside their image", "left out"),
    "clipped": ("boxes partly outside their image", "clipped"),
    "thin": ("boxes less than a pixel wide or high", "left out"),
    "box": ("boxes that are not those of their masks", "the mask counts"),
    "area": ("areas that are not those of their masks", "the mask counts"),
    "crowd": ("crowds", "left out of training, ignored in scoring"),
}
NEAR = 2.0  # pixels (or a tenth of the side) that a box may differ from its mask's


@dataclass(frozen=True)
class Finding:
    """One kind of what was found: how often, where first, and what happens to them."""

    what: str
    count: int
    first: str
    outcome: str


Findings = tuple[Finding, ...]


class Tally:
    """Counts what is found, by the kinds of KINDS."""

    def __init__(self) -> None:
        self._count: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(self, kind: str, where: str) -> None:
        self._count[kind] = self._count.get(kind, 0) + 1
        self._first.setdefault(kind, where)

    def findings(self) -> Findings:
        """In the order of KINDS."""
        return tuple(
            Finding(what, self._count[kind], self._first[kind], outcome)
            for kind, (what, outcome) in KINDS.items()
            if kind in self._count
        )


def format_findings(findings: Findings) -> str:
    """A line for each: how often, what, what happens, and the first; empty when nothing was found."""
    wide = [max((len(str(v)) for v in column), default=0) for column in zip(
        *((f.count, f.what, f.outcome) for f in findings), strict=True)]  # fmt: skip
    return "\n".join(
        f"{f.count:{wide[0]}d} {f.what:{wide[1]}s}  {f.outcome:{wide[2]}s}  first: {f.first}" for f in findings
    )


@dataclass(frozen=True)
class Entry:
    """An image of a json that can be used."""

    path: Path
    name: str
    number: int
    height: int
    width: int
    kind: str


@dataclass(frozen=True)
class Label:
    """An annotation that can be used. box: left, top, right, bottom; listed: the same as the json has it; area: the
    json's; mask: compressed RLE."""

    box: tuple[float, float, float, float]
    category: int
    crowd: bool
    area: float
    mask: dict[str, Any] | None
    listed: tuple[float, float, float, float]


def usable_images(images: Sequence[Any], source: Path, tally: Tally) -> dict[int, Entry]:
    """The images of a json by id. Raises CocoError when one has no id or file name, one id is two files, or none
    can be read."""
    entries: dict[int, Entry] = {}
    files: dict[str, int] = {}
    for n, image in enumerate(images):
        try:
            number, name = _as_number(image["id"]), str(image["file_name"])
            if not isinstance(number, int):
                raise TypeError(f"the id {number!r} is no whole number")
            size = int(image.get("height") or 0), int(image.get("width") or 0)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise CocoError(f"{source}: images[{n}] needs an id, a file_name, height and width: {error!r}") from None
        key = file_key(name)
        if number in entries:
            if file_key(entries[number].name) != key:
                raise CocoError(f"{source}: image {number} is both {entries[number].name} and {name}; give each image "
                                "an id of its own")  # fmt: skip
            tally.add("twice", f"{name}, image {number}")
        elif key in files:
            tally.add("same file", f"{name}, images {files[key]} and {number}")
        else:
            files[key] = number
            entries[number] = Entry(_where(source, name), name, number, *size, str(image.get("kind", "")))
    with ThreadPoolExecutor(8) as pool:  # decoding leaves the interpreter to the others
        found = dict(zip(entries, pool.map(_checked, entries.values()), strict=True))
    for number, (kind, where, _) in found.items():
        if kind:
            tally.add(kind, f"{entries[number].name}: {where}")
    usable = {number: entry for number, (kind, _, entry) in found.items() if not kind}
    if not usable:
        first = next((f"; the first is {entries[n].name}: {where}" for n, (_, where, _) in found.items()), "")
        places = ", ".join(map(str, coco_folders(source)))
        raise CocoError(f"{source}: none of its {len(images)} images can be used{first}. Looked in {places}: move or "
                        "link the images to one of these")  # fmt: skip
    return usable


def _where(source: Path, name: str) -> Path:
    """The file of a file_name, in the first of the folders that has it."""
    places = [folder / posixpath.normpath(name) for folder in coco_folders(source)]
    return next((place for place in places if exists(place)), source.parent / posixpath.normpath(name))


def _checked(entry: Entry) -> tuple[str, str, Entry]:
    """What is wrong with an image (a kind of KINDS, or nothing), where, and the image with its size."""
    try:
        height, width = decoded_size(entry.path)  # not by its header alone: training would end at a truncated one
    except ValueError as error:
        return "missing", str(error), entry
    said = entry.height, entry.width
    if said not in ((0, 0), (height, width)):
        turned = " (as its EXIF turns it)" if said == (width, height) else ""
        return "size", f"json {said[1]} x {said[0]}, file {width} x {height}{turned}", entry
    return "", "", Entry(entry.path, entry.name, entry.number, height, width, entry.kind)


def usable_labels(
    annotations: Sequence[Mapping[str, Any]],
    entries: Mapping[int, Entry],
    listed: set[int],
    classes: Mapping[int, int],
    tally: Tally,
    *,
    masks: bool,
) -> dict[int, list[Label]]:
    """The annotations by image id.

    listed: ids of all images of the json, also of those that cannot be used
    classes: category id of the json -> class
    masks: with masks, which decide on the boxes; otherwise boxes alone, as the json has them
    """
    labels: dict[int, list[Label]] = {number: [] for number in entries}
    numbers, seen = set[Any](), set[bytes]()
    for n, a in enumerate(annotations):
        image = _as_number(a.get("image_id"))
        entry = entries.get(image) if isinstance(image, int) else None  # null and lists are ids of no image
        named = "id" in a and isinstance(a["id"], Hashable)
        where = f"annotation {a['id'] if named else f'at place {n}'} of {entry.name if entry else f'image {image}'}"
        if named:
            if a["id"] in numbers:
                tally.add("number", where)
            numbers.add(a["id"])
        if entry is None:
            if not _is_among(image, listed):
                tally.add("no image", where)
            continue
        category = _as_number(a.get("category_id"))
        same = json.dumps([image, *(a.get(k) for k in ("category_id", "iscrowd", "bbox", "segmentation"))], default=str)
        key = hashlib.blake2b(same.encode(), digest_size=16).digest()  # a large set's polygons fill gigabytes
        if not _is_among(category, classes):
            tally.add("category", f"{where}: {a.get('category_id')}")
        elif key in seen:
            tally.add("duplicate", where)
        elif label := _label(a, entry, classes[category], tally, where, masks=masks):
            labels[entry.number].append(label)
        seen.add(key)
    for number, found in labels.items():
        if not any(not label.crowd for label in found):
            tally.add("empty", entries[number].name)
    return labels


def _as_number(said: Any) -> Any:
    """A json's id, as a whole number where it is one in quotes, or with a point, as pandas writes them."""
    if isinstance(said, float) and said.is_integer():
        return int(said)
    return int(said) if isinstance(said, str) and said.isdecimal() else said


def _is_among(said: Any, known: Container[Any]) -> bool:
    """Whether a json's value is a known id; lists and mappings, of which no set can be asked, are none."""
    return isinstance(said, Hashable) and said in known


def _label(a: Mapping[str, Any], entry: Entry, category: int, tally: Tally, where: str, *, masks: bool) -> Label | None:
    box, area = _box(a.get("bbox")), _area(a.get("area"))
    mask, listed = None, box
    if masks or box is None:
        mask = _mask(a.get("segmentation"), entry, tally, where, needed=masks)
        if mask is None:
            return None
        left, top, w, h = (float(v) for v in rle.toBbox(mask))
        exact, size = (left, top, left + w, top + h), float(rle.area(mask))
        apart = [abs(x - y) for x, y in zip(box or exact, exact, strict=True)]
        if any(d > max(NEAR, side / 10) for d, side in zip(apart, (w, h, w, h), strict=True)):
            tally.add("box", where)
            listed = None
        if area and abs(area - size) > 2 + w + h:  # a polygon's differs by what a border of half a pixel holds
            tally.add("area", f"{where}: json {area:g}, mask {size:g}")
            area = None
        box, area = exact, area or size
    clipped = _clipped(box, entry, tally, where)
    if clipped is None:
        return None
    crowd = bool(a.get("iscrowd", 0))
    if crowd:
        tally.add("crowd", where)
    left, top, right, bottom = clipped
    return Label(clipped, category, crowd, area or (right - left) * (bottom - top), mask if masks else None,
                 listed or box)  # fmt: skip


def _area(said: Any) -> float | None:
    """A json's area; None for what is none."""
    return float(said) if isinstance(said, int | float) and math.isfinite(said) and said > 0 else None


def _box(said: Any) -> tuple[float, float, float, float] | None:
    """Left, top, right, bottom of a json's box; None for what is none."""
    try:
        left, top, w, h = (float(v) for v in said)
    except (TypeError, ValueError):
        return None
    return (left, top, left + w, top + h) if all(map(math.isfinite, (left, top, w, h))) and min(w, h) >= 0 else None


def _clipped(
    box: tuple[float, float, float, float], entry: Entry, tally: Tally, where: str
) -> tuple[float, float, float, float] | None:
    limits = entry.width, entry.height, entry.width, entry.height
    inside = tuple(min(max(v, 0.0), float(limit)) for v, limit in zip(box, limits, strict=True))
    left, top, right, bottom = inside
    if box[2] <= 0 or box[3] <= 0 or box[0] >= entry.width or box[1] >= entry.height:
        tally.add("outside", f"{where}: {box}")
        return None
    if right - left < 1 or bottom - top < 1:
        tally.add("thin", f"{where}: {right - left:.2f} x {bottom - top:.2f}")
        return None
    if max(abs(x - y) for x, y in zip(box, inside, strict=True)) > 1:  # COCO's own reach over by fractions
        tally.add("clipped", f"{where}: {box}")
    return left, top, right, bottom


def _mask(segmentation: Any, entry: Entry, tally: Tally, where: str, *, needed: bool) -> dict[str, Any] | None:
    """The compressed RLE of a segmentation that holds a pixel, or None."""
    if not segmentation:
        tally.add("no mask" if needed else "no box", where)
        return None
    try:
        if isinstance(segmentation, list):
            good = [p for p in segmentation if is_polygon(p, entry.height, entry.width)]
            if len(good) < len(segmentation):
                tally.add("polygon", f"{where}: {len(segmentation) - len(good)} of {len(segmentation)}")
            if not good:
                return None
            segmentation = good
        elif isinstance(segmentation, Mapping):
            run_lengths(segmentation)
        code = code_segmentation(segmentation, entry.height, entry.width)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        tally.add("rle", f"{where}: {error}")
        return None
    if not rle.area(code):
        tally.add("nothing", where)
        return None
    counts = code["counts"]
    return {"size": [entry.height, entry.width], "counts": counts if isinstance(counts, bytes) else counts.encode()}
