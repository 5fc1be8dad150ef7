"""Collective operations; each is a no-op on one process."""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Num
from torch import Tensor


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if world() > 1 else 0


class _Gather(torch.autograd.Function):
    """all_gather whose backward sums the ranks' gradients and keeps this rank's rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return gather_constant(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return total(gradient).chunk(world())[rank()]


def gather(x: Num[Tensor, "b *rest"]) -> Num[Tensor, "n *rest"]:
    """Rows of all ranks in rank order, with gradient: n = world * b.

    The backward pass sums every rank's gradient for the rows that this rank sent, so a local mean loss under
    DDP's averaging has the gradient of the one-process loss.
    """
    if world() == 1:
        return x
    return _Gather.apply(x)


@torch.no_grad()
def gather_constant(x: Num[Tensor, "b *rest"]) -> Num[Tensor, "n *rest"]:
    """Rows of all ranks in rank order, without gradient: keys, queues, features."""
    if world() == 1:
        return x
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


@torch.no_grad()
def total(x: Num[Tensor, "*shape"]) -> Num[Tensor, "*shape"]:
    """Sum over ranks, without gradient."""
    if world() == 1:
        return x
    x = x.clone()
    dist.all_reduce(x)
    return x


def mean(x: Num[Tensor, "*shape"]) -> Num[Tensor, "*shape"]:
    """Mean over ranks, without gradient."""
    return total(x) / world()


def any_rank(flag: bool, device: torch.device | str = "cpu") -> bool:
    """True on every rank when it is true on one."""
    return bool(total(torch.tensor(float(flag), device=device)) > 0)
