"""How the variance of embeddings is spread over directions: rank, and polarisation of the
spectrum."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

FITTED = (4, 100)  # places of the spectrum that the exponent is fitted to


@torch.no_grad()
def effective_rank(features: Float[Tensor, "b d"]) -> float:
    """RankMe (Garrido et al., 2023, eq. 1): exp of the entropy of the normalised singular values.

    Between 1 and min(b, d), so compare it only between equal b.
    """
    return entropy_rank(torch.linalg.svdvals(features.float()))


def entropy_rank(values: Float[Tensor, "k"]) -> float:
    """exp of the entropy of values in parts of their sum: from 1, where one is all, to k, where all
    are equal (Roy and Vetterli, 2007)."""
    p = values / values.sum().clamp_min(1e-12) + 1e-7
    return float((-(p * p.log()).sum()).exp())


def spectrum(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d"]:
    """Eigenvalues of a covariance, the largest first, none below 0: the variances along principal
    directions."""
    return torch.linalg.eigvalsh(covariance).flip(0).clamp_min(0)


def covariance_of(features: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """The covariance of rows (over n, not n - 1)."""
    x = features - features.mean(0)
    return x.T @ x / len(x)


def participation_ratio(variances: Float[Tensor, "d"]) -> float:
    """(sum of v)^2 / sum of v^2 (Gao et al., 2017, eq. 2): how many directions share the variance,
    from 1 to d. k equal variances beside zeros give k."""
    return float(variances.sum().square() / variances.square().sum().clamp_min(1e-300))


def spectrum_exponent(variances: Float[Tensor, "d"]) -> float:
    """The exponent a of the power law v_k = c k^-a (alpha-ReQ; Agrawal et al., 2022, eq. 3).

    By least squares of log v over log k, weighted by 1 / k, at the places 4 to 100, as in the
    paper's code; a spectrum of fewer than 16 places is taken from the first on. Large: few
    directions hold the variance; 0: all share it. The paper finds representations of a near 1 to
    generalise best. nan where fewer than three variances are above 0.
    """
    first, last = FITTED if len(variances) >= 4 * FITTED[0] else (1, FITTED[1])
    v = variances.double()[first - 1 : last]
    v = v[v > 1e-12 * variances.max()]
    if len(v) < 3:
        return math.nan
    k = torch.arange(first, first + len(v), dtype=torch.float64)
    x, y, w = k.log(), v.log(), 1 / k
    x, y = x - (w * x).sum() / w.sum(), y - (w * y).sum() / w.sum()
    return float(-(w * x * y).sum() / (w * x * x).sum())


def variance_dimensions(variances: Float[Tensor, "d"], part: float = 0.95) -> int:
    """The least number of principal directions that hold `part` of the variance, from 1 to d."""
    total = variances.sum()
    held = variances.cumsum(0) >= part * total * (1 - 1e-12)
    return int(held.long().argmax()) + 1
