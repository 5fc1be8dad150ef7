"""Whether two encoders say the same of the same images."""

import math

from jaxtyping import Float
from torch import Tensor


def linear_cka(x: Float[Tensor, "n d"], y: Float[Tensor, "n e"]) -> float:
    """Linear centred kernel alignment (Kornblith et al., 2019, eq. 4 and section 3): |Y^T X|^2 /
    (|X^T X| |Y^T Y|), of centred columns and Frobenius norms.

    In [0, 1]: 1 where y is x rotated, shifted and scaled. It is biased upwards where n is not much
    larger than d: two independent sets of n images and d isotropic dimensions have about d / (n +
    d). nan where one has no variance.
    """
    x, y = x.double() - x.double().mean(0), y.double() - y.double().mean(0)
    if len(x) < min(x.shape[1], y.shape[1]):  # the same from the other side, in fewer operations
        kx, ky = x @ x.T, y @ y.T
        above, below = (kx * ky).sum(), kx.norm() * ky.norm()
    else:
        above, below = (y.T @ x).square().sum(), (x.T @ x).norm() * (y.T @ y).norm()
    return float(above / below) if below > 0 else math.nan
