"""Collective operations; each is a no-op on one process."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Num, Real
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

    The backward pass sums every rank's gradient for the rows that this rank sent, so a local mean
    loss under DDP's averaging has the gradient of the one-process loss.
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
    x = x.clone(memory_format=torch.contiguous_format)  # NCCL takes no other
    dist.all_reduce(x)
    return x


def mean(x: Num[Tensor, "*shape"]) -> Num[Tensor, "*shape"]:
    """Mean over ranks, without gradient."""
    return total(x) / world()


def over_ranks(count: Real[Tensor, ""]) -> Float[Tensor, ""]:
    """What a sum over `count` things is divided by, so that the mean of the ranks' gradients is
    that of one process with all things; without any, it is 1 over the ranks."""
    return mean(count.float()).clamp_min(1 / world())


class OtherProcess(RuntimeError):
    """What stops this process has happened in another one."""


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A block after which all ranks go on or none does: an error on one rank is raised on all of
    them.

    For work that only some ranks do (files, probes). Also a barrier. Where nothing went wrong here,
    OtherProcess.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    if any_rank(failure is not None):
        raise failure or OtherProcess(
            "another process of this run has failed; its message says why"
        )


def any_rank(flag: bool) -> bool:
    """True on every rank when it is true on one."""
    if world() == 1:
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return bool(total(torch.tensor(float(flag), device=device)) > 0)


def gather_objects(x: Any) -> list[Any]:
    """What each rank gives, in rank order, on all ranks: small things such as records of
    detections."""
    if world() == 1:
        return [x]
    found: list[Any] = [None] * world()
    dist.all_gather_object(found, x)
    return found
