"""Losses and overlaps of alpha maps as pure functions: a value per map, reduced by the caller.

Logits and alphas come as `n p`: n maps of p pixels. Alphas lie in [0, 1] and may be soft.
"""

from functools import reduce

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def dice(logits: Float[Tensor, "n p"], alpha: Float[Tensor, "n p"]) -> Float[Tensor, "n"]:
    """1 - (2 sum(q a) + 1) / (sum(q^2) + sum(a^2) + 1) with q = sigmoid(logits): V-Net's eq. 1,
    smoothed by one pixel.

    0 for equal hard maps; for disjoint ones 1 - 1 / (n + 1), where n pixels are in one of them.
    """
    q = logits.sigmoid()
    return 1 - (2 * (q * alpha).sum(1) + 1) / (q.square().sum(1) + alpha.square().sum(1) + 1)


def balanced_cross_entropy(
    logits: Float[Tensor, "n p"], alpha: Float[Tensor, "n p"]
) -> Float[Tensor, "n"]:
    """Mean cross-entropy over the instance plus that over the rest, halved: a small instance weighs
    as a large one."""
    loss = F.binary_cross_entropy_with_logits(logits, alpha, reduction="none")
    parts = ((w * loss).sum(1) / w.sum(1).clamp_min(1) for w in (alpha, 1 - alpha))
    return sum(parts, torch.zeros_like(loss[:, 0])) / 2


def mask_loss(
    logits: Float[Tensor, "n p"], alpha: Float[Tensor, "n p"], boundary: float, width: int
) -> Float[Tensor, "n"]:
    """Dice and balanced cross-entropy, the latter `boundary` times more over the band around the
    border, in maps of `width` pixels a row."""
    loss = dice(logits, alpha) + balanced_cross_entropy(logits, alpha)
    if boundary:
        band = border_band(alpha.unflatten(1, (-1, width))).flatten(1)
        extra = F.binary_cross_entropy_with_logits(logits, alpha, reduction="none")
        loss = loss + boundary * (band * extra).sum(1) / band.sum(1).clamp_min(1)
    return loss


def border_band(alpha: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """1 where the 5 x 5 pixels around hold both instance and rest, else 0."""
    return (_highest(alpha) + _highest(-alpha) > 0.5).float()


def _highest(x: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """The largest of the 5 x 5 pixels around each: a max_pool2d, which takes many times as long on
    CPUs."""
    for axis, pad in ((1, (0, 0, 2, 2)), (2, (2, 2))):
        padded = F.pad(x, pad, value=-torch.inf)
        x = reduce(torch.maximum, (padded.narrow(axis, i, x.shape[axis]) for i in range(5)))
    return x


def focal(
    logits: Float[Tensor, "n"],
    target: Float[Tensor, "n"],
    *,
    gamma: float = 2.0,
    positive: float = 0.25,
) -> Float[Tensor, "n"]:
    """Focal loss of hard targets (Lin et al., 2017, eq. 5): easy places count little."""
    p = logits.sigmoid()
    right = p * target + (1 - p) * (1 - target)
    weight = positive * target + (1 - positive) * (1 - target)
    return (
        weight
        * (1 - right) ** gamma
        * F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    )


def overlap(a: Bool[Tensor, "n p"], b: Bool[Tensor, "n p"]) -> Float[Tensor, "n"]:
    """Intersection over union of each pair of masks; 0 where both are empty."""
    union = (a | b).sum(1)
    return (a & b).sum(1) / union.clamp_min(1)
