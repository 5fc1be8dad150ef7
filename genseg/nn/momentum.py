"""The teacher: a copy without gradient that follows the student by an exponential moving average."""

import copy

import torch
from torch import nn


def teacher_of(student: nn.Module) -> nn.Module:
    """A copy of `student` whose parameters take no gradient. It stays in training mode: its batch norm is its own."""
    return copy.deepcopy(student).requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher = momentum * teacher + (1 - momentum) * student, for parameters (MoCo, eq. 2).

    Batch-norm statistics are not averaged: each network keeps those of its own passes, as in the official codes.
    """
    torch._foreach_lerp_(list(teacher.parameters()), [p.detach() for p in student.parameters()], 1 - momentum)
