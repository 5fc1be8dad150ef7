"""An instance: one alpha map in an image, kept inside its window; and the COCO json that holds many."""

import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from pycocotools import mask as rle

OPAQUE = 255  # an alpha of 1
HALF = 128  # from here on a pixel belongs to the mask
FAR = 10  # sides of the image: a polygon with a point further away is damaged, and would take memory without end


class CocoError(ValueError):
    """A COCO json that cannot be used; the message says where and why."""


@dataclass(frozen=True)
class Instance:
    """One alpha map, generated or proposed, cut to a window outside of which it is 0.

    alpha: 255 is opaque, 0 is nothing
    top, left: the window's first pixel in the image
    score: in [0, 1]; only the order of scores within one source means something, unless it says more
    category: which class it is, from 0, where classes are known
    """

    alpha: UInt8[np.ndarray, "h w"]
    top: int
    left: int
    score: float = 1.0
    category: int = 0

    @property
    def mask(self) -> Bool[np.ndarray, "h w"]:
        """Pixels of the window that belong to it."""
        return self.alpha >= HALF

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(self.mask.sum())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of the mask, in pixels of the image (COCO's order)."""
        left, top, w, h = cv2.boundingRect(self.mask.astype(np.uint8))
        return self.left + left, self.top + top, w, h

    @property
    def window(self) -> tuple[slice, slice]:
        """Where it lies: `image[instance.window]` has the shape of its alpha."""
        h, w = self.alpha.shape
        return slice(self.top, self.top + h), slice(self.left, self.left + w)

    def paint(self, height: int, width: int) -> UInt8[np.ndarray, "height width"]:
        """The alpha map of the whole image."""
        whole = np.zeros((height, width), np.uint8)
        whole[self.window] = self.alpha
        return whole


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


def cut(alpha: UInt8[np.ndarray, "h w"], score: float = 1.0) -> Instance:
    """The instance of a whole image's alpha map; of one pixel, which is 0, when the map is 0 everywhere."""
    return _window(alpha, cv2.boundingRect(alpha), float(score))


def _window(alpha: UInt8[np.ndarray, "h w"], box: Sequence[int], score: float) -> Instance:
    left, top, w, h = box
    return Instance(np.ascontiguousarray(alpha[top : top + max(h, 1), left : left + max(w, 1)]), top, left, score)


def cut_instance(alpha: UInt8[np.ndarray, "h w"] | Bool[np.ndarray, "h w"], score: float = 1.0) -> Instance | None:
    """The instance of a whole image's alpha map or mask; None when no pixel belongs to its mask."""
    alpha = alpha.astype(np.uint8) * OPAQUE if alpha.dtype == bool else alpha
    if alpha.max(initial=0) < HALF:
        return None
    return cut(alpha, score)


def filled(box: Sequence[float], height: int, width: int, score: float = 1.0) -> Instance:
    """The instance that is all of a box, a pixel or more: left, top, right, bottom in an image of that size."""
    left, top, right, bottom = (max(0, round(v)) for v in box)
    left, top = min(left, width - 1), min(top, height - 1)
    whole = np.zeros((height, width), np.uint8)
    whole[top : max(bottom, top + 1), left : max(right, left + 1)] = OPAQUE
    return cut(whole, score)


def resized(instance: Instance, before: tuple[int, int], after: tuple[int, int]) -> Instance | None:
    """An instance of an image of the size `before` (height, width) in the pixels of the same image at the size `after`.

    Enlarged bilinearly, shrunk by what each new pixel is covered. None when nothing of its mask is left.
    """
    (h, w), (sy, sx) = instance.alpha.shape, (after[0] / before[0], after[1] / before[1])
    top, bottom = int(instance.top * sy), min(after[0], int(np.ceil((instance.top + h) * sy)))
    left, right = int(instance.left * sx), min(after[1], int(np.ceil((instance.left + w) * sx)))
    if bottom <= top or right <= left:
        return None
    if min(sy, sx) >= 1:
        shift = ((instance.left + 0.5) * sx - 0.5 - left, (instance.top + 0.5) * sy - 0.5 - top)
        matrix = np.array([[sx, 0, shift[0]], [0, sy, shift[1]]])
        alpha = cv2.warpAffine(instance.alpha, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    else:
        down, across = _coverage(h, instance.top, sy, top, bottom), _coverage(w, instance.left, sx, left, right)
        alpha = np.clip(down @ instance.alpha @ across.T, 0, OPAQUE).round().astype(np.uint8)
    found = cut_instance(alpha, instance.score)
    return None if found is None else Instance(found.alpha, found.top + top, found.left + left, found.score)


def _coverage(n: int, first: int, scale: float, start: int, stop: int) -> Float[np.ndarray, "{stop-start} {n}"]:
    """How much of each of the pixels start ... stop - 1 is covered by each of the n that begin at `first`, scaled."""
    a = (first + np.arange(n)) * scale
    at = np.arange(start, stop)[:, None]
    return np.clip(np.minimum(a + scale, at + 1) - np.maximum(a, at), 0, None)


def mirrored(instance: Instance, width: int) -> Instance:
    """The instance in the image of that width flipped left to right."""
    alpha = np.ascontiguousarray(instance.alpha[:, ::-1])
    return Instance(alpha, instance.top, width - instance.left - alpha.shape[1], instance.score)


def encode(instance: Instance, height: int, width: int) -> dict[str, Any]:
    """COCO's compressed RLE of the mask, with `counts` as text."""
    whole = np.zeros((height, width), np.uint8, order="F")
    whole[instance.window] = instance.mask
    found = rle.encode(whole)
    return {"size": [height, width], "counts": found["counts"].decode()}


def code_segmentation(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """A COCO segmentation (polygons, RLE with a list or with text) as COCO's compressed RLE.

    Raises ValueError for what is none of them. Polygons of fewer than three points hold nothing and are left out:
    pycocotools takes one of four numbers for a box, and raises. A point that is no number, or far away, ends the
    process there, or takes it minutes.
    """
    if isinstance(segmentation, list):
        polygons = [p for p in segmentation if len(p) >= 6]
        if bad := next((p for p in polygons if not is_polygon(p, height, width)), None):
            raise ValueError(f"a polygon needs pairs of numbers within {FAR} sides of the image, got {str(bad)[:60]}")
        if not polygons:
            return rle.encode(np.zeros((height, width), np.uint8, order="F"))
        return rle.merge(rle.frPyObjects(polygons, height, width))
    if isinstance(segmentation, Mapping) and "counts" in segmentation:
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(f"its size is {segmentation['size']}, the image's [{height}, {width}]")
        counts = segmentation["counts"]
        if isinstance(counts, list) and not all(isinstance(n, int) and n >= 0 for n in counts):
            raise ValueError("counts of an RLE are whole numbers from 0 on")
        return rle.frPyObjects(dict(segmentation), height, width) if isinstance(counts, list) else dict(segmentation)
    raise ValueError("it is neither a list of polygons nor an RLE with size and counts")


def is_polygon(numbers: Any, height: int, width: int) -> bool:
    """At least three points, none of them infinite or absurdly far outside of an image of that size."""
    try:
        x = np.asarray(numbers, float)
    except (TypeError, ValueError):
        return False
    return x.ndim == 1 and len(x) >= 6 and len(x) % 2 == 0 and bool((np.abs(x) <= FAR * max(height, width)).all())


def decode_segmentation(segmentation: Any, height: int, width: int) -> UInt8[np.ndarray, "height width"]:
    """A COCO segmentation as a mask of 0 and 1. Raises ValueError as code_segmentation does."""
    return np.asarray(rle.decode(code_segmentation(segmentation, height, width)), np.uint8)


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
    inside = [part for part in Path(file_name).with_suffix("").parts if part not in ("/", "..")]
    return f"{'/'.join(inside)}-{number}.png"


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
        coded = code_segmentation(a["segmentation"], height, width)
        box = rle.toBbox(coded).astype(int).tolist()  # exact, and faster than to look for it in the mask
        return _window(rle.decode(coded) * np.uint8(OPAQUE), box, score)
    left, top, w, h = (float(v) for v in a["bbox"])
    return filled((left, top, left + w, top + h), height, width, score)
