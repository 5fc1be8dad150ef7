"""The teacher: a copy without gradient that follows the student by an exponential moving average."""

import copy

import torch
from torch import Tensor, nn

TEACHER_NORMS = ("batch", "ema")


def teacher_of(student: nn.Module, norm: str = "batch") -> nn.Module:
    """A copy of `student` whose parameters take no gradient.

    norm: where its batch norms take their statistics from. `batch`: its own batches, as in the papers. `ema`: the
    moving average of the student's statistics (EMAN, Cai et al., 2021), so that what it makes of an image does not
    depend on the others of the batch; such a teacher runs in evaluation mode. Raises ValueError for another word.
    """
    if norm not in TEACHER_NORMS:
        raise ValueError(f"method.teacher_norm={norm}: choose one of {', '.join(TEACHER_NORMS)}")
    return copy.deepcopy(student).requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float, norm: str = "batch") -> None:
    """teacher = momentum * teacher + (1 - momentum) * student, for parameters (MoCo, eq. 2).

    With norm `ema` also for the batch norms' statistics; otherwise each network keeps those of its own passes, as in
    the official codes.
    """
    ours: list[Tensor] = list(teacher.parameters())
    theirs = [p.detach() for p in student.parameters()]
    if norm == "ema":
        for own, other in zip(teacher.buffers(), student.buffers(), strict=True):
            if own.is_floating_point():
                ours.append(own)
                theirs.append(other)
    torch._foreach_lerp_(ours, theirs, 1 - momentum)
