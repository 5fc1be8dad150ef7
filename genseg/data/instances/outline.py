"""Outlines of masks along the borders of their pixels, holes too, and back: nothing is lost.

A pixel (y, x) is the square from (x, y) to (x + 1, y + 1), so coordinates are those of COCO,
QuPath and CVAT.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float

from genseg.data.instances.instance import OPAQUE, Instance, cut_instance

Ring = Float[np.ndarray, "_ 2"]  # x and y of corners; the last one is joined to the first
Polygon = tuple[Ring, ...]  # the outer ring, and those of its holes


@dataclass(frozen=True)
class Drawn:
    """An object as a tool gives it back, in pixels of its image.

    shape: polygons, or the mask itself
    category: the name of its class; "" where it has none
    number: the id that it had before; None for a new one
    """

    shape: Sequence[Polygon] | Instance
    category: str = ""
    number: int | None = None

    def instance(self, height: int, width: int) -> Instance | None:
        """Its mask in an image of that size; None where nothing of it lies there."""
        if not isinstance(self.shape, Instance):
            return filled_polygons(self.shape, height, width)
        rows, columns = (
            slice(s.start, min(s.stop, n))
            for s, n in zip(self.shape.window, (height, width), strict=True)
        )
        inside = self.shape.mask[: rows.stop - rows.start, : columns.stop - columns.start]
        found = cut_instance(inside) if inside.size else None
        if found is None:
            return None
        return replace(found, top=found.top + rows.start, left=found.left + columns.start)


def outlines(instance: Instance) -> list[Polygon]:
    """The polygons of a mask, one for each piece: pixels that meet at a corner alone are two.

    Rings touch themselves nowhere and have corners alone; outer ones run clockwise as seen, holes
    the other way round.
    """
    count, pieces = cv2.connectedComponents(instance.mask.astype(np.uint8), connectivity=4)
    shift = np.array((instance.left, instance.top), float)
    return [
        tuple(ring + shift for ring in _rings(pieces == n if count > 2 else instance.mask))
        for n in range(1, count)
    ]


def _rings(piece: Bool[np.ndarray, "h w"]) -> list[Ring]:
    """The rings of one piece, the outer one first."""
    mask = np.pad(piece, 1)
    # the pixels around each corner; an edge from it has the mask on its right
    a, b, c, d = mask[:-1, :-1], mask[:-1, 1:], mask[1:, :-1], mask[1:, 1:]
    edges = np.stack([d & ~b, c & ~d, a & ~c, b & ~a])  # right, down, left, up
    unused, width, count = bytearray(edges.tobytes()), edges.shape[2], edges[0].size
    # every ring has a corner from which it goes right, having come from below or above
    begins = edges[0].copy()
    begins[:, 1:] &= ~edges[0, :, :-1]
    rings = []
    for begin in np.flatnonzero(begins).tolist():
        if unused[begin]:
            rings += _simple(_walk(unused, begin, (1, width, -1, -width), count), width)
    return sorted(rings, key=lambda ring: -abs(signed_area(ring)))


def _walk(unused: bytearray, begin: int, steps: tuple[int, ...], count: int) -> list[int]:
    """The corners, as places in one row of all, of the closed way that goes right from `begin`; its
    edges are then used.

    unused: whether there is an edge to the right of each corner, down from it, left, up
    """
    way, at, direction, before = list[int](), begin, 0, -1
    while True:
        unused[direction * count + at] = 0
        if direction != before:
            way.append(at)
        before = direction
        at += steps[direction]
        # to the right first: so pixels that meet at a corner stay apart
        right, left = (direction + 1) % 4, (direction - 1) % 4
        if unused[right * count + at]:
            direction = right
        elif not unused[direction * count + at]:
            if not unused[left * count + at]:
                return way
            direction = left


def _simple(way: Sequence[int], width: int) -> list[Ring]:
    """A way that meets itself at corners as ways that do not."""
    done, going, places = list[list[int]](), list[int](), dict[int, int]()
    for corner in way:
        if corner in places:
            begin = places[corner]
            done.append(going[begin:])
            for gone in going[begin + 1 :]:
                del places[gone]
            del going[begin + 1 :]
        else:
            places[corner] = len(going)
            going.append(corner)
    return [_xy(ring, width) for ring in (*done, going)]


def _xy(ring: Sequence[int], width: int) -> Ring:
    y, x = np.divmod(np.array(ring), width)
    return np.stack([x, y], 1).astype(float)


def signed_area(ring: Ring) -> float:
    """The area of a ring, above 0 when it runs clockwise as seen (the shoelace formula)."""
    x, y = ring.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def filled_polygons(polygons: Sequence[Polygon], height: int, width: int) -> Instance | None:
    """The instance of polygons in an image of that size: the pixels whose middles lie in one of
    them, and in none of its holes. None where there is no such pixel.

    Of `outlines` it is the mask that they are of, to the pixel.
    """
    rings = [ring for polygon in polygons for ring in polygon if len(ring) > 2]
    if not rings:
        return None
    corners = np.concatenate(rings)
    low = np.clip(np.floor(corners.min(0)), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(corners.max(0)), 0, (width, height)).astype(int)
    (left, top), (w, h) = low.tolist(), (high - low).tolist()
    if w <= 0 or h <= 0:
        return None
    mask = np.zeros((h, w), bool)
    for polygon in polygons:
        mask |= inside_rings([ring - (left, top) for ring in polygon if len(ring) > 2], h, w)
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not ys.size:
        return None
    window = mask[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    return Instance(window.astype(np.uint8) * OPAQUE, top + int(ys[0]), left + int(xs[0]))


def inside_rings(rings: Sequence[Ring], h: int, w: int) -> Bool[np.ndarray, "{h} {w}"]:
    """Pixels with an odd number of edges to the left of their middles."""
    x0, y0 = np.concatenate(rings).T
    x1, y1 = np.concatenate([part for ring in rings for part in (ring[1:], ring[:1])]).T
    first, last = (np.clip(np.ceil(y - 0.5), 0, h).astype(int) for y in (y0, y1))
    count = np.abs(last - first)  # rows whose middles an edge crosses
    edge = np.repeat(np.arange(len(x0)), count)
    row = np.arange(len(edge)) - (count.cumsum() - count)[edge] + np.minimum(first, last)[edge]
    x = x0[edge] + (row + 0.5 - y0[edge]) / (y1 - y0)[edge] * (x1 - x0)[edge]
    column = np.clip(np.ceil(x - 0.5), 0, w).astype(int)
    turns = np.bincount(row * (w + 1) + column, minlength=h * (w + 1)).reshape(h, w + 1)
    return turns.cumsum(1)[:, :-1] % 2 == 1


def one_ring(polygons: Sequence[Polygon]) -> Ring:
    """All rings as one, for formats without holes and pieces: where two are joined the way goes
    there and back, which covers no area.

    Raises ValueError for none.
    """
    rings = [ring for polygon in polygons for ring in polygon]
    if not rings:
        raise ValueError("no ring to join")
    way, *others = rings
    for ring in others:
        apart = ((way[:, None] - ring[None]) ** 2).sum(2)
        at, near = np.unravel_index(int(apart.argmin()), apart.shape)
        there = np.roll(ring, -int(near), 0)
        way = np.concatenate([way[: at + 1], there, there[:1], way[at:]])
    return way
