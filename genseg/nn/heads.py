"""Projection and prediction heads."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genseg.core.contrast import full_precision
from genseg.core.dist import gather

Head = Literal["mlp", "mlp_bn", "mlp_whiten"]


class Whitening(nn.Module):
    """Embeddings of a batch with mean 0 and nearly no correlation: Σ^(-1/2) (x - mean), by Newton's
    iterations, which leave directions of little variance as they are (Huang et al., Iterative
    Normalization, 2019, algorithm 1).

    Statistics are those of the batch over all processes, in evaluation too.
    """

    ITERATIONS = 8  # five, as in the paper, whiten partly, and BYOL learns later (docs/log/)
    RIDGE = 1e-3  # of the mean variance, added to each

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        with full_precision(x):
            x = x.to(torch.promote_types(x.dtype, torch.float32))
            everyone = gather(x)
            mean = everyone.mean(0)
            x, everyone = x - mean, everyone - mean
            identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
            covariance = everyone.T @ everyone / max(len(everyone) - 1, 1)
            covariance = covariance + (self.RIDGE * covariance.diagonal().mean() + 1e-12) * identity
            trace = covariance.trace()
            # coupled: in one product of `root` rounding errors grow without end
            y, root = covariance / trace, identity
            for _ in range(self.ITERATIONS):
                step = 1.5 * identity - 0.5 * root @ y
                y, root = y @ step, step @ root
            return x @ root / trace.sqrt()


def mlp(
    *widths: int,
    norm: bool = True,
    hidden_bias: bool = True,
    last_bias: bool = True,
    head: Head = "mlp",
) -> nn.Sequential:
    """Linear layers through `widths` with (batch norm and) ReLU between them.

    hidden_bias: of every layer but the last
    head: what is behind the last layer: nothing (mlp), a batch norm without offset, as in SimCLR
        (mlp_bn), or such a one and whitening (mlp_whiten; Hua et al., On Feature Decorrelation in
        Self-Supervised Learning, 2021)
    """
    assert head in get_args(Head)
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        last = i == len(widths) - 2
        layers.append(nn.Linear(a, b, bias=last_bias if last else hidden_bias))
        if not last:
            layers += (
                [nn.BatchNorm1d(b), nn.ReLU(inplace=True)] if norm else [nn.ReLU(inplace=True)]
            )
    if head != "mlp":
        scale = nn.BatchNorm1d(widths[-1])
        scale.bias.requires_grad_(False)
        layers.append(scale)
    if head == "mlp_whiten":
        layers.append(Whitening())
    return nn.Sequential(*layers)
