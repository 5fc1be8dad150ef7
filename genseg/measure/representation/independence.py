"""Whether dimensions of embeddings say the same again."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

CONSTANT = 1e-12  # of the largest variance: a dimension below has none


def correlation_of(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "k k"]:
    """Correlations of the dimensions that vary."""
    variances = covariance.diagonal()
    kept = variances > CONSTANT * variances.max()
    scale = variances[kept].rsqrt()
    return scale[:, None] * covariance[kept][:, kept] * scale


def off_diagonal(correlation: Float[Tensor, "k k"]) -> float:
    """The root of the mean square of the correlations of two dimensions, in [0, 1]: 0 where none is
    correlated. What Barlow Twins (Zbontar et al., 2021, eq. 1) and VICReg penalise. n images of
    independent dimensions give 1 / sqrt(n). nan of fewer than two dimensions."""
    k = len(correlation)
    if k < 2:
        return math.nan
    squares = correlation.square().sum() - correlation.diagonal().square().sum()
    return float((squares / (k * (k - 1))).clamp_min(0).sqrt())


def total_correlation(correlation: Float[Tensor, "k k"], images: int) -> float:
    """The total correlation (Watanabe, 1960) of Gaussian embeddings, in nats: -1/2 log det R, from
    0, where all dimensions are independent, without a limit. Two of correlation r: -1/2 log(1 -
    r^2).

    What a sample of independent Gaussians has on average is subtracted (Anderson, 2003, 7.5): it is
    large where there are not many more images than dimensions. nan unless there are.
    """
    k = len(correlation)
    if images - 1 <= k or k < 2:
        return math.nan
    sign, log_det = torch.linalg.slogdet(correlation.double())
    if sign <= 0:
        return math.nan
    half = (images - 1 - torch.arange(k, dtype=torch.float64)) / 2
    by_chance = (torch.digamma(half) - torch.digamma(half[:1])).sum()
    return float(-(log_det - by_chance) / 2)
