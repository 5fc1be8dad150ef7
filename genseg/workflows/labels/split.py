"""A labelled COCO json in two: images to fine-tune on, and images that measure it."""

import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genseg.core.check import between
from genseg.core.files import write_text
from genseg.core.paths import exists
from genseg.core.result import Result
from genseg.core.words import amount
from genseg.data.images.coco_files import CocoError, coco_folders
from genseg.data.instances.coco import read_json
from genseg.data.labels.annotated import Usable, read_usable
from genseg.data.labels.entries import Entry, as_number
from genseg.data.labels.findings import KINDS, Findings, counted
from genseg.data.labels.preflight import is_among

Content = Mapping[str, Any]
HALVES = ("train", "val")
MADE = "genseg split"  # a key of `info`: what a half was made with


@dataclass(frozen=True)
class Half:
    """A part of a labelled json. absent: categories that have labels, and none here."""

    file: Path
    images: int
    annotations: int
    absent: tuple[str, ...] = ()

    def text(self) -> str:
        """A line."""
        counts = f"{amount(self.images, 'image')}, {amount(self.annotations, 'annotation')}"
        none = f"; none of {', '.join(self.absent)}" if self.absent else ""
        return f"{self.file}: {counts}{none}"


@dataclass(frozen=True)
class Split(Result):
    """The two halves of a labelled json.

    groups: of images that belong together, by `marks`
    unusable: labels that fine-tuning will leave out
    unlisted: annotations of images that are not listed, which are in neither half
    """

    train: Half
    val: Half
    groups: int
    marks: str
    unusable: Findings = ()
    unlisted: int = 0

    def text(self) -> str:
        lines = [self.train.text(), self.val.text()]
        lines.append(f"{amount(self.groups, 'group')} {self.marks}; none is in both")
        if self.unusable:
            lines.append(f"fine-tuning will leave out {counted(self.unusable)}")
        if self.unlisted:
            left = amount(self.unlisted, "annotation")
            lines.append(f"{left} of images that are not listed: left out")
        return "\n".join(lines)


def split_labels(file: Path, *, part: float = 0.3, by: str = "group", seed: int = 0) -> Split:
    """Write FILE-train.json and FILE-val.json beside a COCO json, so that both find the images
    where it does. The same file, part, key and seed give the same two; only halves are written
    over.

    part: of the images goes to val, as nearly as whole groups allow; at least one goes to each
    by: images with an equal value of this key of `images` stay together, such as tiles of one
    field; an image without it is alone. Files with equal bytes stay together, too

    Raises CocoError or ValueError for what a user can mend.
    """
    between(0, 1, val=part)
    content = read_json(file)
    found = read_usable(file)
    info = {**_info(content), MADE: {"of": file.name, "val": part, "by": by, "seed": seed}}
    entries = list(found.entries.values())
    if not any(exists(entry.path) for entry in entries):
        raise CocoError(
            f"{file}: none of its {len(entries)} images is there, the first is {entries[0].name}; "
            f"looked in {', '.join(map(str, coco_folders(file)))}: move or link the images to one "
            "of these"
        )
    listed = [entry.record for entry in entries]
    if any(image.get(by) not in (None, "") for image in listed):
        marks = f"by {by} and by equal bytes"
    elif by == "group":
        marks = "by equal bytes alone: no image has the key group"
    else:
        keys = ", ".join(sorted({key for image in listed for key in image}))
        raise CocoError(f"{file}: --by {by}: no image has this key; their keys are {keys}")
    groups = _groups(entries, by, file)
    chosen = _drawn(groups, part * len(entries), seed)
    ids = {
        half: {e.number for n, e in enumerate(entries) if (n in chosen) is (half == "val")}
        for half in HALVES
    }
    halves = {half: _of(content, entries, numbers) for half, numbers in ids.items()}
    for half in halves:
        if (out := _beside(file, half)).exists() and MADE not in _info(read_json(out)):
            raise CocoError(
                f"{out} exists and was not written by genseg split: move it away, or give "
                f"{file.name} another name"
            )
    for half, kept in halves.items():
        write_text(_beside(file, half), json.dumps({**content, "info": info, **kept}))
    kept_annotations = sum(len(kept["annotations"]) for kept in halves.values())
    train, val = (_half(_beside(file, half), halves[half], found, ids[half]) for half in HALVES)
    return Split(
        train,
        val,
        groups=len(groups),
        marks=marks,
        unusable=tuple(f for f in found.lost if f.what != KINDS["no image"][0]),
        unlisted=len(content["annotations"]) - kept_annotations,
    )


def _beside(file: Path, half: str) -> Path:
    return file.with_name(f"{file.stem}-{half}.json")


def _of(content: Content, entries: Sequence[Entry], ids: Set[int]) -> Content:
    """The images of these ids and their annotations, as the json has them."""
    return {
        "images": [entry.record for entry in entries if entry.number in ids],
        "annotations": [
            a for a in content["annotations"] if is_among(as_number(a.get("image_id")), ids)
        ],
    }


def _half(file: Path, kept: Content, found: Usable, ids: Set[int]) -> Half:
    """How much is kept, and which categories that have labels have none there."""
    used = {label.category for labels in found.labels.values() for label in labels}
    there = {label.category for n in ids for label in found.labels[n]}
    absent = tuple(name for number, name in found.categories or () if number in used - there)
    return Half(file, len(kept["images"]), len(kept["annotations"]), absent)


def _info(content: Content) -> dict[str, Any]:
    info = content.get("info")
    return dict(info) if isinstance(info, dict) else {}


def _groups(entries: Sequence[Entry], by: str, source: Path) -> list[list[int]]:
    """Numbers of images that belong together, each image in one group, in the order of the json."""
    root: dict[object, int] = {}  # a value of the key, or a digest: the group that it was seen in
    group = list(range(len(entries)))

    def top(n: int) -> int:
        while group[n] != n:
            n = group[n]
        return n

    for n, entry in enumerate(entries):
        marks = [("by", str(entry.record[by]))] if entry.record.get(by) not in (None, "") else []
        if (digest := _digest(entry.path)) is not None:
            marks.append(("bytes", digest))
        for mark in marks:
            group[top(n)] = top(root.setdefault(mark, n))
    members: dict[int, list[int]] = {}
    for n in range(len(entries)):
        members.setdefault(top(n), []).append(n)
    if len(members) < 2:
        raise CocoError(
            f"{source}: its {amount(len(entries), 'image')} cannot be parted: by {by} and by "
            "their bytes they are one group; give more images, or --by another key"
        )
    return list(members.values())


def _digest(path: Path) -> str | None:
    """Of a file's bytes; None where it cannot be read, which fine-tuning says itself."""
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return None


def _drawn(groups: Sequence[Sequence[int]], wanted: float, seed: int) -> set[int]:
    """Images of groups in random order, each taken when that brings their number nearer to what is
    wanted; neither none of the groups nor all of them."""
    order = np.random.default_rng([seed, *b"split"]).permutation(len(groups))
    taken: list[int] = []
    count = 0
    for n in order.tolist():
        size = len(groups[n])
        if abs(count + size - wanted) < abs(count - wanted) and len(taken) < len(groups) - 1:
            taken.append(n)
            count += size
    if not taken:
        taken = [min(order.tolist(), key=lambda n: len(groups[n]))]
    return {image for n in taken for image in groups[n]}
