"""Shrinking by the mean over areas, window by window: what OpenCV makes of the whole image."""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int, UInt8

from genseg.data.images.decode import resize

MOST = 2**24  # values of the larger image that are held at once
Pixels = UInt8[np.ndarray, "h w c"]
Read = Callable[[int, int, int, int], Pixels]  # top, left, height, width


class Shares(NamedTuple):
    """Of each of n pixels along a side: the places of the larger image's that it covers, and what
    part of it each is; 0 fills up."""

    places: Int[np.ndarray, "n k"]
    parts: Float32[np.ndarray, "n k"]


def shares(large: int, small: int) -> Shares:
    """Of all pixels of a side of `small` that was `large` (OpenCV's table, in its precision)."""
    scale = large / small
    found = list[list[tuple[int, float]]]()
    for n in range(small):
        begin, end = n * scale, (n + 1) * scale
        cell = min(scale, large - begin)
        first, last = int(np.ceil(begin)), min(int(np.floor(end)), large - 1)
        first = min(first, last)
        row = [(first - 1, (first - begin) / cell)] if first - begin > 1e-3 else []
        row += [(i, 1.0 / cell) for i in range(first, last)]
        if end - last > 1e-3:
            row.append((last, min(min(end - last, 1.0), cell) / cell))
        found.append(row)
    most = max(len(row) for row in found)
    filled = [row + [(row[-1][0], 0.0)] * (most - len(row)) for row in found]
    places = np.array([[i for i, _ in row] for row in filled], np.int64)
    return Shares(places, np.array([[p for _, p in row] for row in filled], np.float32))


class Shrunk:
    """An image at a smaller size; `read` gives windows of the larger one."""

    def __init__(self, read: Read, before: tuple[int, int], after: tuple[int, int]) -> None:
        assert all(a <= b for a, b in zip(after, before, strict=True)), (before, after)
        self.read, self.before, self.after = read, before, after
        steps = [b / a for a, b in zip(after, before, strict=True)]
        self.whole = tuple(int(s) for s in steps) if all(s.is_integer() for s in steps) else None
        self.down, self.across = (shares(b, a) for a, b in zip(after, before, strict=True))

    def window(self, top: int, left: int, height: int, width: int) -> Pixels:
        """A window of the smaller image; of the larger one so many rows are held as MOST allows."""
        first, last = _reach(self.across, left, width)
        per_row = (last - first) * 4 * max(1, round(self.before[0] / self.after[0]))
        rows = max(1, MOST // per_row)
        parts = [
            self._rows(n, min(rows, top + height - n), left, width)
            for n in range(top, top + height, rows)
        ]
        return np.concatenate(parts)

    def _rows(self, top: int, height: int, left: int, width: int) -> Pixels:
        if self.whole is not None:  # OpenCV sums whole numbers then
            down, across = self.whole
            large = self.read(top * down, left * across, height * down, width * across)
            return resize(large, (width, height), cv2.INTER_AREA)
        above, below = _reach(self.down, top, height)
        before, behind = _reach(self.across, left, width)
        large = self.read(above, before, below - above, behind - before).astype(np.float32)
        narrow = _mixed(large.swapaxes(0, 1), self.across, left, width, before).swapaxes(0, 1)
        small = _mixed(narrow, self.down, top, height, above)
        return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def _reach(shares: Shares, first: int, count: int) -> tuple[int, int]:
    """The first place that some pixels cover, and the one behind the last."""
    places = shares.places[first : first + count]
    return int(places.min()), int(places.max()) + 1


def _mixed(
    x: Float32[np.ndarray, "n m c"], shares: Shares, first: int, count: int, begin: int
) -> Float32[np.ndarray, "count m c"]:
    """Sums along the first axis, in OpenCV's order."""
    places, parts = (a[first : first + count] for a in shares)
    total = np.zeros((count, *x.shape[1:]), np.float32)
    for k in range(places.shape[1]):
        total += x[places[:, k] - begin] * parts[:, k, None, None]
    return total
