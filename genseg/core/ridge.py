"""Ridge regression in closed form."""

import torch
from jaxtyping import Float
from torch import Tensor


@torch.no_grad()
def ridge(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n k"], *, strength: float
) -> tuple[Float[Tensor, "k d"], Float[Tensor, "k"]]:
    """Weight W and bias b that minimise mean |W x + b - y|^2 + strength * v |W|^2, in float64.

    v is the mean variance of a feature, so that `strength` has no unit (Hoerl and Kennard, 1970).
    With a strength above 0 there may be fewer rows than features.
    """
    x, y = x.double(), y.double()
    centre, mean = x.mean(0), y.mean(0)
    a = x - centre
    variance = a.square().mean().clamp_min(1e-12)
    gram = a.T @ a / len(x) + strength * variance * torch.eye(x.shape[1]).to(a)
    weight = torch.linalg.solve(gram, a.T @ (y - mean) / len(x)).T
    return weight, mean - weight @ centre
