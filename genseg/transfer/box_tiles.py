"""Large images by overlapping tiles: detections put together by their boxes."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from genseg.alpha.merging import seen_row
from genseg.alpha.tiles import Tile, joined, tiles_of
from genseg.data.instances.instance import Instance
from genseg.data.instances.packed import Arrays, pack, unpack
from genseg.transfer.contract import Detection, Windows

# parts of a tile: an object that comes so near to a side inside the image may be cut there
NEAR = 64
AT_ONCE = 2**22  # pairs of boxes that are compared at once
INSIDE = 0.7  # of a cut object in a whole one's box: it is a piece of that


def detections_by_tiles(
    image: Float[Tensor, "c h w"] | Windows,
    look: Callable[[Tensor], list[Detection]],
    *,
    tile: int,
    overlap: float,
) -> list[Detection]:
    """The objects of an image, best first, where `look` finds those of a tile of at most `tile`
    pixels.

    overlap: of two of a class whose boxes overlap by more (intersection over union), the better one
        stays
    """
    scene = image.scene if isinstance(image, Windows) else None
    tiles = tiles_of(*image.shape[1:], tile=tile)
    rows = [list(row) for _, row in itertools.groupby(tiles, key=lambda t: t.top)]
    parts = [
        part
        for row in rows
        for part in zip(
            row,
            seen_row(row, lambda t: look(image[:, *t.window]), scene, _packed, _unpacked),
            strict=True,
        )
    ]
    return parts[0][1] if len(parts) == 1 else merge_detections(parts, overlap=overlap)


def _packed(found: Sequence[Detection]) -> dict[str, Shaped[np.ndarray, "*shape"]]:
    """Detections as arrays; one without a mask has an alpha of no pixel."""
    empty = Instance(np.zeros((0, 0), np.uint8), 0, 0)
    masks = [d.instance or empty for d in found]
    boxes = np.array([d.box_xyxy for d in found], np.float64).reshape(-1, 4)
    scores = np.array([(d.score, d.category) for d in found], np.float64).reshape(-1, 2)
    return {**pack(masks), "boxes": boxes, "said": scores}


def _unpacked(arrays: Arrays) -> list[Detection]:
    return [
        Detection(tuple(box), int(category), score, mask if mask.alpha.size else None)
        for box, (score, category), mask in zip(
            arrays["boxes"].tolist(), arrays["said"].tolist(), unpack(arrays), strict=True
        )
    ]


def merge_detections(
    parts: Sequence[tuple[Tile, Sequence[Detection]]], *, overlap: float
) -> list[Detection]:
    """The objects of an image from those of its tiles, which are in pixels of the tile; best first.

    Objects of different classes are different objects. Cut ones whose boxes agree where their tiles
    overlap are pieces of one, and joined. Of doubles whole ones stay before cut ones, and among
    these the better one.
    """
    found = [(t, _moved(d, t), _is_cut(d, t)) for t, many in parts for d in many]
    whole = [d for _, d, cut in found if not cut]
    pieces = _pieces([(t, d) for t, d, cut in found if cut])
    if not whole and not pieces:
        return []
    kept = [
        whole[i]
        for i in batched_nms(_boxes(whole), _scores(whole), _classes(whole), overlap).tolist()
    ]
    boxes, others = _boxes(pieces), _boxes(kept)
    doubles = torch.zeros(len(pieces), dtype=torch.bool)
    for part in _parts(len(pieces), len(kept)):
        inside = _inside(boxes[part], others) > INSIDE
        same = _classes(pieces[part])[:, None] == _classes(kept)
        doubles[part] = ((inside | (box_iou(boxes[part], others) > overlap)) & same).any(1)
    pieces = [d for d, double in zip(pieces, doubles.tolist(), strict=True) if not double]
    kept += [
        pieces[i]
        for i in batched_nms(_boxes(pieces), _scores(pieces), _classes(pieces), overlap).tolist()
    ]
    return sorted(kept, key=lambda d: -d.score)


def _moved(d: Detection, tile: Tile) -> Detection:
    """A detection in pixels of the image."""
    left, top, right, bottom = d.box_xyxy
    box = (left + tile.left, top + tile.top, right + tile.left, bottom + tile.top)
    at = d.instance and replace(
        d.instance, top=d.instance.top + tile.top, left=d.instance.left + tile.left
    )
    return replace(d, box_xyxy=box, instance=at)


def _is_cut(d: Detection, tile: Tile) -> bool:
    left, top, right, bottom = d.box_xyxy
    return tile.cuts(
        (left, top, right - left, bottom - top), within=max(tile.height, tile.width) // NEAR
    )


def _pieces(cut: Sequence[tuple[Tile, Detection]]) -> list[Detection]:
    """Cut objects, those that are pieces of one joined."""
    if not cut:
        return []
    boxes = _boxes([d for _, d in cut])
    windows = torch.tensor(
        [[t.left, t.top, t.left + t.width, t.top + t.height] for t, _ in cut], dtype=boxes.dtype
    )
    classes, found = _classes([d for _, d in cut]), list[Int[Tensor, "n 2"]]()
    for part in _parts(len(cut), len(cut)):
        both = _common(windows[part, None], windows)  # what two tiles both see
        one, other = _common(boxes[part, None], both), _common(boxes, both)
        shared, areas = _area(_common(one, other)), _area(one) + _area(other)
        pairs = (
            (shared > 0.5 * (areas - shared))
            & (classes[part, None] == classes)
            & (windows[part, None] != windows).any(-1)
        )
        found.append(pairs.nonzero() + torch.tensor([part.start, 0]))
    i, j = torch.cat(found).T.numpy()
    graph = coo_array((np.ones(len(i), bool), (i, j)), shape=(len(cut), len(cut)))
    count, label = connected_components(graph, directed=False)
    groups: list[list[Detection]] = [[] for _ in range(count)]
    for n, (_, d) in zip(label.tolist(), cut, strict=True):
        groups[n].append(d)
    return [_one(group) for group in groups]


def _parts(count: int, others: int) -> Iterator[slice]:
    """So many of `count` boxes at once as `others` allow: what is compared stays below AT_ONCE."""
    rows = max(1, AT_ONCE // max(1, others))
    yield from (slice(begin, begin + rows) for begin in range(0, count, rows))


def _one(pieces: Sequence[Detection]) -> Detection:
    """What some pieces of one object are together, with the best one's score."""
    first, *rest = sorted(pieces, key=lambda d: -d.score)
    for d in rest:
        (left, top, right, bottom), (a, b, c, e) = first.box_xyxy, d.box_xyxy
        box = (min(left, a), min(top, b), max(right, c), max(bottom, e))
        instance = joined(first.instance, d.instance) if first.instance and d.instance else None
        first = replace(first, box_xyxy=box, instance=instance)
    return first


def _boxes(found: Sequence[Detection]) -> Float[Tensor, "n 4"]:
    return torch.tensor([d.box_xyxy for d in found], dtype=torch.float32).reshape(-1, 4)


def _scores(found: Sequence[Detection]) -> Float[Tensor, "n"]:
    return torch.tensor([d.score for d in found], dtype=torch.float32)


def _classes(found: Sequence[Detection]) -> Int[Tensor, "n"]:
    return torch.tensor([d.category for d in found], dtype=torch.long)


def _common(a: Float[Tensor, "*_ 4"], b: Float[Tensor, "*_ 4"]) -> Float[Tensor, "*_ 4"]:
    """The box that two boxes have in common; without area where they have none."""
    return torch.cat(
        [torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])], -1
    )


def _area(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    return (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(-1)


def _inside(a: Float[Tensor, "n 4"], b: Float[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    """How much of each box of `a` lies in each of `b`."""
    return _area(_common(a[:, None], b)) / _area(a)[:, None].clamp_min(1e-6)
