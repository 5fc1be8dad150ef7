"""An instance: one alpha map in an image, kept inside its window."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

OPAQUE = 255  # an alpha of 1
HALF = 128  # from here on a pixel belongs to the mask


@dataclass(frozen=True)
class Instance:
    """One alpha map, generated or proposed, cut to a window outside of which it is 0.

    alpha: 255 is opaque, 0 is nothing
    top, left: the window's first pixel in the image
    score: in [0, 1]; only the order of scores within one source means something, unless it says
        more
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
    def box_xywh(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of the mask, in pixels of the image (COCO's order)."""
        left, top, w, h = cv2.boundingRect(self.mask.astype(np.uint8))
        return self.left + left, self.top + top, w, h

    @property
    def window(self) -> tuple[slice, slice]:
        """Where it lies: `image[instance.window]` has the shape of its alpha."""
        h, w = self.alpha.shape
        return slice(self.top, self.top + h), slice(self.left, self.left + w)

    def covers(self, y: int, x: int) -> bool:
        """Whether a pixel of the image belongs to its mask."""
        (h, w), row, column = self.alpha.shape, y - self.top, x - self.left
        return 0 <= row < h and 0 <= column < w and bool(self.alpha[row, column] >= HALF)

    def within(self, rows: slice, columns: slice) -> UInt8[np.ndarray, "_ _"]:
        """Its alpha in a window of the image."""
        alpha = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        y, x = self.window
        top, left = max(rows.start, y.start), max(columns.start, x.start)
        bottom, right = min(rows.stop, y.stop), min(columns.stop, x.stop)
        if top < bottom and left < right:
            part = self.alpha[top - y.start : bottom - y.start, left - x.start : right - x.start]
            alpha[
                top - rows.start : bottom - rows.start, left - columns.start : right - columns.start
            ] = part
        return alpha

    def paint(self, height: int, width: int) -> UInt8[np.ndarray, "height width"]:
        """The alpha map of the whole image."""
        whole = np.zeros((height, width), np.uint8)
        whole[self.window] = self.alpha
        return whole


def cut(alpha: UInt8[np.ndarray, "h w"], score: float = 1.0) -> Instance:
    """The instance of a whole image's alpha map; of one pixel, which is 0, when the map is 0
    everywhere."""
    left, top, w, h = cv2.boundingRect(alpha)
    window = alpha[top : top + max(h, 1), left : left + max(w, 1)]
    return Instance(np.ascontiguousarray(window), top, left, float(score))


def where_known(
    instances: Iterable[Instance], absent: Bool[np.ndarray, "h w"] | None
) -> list[Instance]:
    """Instances without the pixels in which their image has no value; what is left of none is left
    out."""
    if absent is None:
        return list(instances)
    left = []
    for a in instances:
        alpha = np.where(absent[a.window], 0, a.alpha).astype(np.uint8)
        if (alpha > 0).any() and (rest := replace(a, alpha=alpha)).area:
            left.append(rest)
    return left


def whole_ones(
    instances: Iterable[Instance], absent: Bool[np.ndarray, "h w"] | None
) -> list[Instance]:
    """Instances in whose mask the image has a value everywhere: others are not pasted."""
    if absent is None:
        return list(instances)
    return [a for a in instances if not (absent[a.window] & a.mask).any()]


def cut_instance(
    alpha: UInt8[np.ndarray, "h w"] | Bool[np.ndarray, "h w"], score: float = 1.0
) -> Instance | None:
    """The instance of a whole image's alpha map or mask; None when no pixel belongs to its mask."""
    alpha = alpha.astype(np.uint8) * OPAQUE if alpha.dtype == bool else alpha
    if alpha.max(initial=0) < HALF:
        return None
    return cut(alpha, score)


def filled(box: Sequence[float], height: int, width: int, score: float = 1.0) -> Instance:
    """The instance that is all of a box, a pixel or more: left, top, right, bottom in an image of
    that size."""
    left, top, right, bottom = (max(0, round(v)) for v in box)
    left, top = min(left, width - 1), min(top, height - 1)
    shape = (max(min(bottom, height) - top, 1), max(min(right, width) - left, 1))
    return Instance(np.full(shape, OPAQUE, np.uint8), top, left, score)


def resized(instance: Instance, before: tuple[int, int], after: tuple[int, int]) -> Instance | None:
    """An instance of an image of the size `before` (height, width) in the pixels of the same image
    at the size `after`.

    Enlarged bilinearly, shrunk by what each new pixel is covered. None when nothing of its mask is
    left.
    """
    (h, w), (sy, sx) = instance.alpha.shape, (after[0] / before[0], after[1] / before[1])
    larger = min(sy, sx) >= 1
    fade = 0.5 if larger else 0.0  # pixels around the window that a bilinear one reaches
    top, left = (
        max(0, int((a - fade) * s + fade)) for a, s in ((instance.top, sy), (instance.left, sx))
    )
    bottom, right = (
        min(limit, int(np.ceil((a + n + fade) * s - fade)))
        for a, n, s, limit in ((instance.top, h, sy, after[0]), (instance.left, w, sx, after[1]))
    )
    if bottom <= top or right <= left:
        return None
    if larger:
        shift = ((instance.left - 0.5) * sx - 0.5 - left, (instance.top - 0.5) * sy - 0.5 - top)
        matrix = np.array([[sx, 0, shift[0]], [0, sy, shift[1]]])
        alpha = cv2.warpAffine(
            _framed(instance, *before), matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR
        )
    else:
        down, across = (
            _coverage(h, instance.top, sy, top, bottom),
            _coverage(w, instance.left, sx, left, right),
        )
        alpha = np.clip(down @ instance.alpha @ across.T, 0, OPAQUE).round().astype(np.uint8)
    found = cut_instance(alpha)
    return (
        None
        if found is None
        else replace(instance, alpha=found.alpha, top=found.top + top, left=found.left + left)
    )


def _framed(instance: Instance, height: int, width: int) -> UInt8[np.ndarray, "y x"]:
    """Its alpha with a pixel more on each side: 0, but beyond the image's edge as at the edge."""
    framed = cv2.copyMakeBorder(instance.alpha, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    rows, columns = instance.window
    framed[0] *= rows.start == 0
    framed[-1] *= rows.stop == height
    framed[:, 0] *= columns.start == 0
    framed[:, -1] *= columns.stop == width
    return framed


def _coverage(
    n: int, first: int, scale: float, start: int, stop: int
) -> Float[np.ndarray, "{stop-start} {n}"]:
    """How much of each of the pixels start ... stop - 1 is covered by each of the n that begin at
    `first`, scaled."""
    a = (first + np.arange(n)) * scale
    at = np.arange(start, stop)[:, None]
    return np.clip(np.minimum(a + scale, at + 1) - np.maximum(a, at), 0, None)


def mirrored(instance: Instance, width: int) -> Instance:
    """The instance in the image of that width flipped left to right."""
    alpha = np.ascontiguousarray(instance.alpha[:, ::-1])
    return replace(instance, alpha=alpha, left=width - instance.left - alpha.shape[1])
