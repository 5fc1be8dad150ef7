"""COCO's segmentations: run-length codes, made and decoded inside the window of the mask alone; and
polygons.

pycocotools codes and decodes a whole image for each mask; of an image with hundreds of nuclei
nearly all is zeros.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Int
from pycocotools import mask as rle

from genseg.data.instances.instance import OPAQUE, Instance

LARGE = 2**31  # pixels from which on pycocotools' 32 bits may not do
LONGEST = 12  # characters of one number: no run of an image is longer
# sides of the image: a polygon with a point further away is damaged, and would take memory without
# end
FAR = 10


def encode(instance: Instance, height: int, width: int) -> dict[str, Any]:
    """COCO's compressed RLE of the mask in an image of that size, with `counts` as text."""
    h, w = instance.alpha.shape
    columns = np.pad(instance.mask.T, ((0, 0), (1, 1)))
    column, row = np.divmod(np.flatnonzero(columns[:, 1:] != columns[:, :-1]), h + 1)
    edges = (instance.left + column) * height + instance.top + row
    if h == height:  # a run from the end of a column into the next one is one
        apart = np.flatnonzero(np.diff(edges) == 0)
        edges = np.delete(edges, np.concatenate([apart, apart + 1]))
    runs = np.diff(edges, prepend=0, append=height * width)
    runs = runs[: len(runs) - (runs[-1] == 0)]
    code = {"size": [height, width], "counts": runs.tolist()}
    if height * width < LARGE:
        return code | {"counts": rle.frPyObjects(code, height, width)["counts"].decode()}
    return code | {"counts": _packed(runs.tolist())}


def run_lengths(code: Mapping[str, Any]) -> Int[np.ndarray, "n"]:
    """Lengths of the runs of 0, 1, 0, 1 ... down the columns, of an RLE with counts as a list or as
    COCO's text.

    Raises ValueError when they are damaged or do not fill its size: pycocotools would write beyond
    its memory.
    """
    height, width = (int(v) for v in code["size"])
    counts = code["counts"]
    if isinstance(counts, str | bytes):
        runs = _unpacked(counts.encode("ascii") if isinstance(counts, str) else counts)
    else:
        runs = np.asarray(counts)
        if runs.ndim != 1 or not runs.size or runs.dtype.kind not in "iu":
            raise ValueError("its counts are no list of whole numbers")
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(
            f"its counts are damaged: they do not sum up to the {height} x {width} pixels of its "
            "size"
        )
    return runs


def _packed(runs: Sequence[int]) -> str:
    """What `_unpacked` takes, of runs that are too long for pycocotools, which counts in 32 bits
    (its rleToString)."""
    text = bytearray()
    for n, run in enumerate(runs):
        value, going = run - (runs[n - 2] if n > 2 else 0), True
        while going:
            bits, value = value & 31, value >> 5
            going = value != (-1 if bits & 16 else 0)
            text.append(bits + 32 * going + 48)
    return text.decode("ascii")


def _unpacked(text: bytes) -> Int[np.ndarray, "n"]:
    """The numbers of COCO's text: 5 bits a character from 48, the least first; bit 32: goes on; the
    last one's bit 16: the sign; from the fourth number on as differences to the last but one
    (rleFrString of pycocotools)."""
    c = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if not c.size or c.min() < 0 or c.max() > 63 or c[-1] & 32:
        raise ValueError("its counts are damaged: they are no run-length text")
    last = (c & 32) == 0
    first = np.flatnonzero(np.append(True, last[:-1]))
    length = np.diff(np.append(first, len(c)))
    if length.max() > LONGEST:
        raise ValueError("its counts are damaged: a number has no end")
    place = np.arange(len(c)) - np.repeat(first, length)
    value = np.add.reduceat((c & 31) << 5 * place, first)
    value -= ((c[last] & 16) >> 4) << 5 * length
    value[1::2] = value[1::2].cumsum()
    value[2::2] = value[2::2].cumsum()
    return value


def windowed(code: Mapping[str, Any]) -> Instance:
    """The mask of an RLE in its own window; of one pixel, which is 0, when the mask is empty."""
    height = int(code["size"][0])
    runs = run_lengths(code)
    ends = runs.cumsum()
    held = np.flatnonzero(runs[1::2])  # runs of 1 that are not empty
    if not held.size:
        return Instance(np.zeros((1, 1), np.uint8), 0, 0)
    left, right = int(ends[2 * held[0]]) // height, (int(ends[2 * held[-1] + 1]) - 1) // height + 1
    first, last = ends[2 * held], ends[2 * held + 1] - 1  # pixels of the runs of 1
    if (first // height == last // height).all():
        top, bottom = int((first % height).min()), int((last % height).max()) + 1
        h = bottom - top
        turns = np.zeros((right - left) * h + 1, np.int8)
        for at, step, more in ((first, 1, 0), (last, -1, 1)):
            turns[(at // height - left) * h + at % height - top + more] += step
        inside = turns[:-1].cumsum(dtype=np.int8).reshape(right - left, h) > 0
        return Instance(np.ascontiguousarray(inside.T).astype(np.uint8) * OPAQUE, top, left)
    edges = np.clip(ends, left * height, right * height)
    value = (np.arange(len(runs)) % 2 * OPAQUE).astype(np.uint8)
    columns = np.repeat(value, np.diff(edges, prepend=left * height)).reshape(right - left, height)
    rows = np.flatnonzero(columns.any(0))
    return Instance(np.ascontiguousarray(columns[:, rows[0] : rows[-1] + 1].T), int(rows[0]), left)


def code_segmentation(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """A COCO segmentation (polygons, RLE with a list or with text) as COCO's compressed RLE.

    Raises ValueError for what is none of them. Polygons of fewer than three points hold nothing and
    are left out: pycocotools takes one of four numbers for a box, and raises. A point that is no
    number, or far away, ends the process there, or takes it minutes.
    """
    if isinstance(segmentation, list):
        polygons = [p for p in segmentation if len(p) >= 6]
        if bad := next((p for p in polygons if not is_polygon(p, height, width)), None):
            raise ValueError(
                f"a polygon needs pairs of numbers within {FAR} sides of the image, got "
                f"{str(bad)[:60]}"
            )
        if not polygons:
            return rle.encode(np.zeros((height, width), np.uint8, order="F"))
        return rle.merge(rle.frPyObjects(polygons, height, width))
    if isinstance(segmentation, Mapping) and "counts" in segmentation:
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(f"its size is {segmentation['size']}, the image's [{height}, {width}]")
        counts = segmentation["counts"]
        if isinstance(counts, list) and not all(isinstance(n, int) and n >= 0 for n in counts):
            raise ValueError("counts of an RLE are whole numbers from 0 on")
        return (
            rle.frPyObjects(dict(segmentation), height, width)
            if isinstance(counts, list)
            else dict(segmentation)
        )
    raise ValueError("it is neither a list of polygons nor an RLE with size and counts")


def is_polygon(numbers: Any, height: int, width: int) -> bool:
    """At least three points, none of them infinite or absurdly far outside of an image of that
    size."""
    return not polygon_fault(numbers, height, width)


def polygon_fault(numbers: Any, height: int, width: int) -> str:
    """Why a polygon of an image of that size cannot be used, or ""."""
    if not isinstance(numbers, list):
        return (
            f"{str(numbers)[:20]} is where a polygon is expected; write [[x1, y1, x2, y2, x3, y3, "
            "...]]"
        )
    if any(isinstance(n, list) for n in numbers[:2]):
        return (
            f"it holds lists, {str(numbers)[:30]}...; write x and y in turn, [[x1, y1, x2, y2, "
            "x3, y3, ...]]"
        )
    try:
        x = np.asarray(numbers)
    except ValueError:  # lists of several lengths
        x = np.empty(0, object)
    if numbers and x.dtype.kind not in "iuf":
        wrong = next(
            (n for n in numbers if isinstance(n, bool) or not isinstance(n, int | float)), numbers
        )
        return f"it holds {str(wrong)[:20]!r}, which is no number"
    if len(x) < 6 or len(x) % 2:
        return f"it has {len(x)} numbers; three points or more are 6, 8, 10, ..."
    if not (np.abs(x) <= FAR * max(height, width)).all():
        return f"its numbers have to be within {FAR} sides of the image"
    return ""


def polygons(instance: Instance) -> list[list[float]]:
    """Outer outlines of the mask in pixels of the image, as COCO has them."""
    from skimage.measure import find_contours

    mask = np.pad(instance.mask.astype(np.uint8), 1)
    outer, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # OpenCV's run through the middles of border pixels and lose half a pixel all around: a third of
    # a small mask
    filled = cv2.drawContours(mask, outer, -1, 1, cv2.FILLED)
    found = find_contours(filled, 0.5, fully_connected="high")
    shift = np.array((instance.left - 1 + 0.5, instance.top - 1 + 0.5))
    return [(corners(c[:-1, ::-1]) + shift).reshape(-1).tolist() for c in found]


def corners(outline: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "_ 2"]:
    """A closed outline without the points at which it goes straight on."""
    before, after = outline - np.roll(outline, 1, 0), np.roll(outline, -1, 0) - outline
    return outline[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
