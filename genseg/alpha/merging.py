"""Instances of tiles as those of one image, tile by tile: what no later tile can change leaves.

Whether an instance stays depends on what overlaps it and comes before it alone. So the result of
all tiles at once is found with the instances near the last tiles in memory.
"""

import bisect
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from jaxtyping import Shaped

from genseg.alpha.tiles import Tile, agree, joined, meeting, shared, tiles_of, windows
from genseg.data.instances.instance import Instance
from genseg.data.instances.packed import Arrays, pack, unpack
from genseg.data.regions.scene import Scene

PIECE = 0.7  # of an instance that a tile cuts: so much of it in another one is a piece of that
Found = TypeVar("Found")
Order = tuple[bool, float, int]  # cut by its tile, minus its score, its number: the first wins


@dataclass(frozen=True)
class Kept:
    """An instance that stays, as far as is known.

    pieces: what it was joined of, in pixels of the image, with their tiles
    """

    order: Order
    whole: Instance
    pieces: tuple[tuple[Tile, Instance], ...]
    cut: bool


@dataclass
class Merging:
    """The instances of an image, from those of its tiles, which come in any order.

    Whole ones come first, then those that a tile's side cuts, which the neighbour mostly sees
    whole. An instance that overlaps one that is there already (intersection over union above
    `overlap`, or more than the part `inside` of it in that one, of a cut one PIECE) is its double
    and is dropped; cut ones that agree where their tiles overlap are pieces of one and are joined.
    """

    overlap: float
    inside: float
    count: int = 0
    waiting: list[tuple[Order, Tile, Instance]] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)  # by order

    def add(self, tile: Tile, found: Sequence[Instance]) -> None:
        """The instances of a tile, in its own pixels."""
        for a in found:
            moved = replace(a, top=a.top + tile.top, left=a.left + tile.left)
            order = (tile.cuts(a.box_xywh), -a.score, self.count)
            self.waiting.append((order, tile, moved))
            self.count += 1

    def settled(self, below: float = math.inf) -> Iterator[tuple[Order, Instance]]:
        """What no tile from row `below` on can change, with the place that `ranked` sorts by; it is
        forgotten here."""
        self.waiting.sort(key=lambda entry: entry[0])
        later = [False] * len(self.waiting)
        places = windows([a for _, _, a in self.waiting])
        open_kept = np.zeros(len(self.kept), bool)  # one that waits may join with these
        windows_kept = windows([k.whole for k in self.kept])
        for i, (order, tile, a) in enumerate(self.waiting):
            near = [n for n in meeting(a, windows_kept)]
            behind = [n for n in meeting(a, places[:i]) if later[n]]
            later[i] = a.window[0].stop > below or bool(behind) or bool(open_kept[near].any())
            if later[i]:
                open_kept[near] = True
                continue
            changed = self._decide(order, tile, a, near)
            if changed is not None:
                gone, place = changed
                kept_open = np.delete(open_kept, gone)
                open_kept = np.insert(kept_open, place, False)
                windows_kept = np.insert(
                    np.delete(windows_kept, gone, 0), place, windows([self.kept[place].whole]), 0
                )
        self.waiting = [entry for entry, waits in zip(self.waiting, later, strict=True) if waits]
        stays = open_kept | (windows_kept[:, 2] > below)
        done = [k for k, s in zip(self.kept, stays, strict=True) if not s]
        self.kept = [k for k, s in zip(self.kept, stays, strict=True) if s]
        yield from ((k.order, k.whole) for k in done)

    def _decide(
        self, order: Order, tile: Tile, a: Instance, near: Sequence[int]
    ) -> tuple[list[int], int] | None:
        """Keep an instance, joined with its pieces among those of `near`, or drop it: then None.
        Else which of the kept ones are gone, and the place of the new one among the rest."""
        cut, halves = order[0], list[int]()
        for i in near:
            k = self.kept[i]
            both = shared(a, k.whole)
            if not both:
                continue
            # of whole ones a worse one stays around a better one, as it does in one tile
            least = min(a.area, k.whole.area) if cut or k.cut else a.area
            most = (PIECE if cut or k.cut else self.inside) * least
            double = both > self.overlap * (a.area + k.whole.area - both) or both > most
            piece = (double and both < 0.9 * least) or (
                cut and k.cut and any(agree(tile, a, t, p) for t, p in k.pieces)
            )
            if cut and k.cut and piece:
                halves.append(i)
            elif double:
                return None
        together: tuple[tuple[Tile, Instance], ...] = ((tile, a),)
        whole = a
        for i in reversed(halves):  # it may be the piece between two others
            together, whole = self.kept[i].pieces + together, joined(whole, self.kept[i].whole)
        for i in reversed(halves):
            del self.kept[i]
        new = Kept(order, whole, together, cut)
        place = bisect.bisect(self.kept, order, key=lambda k: k.order)
        self.kept.insert(place, new)
        return halves, place


def ranked(found: Sequence[tuple[Order, Instance]]) -> list[Instance]:
    """What `Merging.settled` gave, the best first."""
    return [a for _, a in sorted(found, key=lambda entry: (-entry[1].score, entry[0]))]


def by_tiles(
    height: int,
    width: int,
    instances: Callable[[Tile], list[Instance]],
    *,
    tile: int,
    overlap: float,
    inside: float,
    scene: Scene | None = None,
) -> list[Instance]:
    """The instances of an image, best first, where `instances` gives those of a tile in its own
    pixels.

    tile: as `tiles_of` takes it
    overlap, inside: as `Merging` has them
    scene: the image, where it is read by windows: it says which tiles are looked at, and keeps what
        rows of them have shown
    """
    tiles = tiles_of(height, width, tile=tile)
    if len(tiles) == 1:
        asked = scene is None or scene.asks(*tiles[0].window)
        return instances(tiles[0]) if asked else []
    merging, settled = Merging(overlap, inside), list[tuple[Order, Instance]]()
    rows = [list(row) for _, row in itertools.groupby(tiles, key=lambda t: t.top)]
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        for t, found in zip(row, seen_row(row, instances, scene, pack, unpack), strict=True):
            merging.add(t, found)
        settled += merging.settled(math.inf if after is None else after[0].top)
    return ranked(settled)


def seen_row(
    row: Sequence[Tile],
    look: Callable[[Tile], list[Found]],
    scene: Scene | None,
    packed: Callable[[list[Found]], Arrays],
    unpacked: Callable[[Arrays], list[Found]],
) -> list[list[Found]]:
    """What `look` finds in each tile of a row. Of a scene, tiles that it does not ask for hold
    nothing, and a row that it has kept is not looked at again."""
    if scene is None:
        return [look(t) for t in row]

    def make() -> dict[str, Shaped[np.ndarray, "*shape"]]:
        found = [look(t) if scene.asks(*t.window) else [] for t in row]
        counts = np.array([len(f) for f in found], np.int64)
        return {"counts": counts, **packed([a for f in found for a in f])}

    arrays = scene.kept(f"{row[0].top}", make)
    every, ends = unpacked(arrays), arrays["counts"].cumsum().tolist()
    return [every[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
