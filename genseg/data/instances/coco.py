"""COCO's json: its images with what is annotated in them, read and written, and told when it is
damaged."""

import hashlib
import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from genseg.core.paths import file_bytes
from genseg.data.images.coco_files import CocoError, load_json, slashed
from genseg.data.instances.instance import Instance
from genseg.data.instances.run_length import encode

NAME_BYTES = 255  # of a file's name, the most on nearly all disks


@dataclass(frozen=True)
class AnnotatedImage:
    """An image and what is labelled, or was found, in it: n instances, in the order of the json.

    numbers: the ids of the annotations
    boxes_xywh: left, top, width, height in pixels, as the json has them (COCO's are not exactly
        those of its masks)
    areas: in pixels, as the json has them
    crowd: a region that holds many: to find it, or a part of it, is neither right nor wrong
    outlined: their masks are known; if not, each instance is its whole box
    kind: what kind of image it is, where the json says so
    alphas: the soft alpha maps of the instances, where they are known
    page: which image of its file it is, from 1; 0: the only one
    """

    name: str
    height: int
    width: int
    instances: tuple[Instance, ...]
    numbers: tuple[int, ...]
    boxes_xywh: Float[np.ndarray, "n 4"]
    areas: Float[np.ndarray, "n"]
    crowd: Bool[np.ndarray, "n"]
    outlined: bool = True
    kind: str = ""
    alphas: tuple[Instance, ...] | None = None
    page: int = 0

    @property
    def title(self) -> str:
        """As it is told."""
        return f"{self.name} (image {self.page})" if self.page else self.name

    @property
    def key(self) -> str:
        """By which it is compared with the images of other jsons: its file, and which of its
        images it is."""
        return file_key(self.name) + (f" (image {self.page})" if self.page else "")


def read_json(path: Path) -> dict[str, Any]:
    """A COCO json with `images` and `annotations`. Raises CocoError when it is no such thing."""
    content = load_json(path)
    missing = [
        k for k in ("images", "annotations") if not isinstance(content, dict) or k not in content
    ]
    if missing:
        raise CocoError(
            f"{path} is no COCO json of a data set: it has no {' and no '.join(missing)}"
        )
    if wrong := [k for k in ("images", "annotations") if not isinstance(content[k], list)]:
        raise CocoError(
            f"{path}: {wrong[0]} is {str(content[wrong[0]])[:40]}, and has to be a list"
        )
    if not all(isinstance(a, dict) for a in content["annotations"]):
        raise CocoError(f"{path}: an annotation is no mapping; write each as {{...}}")
    return content


def annotation(
    instance: Instance, *, number: int, image: int, height: int, width: int
) -> dict[str, Any]:
    """An instance as a COCO annotation of category 1. Numbers begin at 1: pycocotools takes 0 for
    unmatched."""
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "area": instance.area,
        "bbox": list(instance.box_xywh),
        "segmentation": encode(instance, height, width),
        "score": round(instance.score, 5),
    }


def annotate(
    instances: Sequence[Instance], *, height: int, width: int, name: str = "", kind: str = ""
) -> AnnotatedImage:
    """An image with instances as they are in memory, none of them a crowd; their alphas count as
    known."""
    boxes = np.array([i.box_xywh for i in instances], float).reshape(-1, 4)
    areas = np.array([i.area for i in instances], float)
    crowd = np.zeros(len(instances), bool)
    found = tuple(instances)
    numbers = tuple(range(1, len(found) + 1))
    return AnnotatedImage(
        name, height, width, found, numbers, boxes, areas, crowd, kind=kind, alphas=found
    )


def by_file(images: Sequence[AnnotatedImage]) -> dict[str, AnnotatedImage]:
    """Images of which no two are the same one of a file, by their keys."""
    return {image.key: image for image in images}


def file_key(name: str) -> str:
    """A file_name as it is compared: a json names images relative to itself or to the images/
    beside it."""
    return posixpath.normpath(slashed(name)).removeprefix("images/")


def picture_name(file_name: str, number: int) -> str:
    """Where the alpha map or the cut-out of an annotation lies in the folder of all: as its image,
    never outside."""
    return named_after(Path(file_name).with_suffix(""), f"-{number}.png")


def named_after(image: Path, ending: str) -> str:
    """Where a file that is made of an image lies in the folder of all: as its image, never outside,
    with `ending` after its name. A name that would be too long for a disk keeps its beginning, and
    a hash of the whole keeps it unique."""
    *folders, name = [part for part in image.parts if part not in ("/", "..")]
    data = file_bytes(name)
    if len(data) + len(ending) > NAME_BYTES:
        tail = f"~{hashlib.blake2b(data, digest_size=4).hexdigest()}"
        name = data[: NAME_BYTES - len(ending) - len(tail)].decode("utf-8", "ignore") + tail
    return "/".join((*folders, f"{name}{ending}"))


def named_after_each(images: Sequence[str], ending: str) -> list[str]:
    """`named_after` for each image without its suffix; of images that differ in their suffix alone
    each keeps its own."""
    plain = [Path(image).with_suffix("") for image in images]
    count = Counter(plain)
    names = [Path(image) if count[p] > 1 else p for image, p in zip(images, plain, strict=True)]
    return [named_after(name, ending) for name in names]
