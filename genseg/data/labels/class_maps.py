"""The class of each pixel: made of a labelled image's instances, or read from a folder of class
maps."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from genseg.data.images.coco_files import CocoError
from genseg.data.images.files import list_images
from genseg.data.images.source import decoded_size
from genseg.data.instances.run_length import windowed
from genseg.data.labels.categories import Categories
from genseg.data.labels.findings import Finding, Findings
from genseg.data.labels.labelled_set import LabelledImage, LabelledSet

IGNORED = 255
NO_MAP = "images without a map of classes"  # what is found in a folder of maps
UNREADABLE = "images or maps that cannot be read"
OTHER_SIZE = "maps of another size than their image"
UNUSED = "classes up to the largest that no map holds"


def semantic_target(image: LabelledImage, classes: int) -> UInt8[np.ndarray, "h w"]:
    """0 is background, class c of `classes` is c + 1, 255 is ignored.

    Where instances overlap the smaller one is seen, of equal ones the later. A crowd is ignored
    where no instance lies. Raises ValueError for too many classes, an image without masks, and a
    map of other classes or another size.
    """
    check_classes(classes, image.path)
    if image.semantic is not None:
        target = read_class_map(image.semantic)
        if target.shape != (image.height, image.width):
            raise ValueError(
                f"{image.semantic}: {target.shape[1]} x {target.shape[0]} pixels, its image has "
                f"{image.width} x {image.height}"
            )
        if (wrong := target[(target > classes) & (target != IGNORED)]).size:
            raise ValueError(
                f"{image.semantic}: it holds {wrong.max()}; there are classes 1 to {classes}, 0 "
                f"is background and {IGNORED} ignored"
            )
        return target
    if image.masks is None:
        raise ValueError(f"{image.name} has boxes alone: the class of each pixel needs masks")
    target = np.zeros((image.height, image.width), np.uint8)
    instances = [windowed(mask) for mask in image.masks]
    order = sorted(range(len(instances)), key=lambda i: (not image.crowd[i], -instances[i].area, i))
    for i in order:
        value = IGNORED if image.crowd[i] else int(image.classes[i]) + 1
        target[instances[i].window][instances[i].mask] = value
    return target


def check_classes(classes: int, source: Path) -> None:
    """Raise CocoError when a map of 8 bits cannot hold so many classes."""
    if not 0 < classes < IGNORED:
        raise CocoError(
            f"{source}: {classes} classes, and a map of 8 bits holds 1 to {IGNORED - 1}"
        )


def read_class_map(path: Path) -> UInt8[np.ndarray, "h w"]:
    """A PNG of class indices, grey or with a palette. Raises CocoError for another kind of
    image."""
    with Image.open(path) as image:
        if image.mode not in ("1", "L", "P", "I", "I;16"):
            raise CocoError(
                f"{path}: a map of classes is a PNG with a palette or grey, each value one class; "
                f"got {image.mode}"
            )
        x = np.asarray(image)
    if x.max(initial=0) > IGNORED:
        raise CocoError(
            f"{path}: it holds {x.max()}; classes are 1 to {IGNORED - 1}, {IGNORED} is ignored"
        )
    return x.astype(np.uint8)


def read_mask_folder(
    images: Path, masks: Path, *, categories: Categories | None = None
) -> tuple[LabelledSet, Findings]:
    """Images with the class maps of the same names: `images/a/1.jpg` with `masks/a/1.png`.

    categories: those of the training split; None: one for each number up to the largest in the
        maps, named by it, or by classes.txt beside the folder of maps: a name a line, that of class
        1 first

    What cannot be decoded to its end is left out. Raises CocoError when no image has a map, and
    when the maps hold 0 and 255 alone, which would ignore all objects.
    """
    listed = list_images(images)
    maps = [(masks / file).with_suffix(".png") for file in listed.files]
    found, values = [], set[int]()
    wrong: dict[str, list[str]] = {what: [] for what in (NO_MAP, UNREADABLE, OTHER_SIZE)}
    with ThreadPoolExecutor(8) as pool:  # decoding leaves the interpreter to the others
        pairs = list(pool.map(_pair, map(listed.path, range(len(listed))), maps))
    for n, (file, semantic, pair) in enumerate(zip(listed.files, maps, pairs, strict=True)):
        if pair.wrong:
            wrong[pair.wrong].append(f"{file}{pair.why}")
            continue
        values |= pair.values
        nothing = np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool)
        found.append(
            LabelledImage(
                listed.path(n),
                file,
                n + 1,
                *pair.size,
                "",
                *nothing,
                masks=None,
                semantic=semantic,
                reading=listed.reading,
            )
        )
    if not found:
        raise CocoError(
            f"{masks}: none of {len(listed)} images of {images} has a map of its name and size "
            f"there, as {masks / Path(listed.files[0]).with_suffix('.png')}"
        )
    if values <= {0, IGNORED}:
        raise CocoError(
            f"{masks}: the maps hold only {sorted(values)}, and {IGNORED} is ignored; write class "
            "1 as 1"
        )
    most = max(values - {IGNORED})
    unused = sorted(set(range(1, most + 1)) - values) if categories is None else []
    if categories is None:
        categories = _named(masks.parent / "classes.txt", most)
    elif most > len(categories):
        raise CocoError(
            f"{masks}: the maps hold class {most}, the training split has {len(categories)}"
        )
    findings = _findings(wrong, unused if 2 * len(unused) > most else [])
    return LabelledSet(masks, categories, tuple(found)), findings


def _findings(wrong: Mapping[str, Sequence[str]], unused: Sequence[int]) -> Findings:
    """What was left out and why, and the classes that no map has."""
    found = [
        Finding(what, len(where), where[0], "left out") for what, where in wrong.items() if where
    ]
    if unused:
        word = "nothing teaches them; are the maps grey pictures, or resized smoothly?"
        found.append(Finding(UNUSED, len(unused), f"class {unused[0]}", word))
    return tuple(found)


def _named(file: Path, most: int) -> Categories:
    """Classes 1 ... `most`, and those that a file names beyond. Raises CocoError when it names
    fewer."""
    names = [str(n) for n in range(1, most + 1)]
    if file.is_file():
        names = [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
        if len(names) < most or len(set(names)) < len(names):
            raise CocoError(
                f"{file} has {len(set(names))} different names, and the maps hold class {most}; "
                "write a name on each line, that of class 1 first (0 is background)"
            )
    return tuple(enumerate(names, start=1))


@dataclass(frozen=True)
class _Pair:
    """What is wrong with an image and its map, and why; when nothing is, their size and the values
    of the map."""

    wrong: str = ""
    why: str = ""
    size: tuple[int, int] = (0, 0)
    values: frozenset[int] = frozenset()


def _pair(path: Path, semantic: Path) -> _Pair:
    """Decode an image and its map to their ends. Raises CocoError for a map that is no map of
    classes."""
    if not semantic.is_file():
        return _Pair(NO_MAP)
    try:
        target, size = read_class_map(semantic), decoded_size(path)
    except CocoError:
        raise
    except Exception as error:  # damaged files make PIL's plugins raise nearly anything
        return _Pair(UNREADABLE, f": {error}")
    if target.shape != size:
        return _Pair(
            OTHER_SIZE, f": {size[1]} x {size[0]}, its map {target.shape[1]} x {target.shape[0]}"
        )
    return _Pair(size=size, values=frozenset(np.unique(target).tolist()))
