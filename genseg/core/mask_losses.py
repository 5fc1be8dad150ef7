"""Losses and overlaps of alpha maps as pure functions: a value per map, reduced by the caller.

Logits and alphas come as `n p`: n maps of p pixels. Alphas lie in [0, 1] and may be soft.
"""

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
