"""The class of each pixel: made of a labelled image's instances, or read from a folder of class maps."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from genseg.data.decode import decoded_size
from genseg.data.images import list_images
from genseg.data.instances import CocoError
from genseg.data.labelled import Categories, LabelledImage, LabelledSet
from genseg.data.preflight import Finding, Findings
from genseg.data.run_length import windowed

IGNORED = 255


def semantic_target(image: LabelledImage, classes: int) -> UInt8[np.ndarray, "h w"]:
    """0 is background, class c of `classes` is c + 1, 255 is ignored.

    Where instances overlap the smaller one is seen, of equal ones the later. A crowd is ignored where no instance lies.
    Raises ValueError for too many classes, an image without masks, and a map of other classes or another size.
    """
    if not 0 < classes < IGNORED:
        raise ValueError(f"{classes} classes: a map of 8 bits holds 1 to {IGNORED - 1}")
    if image.semantic is not None:
        target = read_class_map(image.semantic)
        if target.shape != (image.height, image.width):
            raise ValueError(f"{image.semantic}: {target.shape[1]} x {target.shape[0]} pixels, its image has "
                             f"{image.width} x {image.height}")  # fmt: skip
        if (wrong := target[(target > classes) & (target != IGNORED)]).size:
            raise ValueError(f"{image.semantic}: it holds {wrong.max()}; there are classes 1 to {classes}, 0 is "
                             f"background and {IGNORED} ignored")  # fmt: skip
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


def read_class_map(path: Path) -> UInt8[np.ndarray, "h w"]:
    """A PNG of class indices, grey or with a palette. Raises ValueError for another kind of image."""
    with Image.open(path) as image:
        if image.mode not in ("1", "L", "P", "I", "I;16"):
            raise ValueError(f"{path}: a map of classes is a PNG with a palette or grey, each value one class; "
                             f"got {image.mode}")  # fmt: skip
        x = np.asarray(image)
    if x.max(initial=0) > IGNORED:
        raise ValueError(f"{path}: it holds {x.max()}; classes are 1 to {IGNORED - 1}, {IGNORED} is ignored")
    return x.astype(np.uint8)


def read_mask_folder(
    images: Path, masks: Path, *, categories: Categories | None = None
) -> tuple[LabelledSet, Findings]:
    """Images with the class maps of the same names: `images/a/1.jpg` with `masks/a/1.png`.

    categories: those of the training split; None: one for each number up to the largest in the maps, named by it

    What cannot be decoded to its end is left out. Raises CocoError when no image has a map, and when the maps hold 0
    and 255 alone, which would ignore all objects.
    """
    listed = list_images(images)
    found, values = [], set[int]()
    missing, broken, sizes = list[str](), list[str](), list[str]()
    for n, file in enumerate(listed.files):
        path, semantic = listed.path(n), (masks / file).with_suffix(".png")
        if not semantic.is_file():
            missing.append(file)
            continue
        try:
            mapped, size = decoded_size(semantic), decoded_size(path)
        except ValueError as error:
            broken.append(f"{file}: {error}")
            continue
        if size != mapped:
            sizes.append(f"{file}: {size[1]} x {size[0]}, its map {mapped[1]} x {mapped[0]}")
            continue
        values |= set(np.unique(read_class_map(semantic)).tolist())
        nothing = np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool)
        found.append(LabelledImage(path, file, n + 1, *size, "", *nothing, masks=None, semantic=semantic))
    if not found:
        raise CocoError(f"{masks}: none of {len(listed)} images of {images} has a map of its name and size there, as "
                        f"{masks / Path(listed.files[0]).with_suffix('.png')}")  # fmt: skip
    if values <= {0, IGNORED}:
        raise CocoError(f"{masks}: the maps hold only {sorted(values)}, and {IGNORED} is ignored; write class 1 as 1")
    most = max(values - {IGNORED})
    if categories is None:
        categories = tuple((n, str(n)) for n in range(1, most + 1))
    elif most > len(categories):
        raise CocoError(f"{masks}: the maps hold class {most}, the training split has {len(categories)}")
    kinds = (
        ("images without a map of classes", missing),
        ("images or maps that cannot be read", broken),
        ("maps of another size than their image", sizes),
    )
    findings = tuple(Finding(what, len(where), where[0], "left out") for what, where in kinds if where)
    return LabelledSet(masks, categories, tuple(found)), findings
