"""The one reader of COCO's images and annotations: what can be used, and what is wrong with the
rest.

Every command that reads a COCO json reads it by these rules: training, scoring, drawing,
converting, splitting. What is wrong is counted by its kind, with what happens to it. No file is
changed. What cannot be used at all is a CocoError.
"""

import hashlib
import json
import math
from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pycocotools import mask as rle

from genseg.data.images.coco_files import CocoError
from genseg.data.instances.run_length import code_segmentation, polygon_fault, run_lengths
from genseg.data.labels.entries import Entry, as_number
from genseg.data.labels.findings import KINDS, Tally, counted

Box = tuple[float, float, float, float]
NEAR = 2.0  # pixels (or a tenth of the side) that a box may differ from its mask's
# as text
CROWD = {"0": False, "0.0": False, "false": False, "": False, "1": True, "1.0": True, "true": True}
CVAT = "CVAT writes its brush masks as crowds: where each is one object, set its iscrowd to 0"


@dataclass(frozen=True)
class Label:
    """An annotation that can be used.

    box_xyxy: left, top, right, bottom; listed: the same as the json has it; area: the json's; mask:
        compressed RLE
    category: its class, or the json's id where no classes are asked for
    number: its id, or a new one where it has none of its own; record: as the json has it
    """

    box_xyxy: Box
    category: int
    crowd: bool
    area: float
    mask: dict[str, Any] | None
    listed: Box
    number: int
    score: float
    record: Mapping[str, Any]


def none_usable(
    source: Path, annotations: Sequence[Any], labels: Mapping[int, Sequence[Label]], tally: Tally
) -> CocoError:
    """Why no annotation of a json is a label."""
    crowds = any(label.crowd for found in labels.values() for label in found)
    why = tuple(f for f in tally.findings() if f.what != KINDS["empty"][0])
    return CocoError(
        f"{source}: none of its {len(annotations)} annotations can be used"
        + (f" ({counted(why)})" if why else "")
        + (f". {CVAT}" if crowds else "")
    )


def usable_labels(
    annotations: Sequence[Any],
    entries: Mapping[int, Entry],
    listed: Container[int],
    classes: Mapping[int, int] | None,
    tally: Tally,
    *,
    masks: bool,
    scored: bool = False,
) -> dict[int, list[Label]]:
    """The annotations by image id.

    listed: ids of all images of the json, also of those that cannot be used
    classes: category id of the json -> class; None: of any category, or of none
    masks: with masks, which decide on the boxes; otherwise boxes alone, as the json has them
    scored: they are predictions, each of which counts: also one that repeats another, holds no
        pixel, or has a box that is outside its image or not that of its mask
    """
    labels: dict[int, list[Label]] = {number: [] for number in entries}
    numbers, seen = set[Any](), set[bytes]()
    free = 1 + max(
        (n for a in annotations if isinstance(n := as_number(a.get("id")), int)), default=0
    )
    for n, a in enumerate(annotations):
        image = as_number(a.get("image_id"))
        # null and lists are ids of no image
        entry = entries.get(image) if isinstance(image, int) else None
        number = as_number(a.get("id"))
        named = "id" in a and isinstance(number, Hashable)
        where = (
            f"annotation {a['id'] if named else f'at place {n}'} of "
            f"{entry.name if entry else f'image {image}'}"
        )
        if named and number in numbers:
            tally.add("number", where)
        if not isinstance(number, int) or number in numbers:
            number, free = free, free + 1
        numbers.add(number)
        if entry is None:
            if not is_among(image, listed):
                tally.add("no image", where)
            continue
        category = as_number(a.get("category_id"))
        key = _content(a, image)
        if classes is not None and not is_among(category, classes):
            tally.add("category", f"{where}: {a.get('category_id')}")
        elif key in seen and not scored:
            tally.add("duplicate", where)
        elif label := _label(a, entry, tally, where, masks=masks, scored=scored):
            known = category if isinstance(category, int) else 0
            label = replace(
                label, number=number, category=known if classes is None else classes[category]
            )
            labels[entry.number].append(label)
        seen.add(key)
    for number, found in labels.items():
        if not any(not label.crowd for label in found):
            tally.add("empty", entries[number].name)
    return labels


def _content(annotation: Mapping[str, Any], image: Any) -> bytes:
    """What is equal for two annotations that say the same: a digest, since the polygons of a large
    set fill gigabytes."""
    keys = ("category_id", "iscrowd", "bbox", "segmentation")
    said = json.dumps([image, *(annotation.get(k) for k in keys)], default=str)
    return hashlib.blake2b(said.encode(), digest_size=16).digest()


def is_crowd(said: Any) -> bool | None:
    """What a json says by iscrowd: 0 or 1, also as a bool, with a point, or as text; nothing is 0.
    None: neither."""
    return False if said is None else CROWD.get(str(said).strip().lower())


def is_among(said: Any, known: Container[Any]) -> bool:
    """Whether a json's value is a known id; lists and mappings, of which no set can be asked, are
    none."""
    return isinstance(said, Hashable) and said in known


def _label(
    a: Mapping[str, Any], entry: Entry, tally: Tally, where: str, *, masks: bool, scored: bool
) -> Label | None:
    """An annotation that can be used, its number and category still 0."""
    box, area, crowd, score = (
        _box(a.get("bbox")),
        _area(a.get("area")),
        is_crowd(a.get("iscrowd")),
        _score(a),
    )
    if crowd is None or score is None:
        kind = "score" if score is None else "iscrowd"
        tally.add(kind, f"{where}: {str(a.get(kind))[:40]!r}")
        return None
    mask, listed = None, box
    if masks or box is None:
        mask = _mask(a.get("segmentation"), entry, tally, where, needed=masks, scored=scored)
        if mask is None:
            return None
        left, top, w, h = (float(v) for v in rle.toBbox(mask))
        exact, size = (left, top, left + w, top + h), float(rle.area(mask))
        if not scored:
            listed, area = _agreeing(listed, area, exact, size, tally, where)
        box, area = exact, area or size
    clipped = _clipped(box, entry) if scored else _fitting(box, entry, tally, where)
    if clipped is None:
        return None
    if crowd:
        tally.add("crowd", where)
    left, top, right, bottom = clipped
    return Label(
        clipped,
        0,
        crowd,
        area or (right - left) * (bottom - top),
        mask if masks else None,
        listed or box,
        0,
        score,
        a,
    )


def _agreeing(
    box: Box | None, area: float | None, exact: Box, size: float, tally: Tally, where: str
) -> tuple[Box | None, float | None]:
    """A json's box and area where they are those of the mask, `exact` and `size`, or nearly; else
    None."""
    w, h = exact[2] - exact[0], exact[3] - exact[1]
    apart = [abs(x - y) for x, y in zip(box or exact, exact, strict=True)]
    if any(d > max(NEAR, side / 10) for d, side in zip(apart, (w, h, w, h), strict=True)):
        tally.add("box", where)
        box = None
    # a polygon's differs by what a border of half a pixel holds
    if area and abs(area - size) > 2 + w + h:
        tally.add("area", f"{where}: json {area:g}, mask {size:g}")
        area = None
    return box, area


def _area(said: Any) -> float | None:
    """A json's area; None for what is none."""
    return (
        float(said) if isinstance(said, int | float) and math.isfinite(said) and said > 0 else None
    )


def _score(a: Mapping[str, Any]) -> float | None:
    """An annotation's score, 1 where it has none; None for what is none."""
    try:
        score = float(1.0 if a.get("score") is None else a["score"])
    except (TypeError, ValueError, OverflowError):
        return None
    return score if math.isfinite(score) else None


def _box(said: Any) -> Box | None:
    """Left, top, right, bottom of a json's box; None for what is none."""
    try:
        left, top, w, h = (float(v) for v in said)
    except (TypeError, ValueError, OverflowError):
        return None
    return (
        (left, top, left + w, top + h)
        if all(map(math.isfinite, (left, top, w, h))) and min(w, h) >= 0
        else None
    )


def _clipped(box: Box, entry: Entry) -> Box:
    """The part of a box that is inside its image."""
    left, top, right, bottom = box
    w, h = float(entry.width), float(entry.height)
    return (
        min(max(left, 0.0), w),
        min(max(top, 0.0), h),
        min(max(right, 0.0), w),
        min(max(bottom, 0.0), h),
    )


def _fitting(box: Box, entry: Entry, tally: Tally, where: str) -> Box | None:
    """The part of a box that is inside its image, where it is large enough to be a label."""
    inside = left, top, right, bottom = _clipped(box, entry)
    if _is_scaled(box, entry):
        tally.add("scale", f"{where}: {box}; give them in pixels")
        return None
    if box[2] <= 0 or box[3] <= 0 or box[0] >= entry.width or box[1] >= entry.height:
        tally.add("outside", f"{where}: {box}")
        return None
    if right - left < 1 or bottom - top < 1:
        tally.add("thin", f"{where}: {right - left:.2f} x {bottom - top:.2f}")
        return None
    # COCO's own reach over by fractions
    if max(abs(x - y) for x, y in zip(box, inside, strict=True)) > 1:
        tally.add("clipped", f"{where}: {box}")
    return inside


def _is_scaled(numbers: Sequence[float], entry: Entry) -> bool:
    """Whether coordinates are parts of the image's sides, not pixels: all from 0 to 1, and not
    whole."""
    parts = all(0 <= n <= 1 for n in numbers) and any(n % 1 for n in numbers)
    return parts and min(entry.height, entry.width) > 1


def _mask(
    segmentation: Any, entry: Entry, tally: Tally, where: str, *, needed: bool, scored: bool
) -> dict[str, Any] | None:
    """The compressed RLE of a segmentation that holds a pixel, or is `scored`; or None."""
    if not segmentation:
        tally.add("no mask" if needed else "no box", where)
        return None
    try:
        if isinstance(segmentation, list):
            segmentation = _polygons(segmentation, entry, tally, where)
            if not segmentation:
                return None
        elif isinstance(segmentation, Mapping):
            run_lengths(segmentation)
        code = code_segmentation(segmentation, entry.height, entry.width)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        tally.add("rle", f"{where}: {error}")
        return None
    if not scored and not rle.area(code):
        tally.add("nothing", where)
        return None
    counts = code["counts"]
    return {
        "size": [entry.height, entry.width],
        "counts": counts if isinstance(counts, bytes) else counts.encode(),
    }


def _polygons(segmentation: list[Any], entry: Entry, tally: Tally, where: str) -> list[Any]:
    """The polygons that can be used."""
    faults = [polygon_fault(p, entry.height, entry.width) for p in segmentation]
    good = [p for p, fault in zip(segmentation, faults, strict=True) if not fault]
    if bad := next(filter(None, faults), None):
        tally.add(
            "polygon", f"{where}: {len(segmentation) - len(good)} of {len(segmentation)}: {bad}"
        )
    if good and all(_is_scaled(p, entry) for p in good):
        tally.add("scale", f"{where}: {str(good[0])[:40]}...; give them in pixels")
        return []
    return good
