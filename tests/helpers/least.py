"""Where smooth functions of a few numbers are least, for tests of known answers."""

from collections.abc import Callable

import torch
from torch import Tensor


def least(loss: Callable[[Tensor], Tensor], start: Tensor, *, steps: int = 1000) -> Tensor:
    """The minimum that L-BFGS finds from a start."""
    at = start.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [at],
        max_iter=steps,
        tolerance_grad=1e-12,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(at)
        value.backward()
        return value

    optimizer.step(closure)
    return at.detach()


def relative(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, in parts of the largest number that is wanted."""
    return float((found - wanted).abs().max() / wanted.abs().max())
