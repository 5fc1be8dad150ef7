"""How many dimensions images fill in the space of embeddings."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from genseg.measure.representation.spectrum import entropy_rank, mean_squares

KEPT = 0.9  # of the ratios of TwoNN: the largest are outliers
ROWS = 1024  # of distances at once
RIDGE = 1e-4  # of LiDAR, in parts of the mean variance within images


@torch.no_grad()
def neighbour_ratios(features: Float[Tensor, "n d"]) -> Float[Tensor, "m"]:
    """Distance to the second nearest image over that to the nearest, of each image that is not
    equal to another. None where there are fewer than three images."""
    if len(features) < 3:
        return features.new_zeros(0)
    x = features.float() - features.float().mean(0)
    squares = x.square().sum(1)
    found = []
    for first in range(0, len(x), ROWS):
        part = x[first : first + ROWS]
        apart = squares - 2 * part @ x.T
        apart.diagonal(first).fill_(torch.inf)
        near = apart.topk(min(3, len(x) - 1), dim=1, largest=False).indices
        # products lose the digits of small distances, differences do not
        exact = (part[:, None].double() - x[near].double()).norm(dim=2).sort(1).values
        found.append(exact[:, :2])
    nearest, second = torch.cat(found).T
    return (second / nearest)[nearest > 0]


def two_nn(ratios: Float[Tensor, "m"]) -> float:
    """The intrinsic dimension (TwoNN; Facco et al., 2017): the slope, through the origin, of -log(1
    - F) over log of the ratios of `neighbour_ratios`, where F is their empirical distribution; its
    last tenth is left out.

    At least 0; uniform images on a smooth surface of dimension k give k. It says the dimension at
    the scale of nearest neighbours, and too little above about 20. nan of fewer than ten ratios.
    """
    n = len(ratios)
    if n < 10:
        return math.nan
    x = ratios.double().sort().values.log()[: int(KEPT * n)]
    y = -torch.log1p(-torch.arange(1, len(x) + 1, dtype=torch.float64) / n)
    return float((x * y).sum() / x.square().sum())


def lidar(views: Float[Tensor, "n q d"]) -> float:
    """LiDAR (Thilak et al., 2023, eq. 1 to 3): the effective rank of the linear discriminant
    between images, each of which is a class whose members are its q views.

    exp of the entropy of the eigenvalues of S_w^-1/2 S_b S_w^-1/2: S_b the covariance of the means
    of the images, S_w that of the views around them. Between 1 and min(n - 1, d): with no more
    images than dimensions the images limit it. Deviation: what is added to the diagonal of S_w is
    not 1e-4 but 1e-4 of its mean, so that the scale of embeddings has no influence. nan where views
    do not differ at all.
    """
    x = views.double()
    means = x.mean(1)
    between = means - means.mean(0)
    within = (x - means[:, None]).flatten(0, 1)
    s_w = within.T @ within / (len(means) * max(x.shape[1] - 1, 1))
    scale = float(s_w.diagonal().mean())
    if not scale > 0:
        return math.nan
    s_w.diagonal().add_(RIDGE * scale)
    # L^-1 S_b L^-T has the same eigenvalues, where S_w = L L^T
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(s_w), between.T, upper=False)
    return entropy_rank(mean_squares(whitened.T))
