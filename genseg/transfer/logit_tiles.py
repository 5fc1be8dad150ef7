"""Large images by overlapping tiles: logits, row by row of tiles, by the mean where tiles
overlap."""

import itertools
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genseg.alpha.tiles import tiles_of
from genseg.transfer.contract import Windows

AT_ONCE = 2**26  # values of enlarged logits that are there at once


def logits_by_rows(
    image: Float[Tensor, "c h w"] | Windows,
    look: Callable[[Tensor], Float[Tensor, "n _ _"]],
    *,
    tile: int,
) -> Iterator[Float[Tensor, "n _ w"]]:
    """The logits of an image from its first row to the last in parts, where `look` gives those of a
    tile of at most `tile` pixels: where tiles overlap, their mean, in which a tile counts less
    towards its side. Of a scene, what no tile is asked for is background."""
    h, w = image.shape[1:]
    scene = image.scene if isinstance(image, Windows) else None
    tiles = tiles_of(h, w, tile=tile)
    if len(tiles) == 1 and scene is None:
        yield look(image[:, :, :])
        return
    rows = [list(row) for _, row in itertools.groupby(tiles, key=lambda t: t.top)]
    total = torch.zeros(0, 0, w, device=image.device)  # of no class before the first tile
    weights, begin = total.new_zeros(0, w), 0
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        end = row[0].top + row[0].height
        new = (0, 0, 0, end - begin - len(weights))
        total, weights = F.pad(total, new), F.pad(weights, new)
        for t in row:
            if scene is not None and not scene.asks(*t.window):
                continue
            logits = look(image[:, *t.window])
            if not len(total):
                total = logits.new_zeros(len(logits), total.shape[1], w)
            part = (slice(t.top - begin, t.top - begin + t.height), t.window[1])
            weight = _ramp(t.height).to(logits)[:, None] * _ramp(t.width).to(logits)
            total[:, *part] += logits * weight
            weights[part] += weight
        done = (h if after is None else after[0].top) - begin
        yield _mean(total[:, :done], weights[:done])
        total, weights, begin = total[:, done:], weights[done:], begin + done


def logits_by_tiles(
    image: Float[Tensor, "c h w"], look: Callable[[Tensor], Float[Tensor, "n _ _"]], *, tile: int
) -> Float[Tensor, "n h w"]:
    """All of `logits_by_rows`."""
    return torch.cat(list(logits_by_rows(image, look, tile=tile)), 1)


def enlarged(
    parts: Iterator[Float[Tensor, "n _ w"]], before: tuple[int, int], after: tuple[int, int]
) -> Iterator[Float[Tensor, "n _ _"]]:
    """The rows of an image at another size, bilinearly, from those of it in parts."""
    held, first, row = torch.zeros(0), 0, 0
    scale = before[0] / after[0]
    for part in parts:
        held = torch.cat([held, part], 1) if held.numel() else part
        end = first + held.shape[1]
        while row < after[0]:
            count = min(max(1, AT_ONCE // (len(held) * after[1])), after[0] - row)
            at = ((torch.arange(row, row + count, device=held.device) + 0.5) * scale - 0.5).clamp(0)
            low = at.long()
            high = (low + 1).clamp_max(before[0] - 1)
            count = int((high < end).sum())
            if not count:
                break
            low, high, share = low[:count], high[:count], (at - low)[:count, None].to(held)
            mixed = held[:, low - first] * (1 - share) + held[:, high - first] * share
            yield F.interpolate(mixed[None], size=(count, after[1]), mode="bilinear")[0]
            row += count
        keep = int(max(0.0, (row + 0.5) * scale - 0.5))
        held, first = held[:, max(0, keep - first) :], max(first, keep)


def _mean(total: Float[Tensor, "n h w"], weights: Float[Tensor, "h w"]) -> Float[Tensor, "m h w"]:
    """Sums by their weights; background, the first class, where nothing was looked at."""
    unseen = weights == 0
    if not len(total):
        return torch.ones_like(weights)[None]
    if unseen.any():
        total = total.clone()
        total[0][unseen] = 1
        weights = weights.masked_fill(unseen, 1)
    return total / weights


def _ramp(length: int) -> Float[Tensor, "{length}"]:
    """From the ends to the middle: 1, 2, 3, ..."""
    away = torch.arange(1, length + 1)
    return torch.minimum(away, away.flip(0)).float()
