"""Normalisation layers against torch's own."""

import pytest
import torch
from torch import nn

from genseg.nn.norms import GroupNorm

CHANNELS_LAST, FIRST = torch.channels_last, torch.contiguous_format


@pytest.mark.parametrize("layout", [CHANNELS_LAST, FIRST])
@pytest.mark.parametrize("shape", [(2, 8, 5, 7), (3, 8, 1, 1), (0, 8, 4, 4)])
def test_group_norm_is_torchs(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64).contiguous(
        memory_format=layout
    )
    outputs, gradients = [], []
    for norm in (GroupNorm(4, 8), nn.GroupNorm(4, 8)):
        norm = norm.double()
        nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(1))
        x = drawn.clone(memory_format=torch.preserve_format).requires_grad_()
        y = norm(x)
        assert not len(x) or y.is_contiguous(memory_format=layout)
        (y * drawn).sum().backward()
        assert x.grad is not None and norm.weight.grad is not None
        outputs.append(y)
        gradients.append((x.grad, norm.weight.grad))
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)
