"""Large images by overlapping tiles: detections put together by their boxes, logits by the mean
where tiles overlap."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from genseg.alpha.tiles import Tile, joined, tiles_of
from genseg.transfer.contract import Detection

# parts of a tile: an object that comes so near to a side inside the image may be cut there
NEAR = 64
INSIDE = 0.7  # of a cut object in a whole one's box: it is a piece of that


def detections_by_tiles(
    image: Float[Tensor, "c h w"],
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
    parts = [(t, look(image[:, *t.window])) for t in tiles_of(*image.shape[1:], tile=tile)]
    return parts[0][1] if len(parts) == 1 else merge_detections(parts, overlap=overlap)


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
    inside = _inside(_boxes(pieces), _boxes(kept)) > INSIDE
    same = _classes(pieces)[:, None] == _classes(kept)
    doubles = (inside | (box_iou(_boxes(pieces), _boxes(kept)) > overlap)) & same
    pieces = [d for d, double in zip(pieces, doubles.any(1).tolist(), strict=True) if not double]
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
    both = _common(windows[:, None], windows)  # what two tiles both see
    one, other = _common(boxes[:, None], both), _common(boxes, both)
    shared, areas = _area(_common(one, other)), _area(one) + _area(other)
    classes = _classes([d for _, d in cut])
    pairs = (
        (shared > 0.5 * (areas - shared))
        & (classes[:, None] == classes)
        & (windows[:, None] != windows).any(-1)
    )
    count, label = connected_components(pairs.numpy(), directed=False)
    return [_one([cut[i][1] for i in np.flatnonzero(label == n).tolist()]) for n in range(count)]


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


def logits_by_tiles(
    image: Float[Tensor, "c h w"], look: Callable[[Tensor], Float[Tensor, "n _ _"]], *, tile: int
) -> Float[Tensor, "n h w"]:
    """The logits of an image, where `look` gives those of a tile of at most `tile` pixels: where
    tiles overlap, their mean, in which a tile counts less towards its side."""
    h, w = image.shape[1:]
    tiles = tiles_of(h, w, tile=tile)
    if len(tiles) == 1:
        return look(image)
    total: Tensor | None = None
    weights = torch.zeros(h, w, device=image.device)
    for t in tiles:
        logits, window = look(image[:, *t.window]), t.window
        weight = _ramp(t.height).to(logits)[:, None] * _ramp(t.width).to(logits)
        total = logits.new_zeros(len(logits), h, w) if total is None else total
        total[:, *window] += logits * weight
        weights[window] += weight
    assert total is not None
    return total / weights


def _ramp(length: int) -> Float[Tensor, "{length}"]:
    """From the ends to the middle: 1, 2, 3, ..."""
    away = torch.arange(1, length + 1)
    return torch.minimum(away, away.flip(0)).float()
