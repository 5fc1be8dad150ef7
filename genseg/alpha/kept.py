"""Which of the instances that were decoded in an image stay, and the numbers that decide it.

It needs no torch: what runs an exported model has the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from genseg.core.check import at_least, between
from genseg.data.instances.instance import HALF, Instance, cut_instance

FAINT = 8  # of 255: less of an alpha counts as nothing
# drop an instance if more than this share of it lies in the mirrored padding
BEYOND = 2 / 3


@dataclass(frozen=True)
class GenerateConfig:
    candidate: float = 0.1  # places of a lower objectness are not decoded
    score: float = 0.5  # least score of an instance
    # of two instances with a higher IoU only the better one is kept
    overlap: float = 0.4
    inside: float = 0.7  # an instance is dropped if this share of it lies inside better ones
    # power of an alpha's stability in its score: of the area above 3/4 as a part of that above 1/4
    stability: float = 0.0
    min_area: int = 12  # area in pixels of the smallest instance, in the image's own size
    tile: int = 1024  # larger images are processed in overlapping tiles of this many pixels

    def __post_init__(self) -> None:
        between(
            0,
            1,
            candidate=self.candidate,
            score=self.score,
            overlap=self.overlap,
            inside=self.inside,
        )
        at_least(0, stability=self.stability)
        at_least(1, min_area=self.min_area)
        at_least(32, tile=self.tile)


def stability(alpha: Any) -> Any:
    """The area where each alpha, `*n h w`, is above 3/4, as a part of that where it is above 1/4: 1
    for one whose edge is sharp (the stability score of Kirillov et al., Segment Anything, 2023). Of
    an array, or of a tensor: an array of `*n`, or a tensor."""
    sure, any_of_it = ((alpha > least).sum((-2, -1)) for least in (0.75, 0.25))
    return sure / any_of_it.clip(1)


def suppress(
    found: Sequence[Instance], h: int, w: int, *, overlap: float, inside: float
) -> list[Instance]:
    """Which instances of an image of h x w pixels stay, the best first.

    One that overlaps a better one by `overlap` (intersection over union) is its double; one of
    which better ones together hold the part `inside` shows nothing new. Where kept ones overlap,
    the pixels count for the better one.
    """
    owner = np.full((h, w), -1, np.int32)
    areas: list[int] = []
    kept = []
    for a in found:
        window = owner[a.window]
        mask = a.alpha >= HALF
        under, area = window[mask], a.area
        shared = np.bincount(under[under >= 0], minlength=len(areas))
        iou = shared / np.maximum(area + np.array(areas, np.int64) - shared, 1)
        if shared.sum() <= inside * area and not (iou > overlap).any():
            window[mask & (window < 0)] = len(areas)
            areas.append(area)
            kept.append(a)
    return kept


def unpadded(found: Sequence[Instance], h: int, w: int, config: GenerateConfig) -> list[Instance]:
    """The instances of an image of h x w pixels from those of the same image mirrored at its lower
    and right edge.

    What is mirrored counted when doubles were sought, so they are sought again, and small ones left
    out.
    """
    if all(a.window[0].stop <= h and a.window[1].stop <= w for a in found):
        return list(found)
    parts = (cropped(a, h, w) for a in found)
    large = [a for a in parts if a is not None and a.area >= config.min_area]
    return suppress(large, h, w, overlap=config.overlap, inside=config.inside)


def cropped(instance: Instance, h: int, w: int) -> Instance | None:
    """The part of an instance in the first h x w pixels; None when most of it lies below them, or
    right of them.

    An instance that the image's edge cuts is seen together with its mirror image: half of it lies
    beyond the edge.
    """
    rows, columns = max(h - instance.top, 0), max(w - instance.left, 0)
    mask = instance.mask
    if max(mask[rows:].sum(), mask[:, columns:].sum()) > BEYOND * mask.sum():
        return None
    part = instance.alpha[:rows, :columns]
    cut = cut_instance(part) if part.size else None
    if cut is None:
        return None
    return replace(
        instance, alpha=cut.alpha, top=cut.top + instance.top, left=cut.left + instance.left
    )


def covering(found: Sequence[Instance], h: int, w: int, y: int, x: int) -> Instance | None:
    """The first of some instances that holds a pixel, or its part in the image of h x w pixels;
    None without one."""
    there = (cropped(a, h, w) for a in found if a.covers(y, x))
    return next((a for a in there if a is not None), None)
