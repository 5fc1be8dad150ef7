"""The teacher: a copy without gradient that follows the student by an exponential moving
average."""

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from genseg.core import dist

TeacherNorm = Literal["batch", "ema"]


def teacher_of(student: nn.Module) -> nn.Module:
    """A copy of `student` whose parameters take no gradient."""
    return copy.deepcopy(student).requires_grad_(False)


@torch.no_grad()
def follow(
    teacher: nn.Module, student: nn.Module, momentum: float, norm: TeacherNorm = "batch"
) -> None:
    """teacher = momentum * teacher + (1 - momentum) * student, for parameters (MoCo, eq. 2).

    norm: where the teacher's batch norms take their statistics from. `batch`: its own batches, as
    in the papers. `ema`: the same average of the student's statistics (EMAN, Cai et al., 2021), so
    that what it makes of an image does not depend on the others of the batch; such a teacher runs
    in evaluation mode. The student gets the mean over all ranks
    first: each has seen its own images, and teachers have to be one.
    """
    ours: list[Tensor] = list(teacher.parameters())
    theirs = [p.detach() for p in student.parameters()]
    torch._foreach_lerp_(ours, theirs, 1 - momentum)
    if norm == "ema":
        share_statistics(student)
        for own, other in zip(teacher.modules(), student.modules(), strict=True):
            if isinstance(own, nn.modules.batchnorm._BatchNorm):
                _follow_statistics(own, other, momentum)


@torch.no_grad()
def share_statistics(module: nn.Module) -> None:
    """Give the batch norms of all ranks the mean of their running statistics."""
    if dist.world() == 1:
        return
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [x for m in norms for x in (m.running_mean, m.running_var) if x is not None]
    if kept:
        means = dist.mean(torch.cat([x.flatten().float() for x in kept])).split(
            [x.numel() for x in kept]
        )
        for x, shared in zip(kept, means, strict=True):
            x.copy_(shared.view_as(x))


def _follow_statistics(
    own: nn.modules.batchnorm._BatchNorm, other: nn.Module, momentum: float
) -> None:
    """The same average, but the first updates weigh more: until 1 - momentum is reached, update t
    weighs 4 / (t + 3).

    A new batch norm has mean 0 and variance 1, which are nobody's statistics: at momentum 0.99 a
    third of them would be left after 100 updates, and the teacher would be another function than a
    student of equal weights.
    """
    # counts updates here: the teacher has no passes in training mode
    assert own.num_batches_tracked is not None
    own.num_batches_tracked += 1
    weight = max(1 - momentum, 4 / (3 + int(own.num_batches_tracked)))
    for name in ("running_mean", "running_var"):
        getattr(own, name).lerp_(getattr(other, name), weight)
