"""Histograms of oriented gradients."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

EPSILON = 1e-5  # under the root of a histogram's length: a flat cell has zeros


def hog(x: Float[Tensor, "b c h w"], *, cell: int, bins: int = 9) -> Float[Tensor, "b d i j"]:
    """Histograms of the gradients' directions in cells of `cell` pixels, for each channel: d = c *
    bins, those of the first channel first; i = h / cell.

    Central differences, zero at the border; directions from 0 to 180 degrees, weighted by length;
    each histogram has an L2 length of 1 (Dalal & Triggs, 2005, with blocks of one cell; MaskFeat,
    Wei et al., 2022, sec. 3.2). The cell has to divide h and w.
    """
    down, right = torch.zeros_like(x), torch.zeros_like(x)
    down[:, :, 1:-1] = x[:, :, 2:] - x[:, :, :-2]
    right[..., 1:-1] = x[..., 2:] - x[..., :-2]
    length = torch.hypot(down, right)
    angle = torch.rad2deg(torch.atan2(down, right)) % 180
    place = (angle / (180 / bins)).floor() % bins
    counts = [F.avg_pool2d(length * (place == i), cell) for i in range(bins)]
    histograms = torch.stack(counts, dim=2)
    norm = (histograms.square().sum(2, keepdim=True) + EPSILON**2).sqrt()
    return (histograms / norm).flatten(1, 2)
