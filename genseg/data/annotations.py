"""COCO's json: its images with what is annotated in them, read and written, and told when it is damaged."""

import hashlib
import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from genseg.data.images import file_bytes
from genseg.data.instances import Instance, filled
from genseg.data.run_length import code_segmentation, encode, windowed

NAME_BYTES = 255  # of a file's name, the most on nearly all disks


class CocoError(ValueError):
    """A COCO json that cannot be used; the message says where and why."""


@dataclass(frozen=True)
class AnnotatedImage:
    """An image and what is labelled, or was found, in it: n instances, in the order of the json.

    numbers: the ids of the annotations
    boxes: left, top, width, height in pixels, as the json has them (COCO's are not exactly those of its masks)
    areas: in pixels, as the json has them
    crowd: a region that holds many: to find it, or a part of it, is neither right nor wrong
    outlined: their masks are known; if not, each instance is its whole box
    kind: what kind of image it is, where the json says so
    alphas: the soft alpha maps of the instances, where they are known
    """

    name: str
    height: int
    width: int
    instances: tuple[Instance, ...]
    numbers: tuple[int, ...]
    boxes: Float[np.ndarray, "n 4"]
    areas: Float[np.ndarray, "n"]
    crowd: Bool[np.ndarray, "n"]
    outlined: bool = True
    kind: str = ""
    alphas: tuple[Instance, ...] | None = None


def load_json(path: Path) -> Any:
    """Whatever json a file holds. Raises CocoError when it is missing or no json."""
    try:
        return json.loads(path.read_bytes())  # in any of json's encodings, with or without a byte order mark
    except (OSError, ValueError, RecursionError) as error:
        raise CocoError(f"{path} cannot be read as a COCO json: {error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """A COCO json with `images` and `annotations`. Raises CocoError when it is no such thing."""
    content = load_json(path)
    missing = [k for k in ("images", "annotations") if not isinstance(content, dict) or k not in content]
    if missing:
        raise CocoError(f"{path} is no COCO json of a data set: it has no {' and no '.join(missing)}")
    if wrong := [k for k in ("images", "annotations") if not isinstance(content[k], list)]:
        raise CocoError(f"{path}: {wrong[0]} is {str(content[wrong[0]])[:40]}, and has to be a list")
    return content


def annotation(instance: Instance, *, number: int, image: int, height: int, width: int) -> dict[str, Any]:
    """An instance as a COCO annotation of category 1. Numbers begin at 1: pycocotools takes 0 for unmatched."""
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "area": instance.area,
        "bbox": list(instance.box),
        "segmentation": encode(instance, height, width),
        "score": round(instance.score, 5),
    }


def group_by_image(annotations: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    """Annotations by image id."""
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for a in annotations:
        groups.setdefault(int(a["image_id"]), []).append(a)
    return groups


def annotate(
    instances: Sequence[Instance], *, height: int, width: int, name: str = "", kind: str = ""
) -> AnnotatedImage:
    """An image with instances as they are in memory, none of them a crowd; their alphas count as known."""
    boxes = np.array([i.box for i in instances], float).reshape(-1, 4)
    areas = np.array([i.area for i in instances], float)
    crowd = np.zeros(len(instances), bool)
    found = tuple(instances)
    numbers = tuple(range(1, len(found) + 1))
    return AnnotatedImage(name, height, width, found, numbers, boxes, areas, crowd, kind=kind, alphas=found)


def annotated_images(
    images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]], source: Path
) -> list[AnnotatedImage]:
    """The images of a COCO json with their annotations, of all categories. `source` is the file, for messages.

    Annotations without a score get 1, those without a box or an area that of the mask. Raises CocoError when an
    annotation or an image cannot be used, and when some annotations have a segmentation and others have none.
    """
    try:
        sizes = {int(i["id"]): (str(i["file_name"]), int(i["height"]), int(i["width"])) for i in images}
        groups = group_by_image(annotations)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CocoError(
            f"{source}: an image needs id, file_name, height and width, an annotation image_id; got {error!r}"
        ) from None
    if len(sizes) < len(images):
        raise CocoError(f"{source}: {len(images)} images have {len(sizes)} ids; give each an id of its own")
    if unknown := groups.keys() - sizes.keys():
        count = sum(len(groups[i]) for i in unknown)
        raise CocoError(f"{source}: {count} annotations are of images that are not listed, the first has image_id "
                        f"{min(unknown)}; each image_id has to be an id of `images`, of a list of results in the "
                        "data that it is for")  # fmt: skip
    outlined = [bool(a.get("segmentation")) or a.get("segmentation") == [] for a in annotations]
    if any(outlined) and not all(outlined):
        number = annotations[outlined.index(False)].get("id", "without id")
        raise CocoError(f"{source}: {outlined.count(False)} of {len(outlined)} annotations have no segmentation, the "
                        f"first is {number}; give one to all, or to none for boxes alone")  # fmt: skip
    kinds = {int(i["id"]): str(i.get("kind", "")) for i in images}
    return [
        _annotated(name, height, width, groups.get(number, []), kinds[number], all(outlined), source)
        for number, (name, height, width) in sizes.items()
    ]


def by_file(images: Sequence[AnnotatedImage], source: Path) -> dict[str, AnnotatedImage]:
    """The images of the json `source` by `file_key`. Raises CocoError when two have the same."""
    named = {file_key(image.name): image for image in images}
    if len(named) < len(images):
        raise CocoError(f"{source}: {len(images)} images have {len(named)} file names; list a file once")
    return named


def file_key(name: str) -> str:
    """A file_name as it is compared: a json names images relative to itself or to the images/ beside it."""
    return posixpath.normpath(name).removeprefix("images/")


def picture_name(file_name: str, number: int) -> str:
    """Where the alpha map or the cut-out of an annotation lies in the folder of all: as its image, never outside."""
    return named_after(Path(file_name).with_suffix(""), f"-{number}.png")


def named_after(image: Path, ending: str) -> str:
    """Where a file that is made of an image lies in the folder of all: as its image, never outside, with `ending` after
    its name. A name that would be too long for a disk keeps its beginning, and a hash of the whole keeps it unique."""
    *folders, name = [part for part in image.parts if part not in ("/", "..")]
    data = file_bytes(name)
    if len(data) + len(ending) > NAME_BYTES:
        tail = f"~{hashlib.blake2b(data, digest_size=4).hexdigest()}"
        name = data[: NAME_BYTES - len(ending) - len(tail)].decode("utf-8", "ignore") + tail
    return "/".join((*folders, f"{name}{ending}"))


def _annotated(
    name: str, height: int, width: int, found: Sequence[Mapping[str, Any]], kind: str, outlined: bool, source: Path
) -> AnnotatedImage:
    instances, numbers = [], list[int]()
    boxes = np.empty((len(found), 4))
    areas = np.empty(len(found))
    for n, a in enumerate(found):
        try:
            numbers.append(int(a.get("id", n + 1)))
            instance = _instance(a, height, width)
            boxes[n] = a.get("bbox", instance.box)
            areas[n] = a.get("area", instance.area)
            if not np.isfinite([*boxes[n], areas[n], instance.score]).all():
                raise ValueError("box, area and score have to be finite")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CocoError(f"{source}: annotation {a.get('id', n)} of {name} cannot be used: {error}") from None
        instances.append(instance)
    crowd = np.array([bool(a.get("iscrowd", 0)) for a in found], bool)
    return AnnotatedImage(name, height, width, tuple(instances), tuple(numbers), boxes, areas, crowd, outlined, kind)


def _instance(a: Mapping[str, Any], height: int, width: int) -> Instance:
    score = float(a.get("score", 1.0))
    if a.get("segmentation") is not None:
        return replace(windowed(code_segmentation(a["segmentation"], height, width)), score=score)
    left, top, w, h = (float(v) for v in a["bbox"])
    return filled((left, top, left + w, top + h), height, width, score)
