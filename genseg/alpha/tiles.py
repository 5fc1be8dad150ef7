"""The overlapping tiles of a large image, and what instances of them have in common."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int

from genseg.data.instances.instance import Instance


@dataclass(frozen=True)
class Tile:
    """A part of an image, and which of its sides lie inside the image: there it may cut
    instances."""

    top: int
    left: int
    height: int
    width: int
    inner: tuple[bool, bool, bool, bool]  # top, left, bottom, right

    @property
    def window(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def cuts(self, box: tuple[float, float, float, float], *, within: float = 1) -> bool:
        """Whether a box (left, top, width, height in pixels of the tile) comes so near to a side
        inside the image."""
        left, top, w, h = box
        right, bottom = self.width - left - w, self.height - top - h
        reaches = (top <= within, left <= within, bottom <= within, right <= within)
        return any(a and b for a, b in zip(reaches, self.inner, strict=True))


def tiles_of(height: int, width: int, *, tile: int, overlap: int | None = None) -> list[Tile]:
    """Tiles of at most `tile` pixels that overlap by at least `overlap`, or a quarter; one for an
    image that fits."""
    overlap = tile // 4 if overlap is None else overlap
    tiles = []
    for top, h in _spans(height, tile, overlap):
        for left, w in _spans(width, tile, overlap):
            inner = (top > 0, left > 0, top + h < height, left + w < width)
            tiles.append(Tile(top, left, h, w, inner))
    return tiles


def tile_at(height: int, width: int, y: float, x: float, *, tile: int) -> Tile:
    """Of the tiles of an image, the one whose middle is nearest to a point."""
    tiles = tiles_of(height, width, tile=tile)
    return min(tiles, key=lambda t: abs(t.top + t.height / 2 - y) + abs(t.left + t.width / 2 - x))


def _spans(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """First pixel and length of as few equal parts as fit, no longer than it takes."""
    if length <= tile:
        return [(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    span = -(-(length + (count - 1) * overlap) // count)
    return [(round(i * (length - span) / (count - 1)), span) for i in range(count)]


def windows(instances: Sequence[Instance]) -> Int[np.ndarray, "n 4"]:
    """The windows of instances: first row and column, and those behind the last."""
    spans = [
        (rows.start, columns.start, rows.stop, columns.stop)
        for rows, columns in (a.window for a in instances)
    ]
    return np.array(spans, int).reshape(-1, 4)


def meeting(instance: Instance, places: Int[np.ndarray, "n 4"]) -> list[int]:
    """Which of many `windows` have a pixel in common with that of an instance, in their order."""
    rows, columns = instance.window
    top, left, bottom, right = places.T
    meets = (
        (top < rows.stop) & (bottom > rows.start) & (left < columns.stop) & (right > columns.start)
    )
    return np.flatnonzero(meets).tolist()


def agree(a: Tile, one: Instance, b: Tile, other: Instance) -> bool:
    """Whether two instances overlap by half of all that they have in the area that both tiles
    see."""
    top, left = max(a.top, b.top), max(a.left, b.left)
    bottom, right = min(a.top + a.height, b.top + b.height), min(a.left + a.width, b.left + b.width)
    if bottom <= top or right <= left:
        return False
    area = (slice(top, bottom), slice(left, right))
    m, n = (_within(x, area) for x in (one, other))
    return bool((m & n).sum() > 0.5 * (m | n).sum())


def _within(instance: Instance, area: tuple[slice, slice]) -> Bool[np.ndarray, "h w"]:
    """The mask of an instance over an area of the image."""
    rows, columns = area
    out = np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)
    h, w = instance.alpha.shape
    top, left = max(rows.start, instance.top), max(columns.start, instance.left)
    bottom, right = min(rows.stop, instance.top + h), min(columns.stop, instance.left + w)
    if bottom > top and right > left:
        mask = instance.mask[
            top - instance.top : bottom - instance.top, left - instance.left : right - instance.left
        ]
        out[
            top - rows.start : bottom - rows.start, left - columns.start : right - columns.start
        ] = mask
    return out


def shared(a: Instance, b: Instance) -> int:
    """Pixels that belong to both masks."""
    rows, columns = (
        slice(max(x.start, y.start), min(x.stop, y.stop))
        for x, y in zip(a.window, b.window, strict=True)
    )
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return 0
    return int((_within(a, (rows, columns)) & _within(b, (rows, columns))).sum())


def iou(a: Instance, b: Instance) -> float:
    """Intersection over union of two masks."""
    both = shared(a, b)
    return both / (a.area + b.area - both) if both else 0.0


def joined(a: Instance, b: Instance) -> Instance:
    """The larger alpha of the two everywhere, with the better score and the category that has
    it."""
    top, left = min(a.top, b.top), min(a.left, b.left)
    bottom = max(x.top + x.alpha.shape[0] for x in (a, b))
    right = max(x.left + x.alpha.shape[1] for x in (a, b))
    out = np.zeros((bottom - top, right - left), np.uint8)
    for x in (a, b):
        rows, columns = x.window
        window = (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )
        out[window] = np.maximum(out[window], x.alpha)
    return replace(max(a, b, key=lambda x: x.score), alpha=out, top=top, left=left)
