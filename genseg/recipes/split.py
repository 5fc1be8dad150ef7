"""A labelled COCO json in two: images to fine-tune on, and images that measure it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genseg.core.check import between
from genseg.core.words import amount
from genseg.data.annotations import CocoError, file_key, read_json
from genseg.data.images import ImageList, list_images
from genseg.train.run import write_text

Content = Mapping[str, Any]
MADE = "genseg split"  # a key of `info`: what a half was made with


def split_labels(file: Path, *, part: float = 0.3, by: str = "group", seed: int = 0) -> str:
    """Write FILE-train.json and FILE-val.json beside a COCO json, so that both find the images where it does; says
    what is in them. The same file, part, key and seed give the same two; only halves are written over.

    part: of the images goes to val, as nearly as whole groups allow; at least one goes to each
    by: images with an equal value of this key of `images` stay together, such as tiles of one field; an image without
    it is alone. Files with equal bytes stay together, too

    Raises CocoError or ValueError for what a user can mend.
    """
    between(0, 1, val=part)
    content = read_json(file)
    listed, annotations = content["images"], content["annotations"]
    groups = _groups(listed, list_images(file), by, file)
    if len(groups) < 2:
        raise CocoError(f"{file}: its {amount(len(listed), 'image')} cannot be parted: by {by} and by their bytes they "
                        "are one group; give more images, or --by another key")  # fmt: skip
    halves = {half: file.with_name(f"{file.stem}-{half}.json") for half in ("train", "val")}
    for out in halves.values():
        if out.exists() and MADE not in _info(read_json(out)):
            raise CocoError(f"{out} is there and not of genseg split: move it away, or give {file.name} another name")
    chosen = _drawn(groups, part * len(listed), seed)
    info = {**_info(content), MADE: {"of": file.name, "val": part, "by": by, "seed": seed}}
    said = []
    for half, out in halves.items():
        images = [image for n, image in enumerate(listed) if (n in chosen) is (half == "val")]
        ids = {image["id"] for image in images}
        kept = [a for a in annotations if a.get("image_id") in ids]
        write_text(out, json.dumps({**content, "info": info, "images": images, "annotations": kept}))
        what = f"{amount(len(images), 'image')}, {amount(len(kept), 'annotation')}"
        said.append(f"{out}: {what}{_missing(content, kept)}")
    said.append(f"{amount(len(groups), 'group')} by {by} and by equal bytes; none is in both")
    return "\n".join(said)


def _info(content: Content) -> dict[str, Any]:
    info = content.get("info")
    return dict(info) if isinstance(info, dict) else {}


def _groups(listed: Sequence[Content], files: ImageList, by: str, source: Path) -> list[list[int]]:
    """Numbers of images that belong together, each image in one group, in the order of the json."""
    try:
        ids = [image["id"] for image in listed]
        names = [file_key(image["file_name"]) for image in listed]
    except (KeyError, TypeError) as error:
        raise CocoError(f"{source}: an image needs id and file_name; got {error!r}") from None
    if len(set(map(str, ids))) < len(ids):
        raise CocoError(f"{source}: {len(ids)} images have {len(set(map(str, ids)))} ids; give each an id of its own")
    paths = {file_key(file): files.path(n) for n, file in enumerate(files.files)}
    root: dict[object, int] = {}  # a value of the key, or a digest: the group that it was seen in
    group = list(range(len(listed)))

    def top(n: int) -> int:
        while group[n] != n:
            n = group[n]
        return n

    for n, (image, name) in enumerate(zip(listed, names, strict=True)):
        marks = [("by", str(image[by]))] if image.get(by) not in (None, "") else []
        if (digest := _digest(paths[name])) is not None:
            marks.append(("bytes", digest))
        for mark in marks:
            group[top(n)] = top(root.setdefault(mark, n))
    members: dict[int, list[int]] = {}
    for n in range(len(listed)):
        members.setdefault(top(n), []).append(n)
    return list(members.values())


def _digest(path: Path) -> str | None:
    """Of a file's bytes; None where it cannot be read, which fine-tuning says itself."""
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return None


def _drawn(groups: Sequence[Sequence[int]], wanted: float, seed: int) -> set[int]:
    """Images of groups in random order, each taken when that brings their number nearer to what is wanted; neither
    none of the groups nor all of them."""
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


def _missing(content: Content, kept: Sequence[Content]) -> str:
    """Which categories of the whole json have no annotation here."""
    there = {a.get("category_id") for a in kept}
    used = {a.get("category_id") for a in content["annotations"]}
    names = [str(c.get("name")) for c in content.get("categories") or () if c.get("id") in used - there]
    return f"; none of {', '.join(names)}" if names else ""
