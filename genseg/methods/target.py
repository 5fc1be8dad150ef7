"""The contract of what BYOL's student predicts, and what targets share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genseg.core import dist
from genseg.methods.method import RunImages
from genseg.nn.encoder import Encoder
from genseg.nn.momentum import TeacherNorm

BATCH = 256  # images of a pass before training
Projector = Callable[[int], nn.Sequential]  # from a width to BYOL's embedding


class Target(nn.Sequential, ABC):
    """A target network, built as `Target(student, config, norm, projector)`, where `student` is
    the encoder and its projector."""

    width = 0  # of what the student predicts; 0: that of its embedding
    follows = False  # whether it moves with the student

    @abstractmethod
    def targets(
        self, views: Float[Tensor, "2 b c h w"], z: Float[Tensor, "2 b e"]
    ) -> Float[Tensor, "2 b d"]:
        """What is predicted from the other view, in float32; z is the student's embedding of the
        same views. Called without gradient."""

    def known(self) -> Bool[Tensor, "b"] | None:
        """Which images of the last pass have a target; None: all."""
        return None

    def after_step(self, student: nn.Sequential, tau: float) -> None:
        """Called once after each update, with BYOL's rate of this time."""

    def prepare(self, images: RunImages, *, begun: bool) -> None:
        """As of a method."""

    def begin_pass(self, index: Int[Tensor, "b"]) -> None:
        """As of a method."""


def encoder_of(network: nn.Sequential) -> Encoder:
    """The encoder that a student, or a target, begins with."""
    encoder = network[0]
    assert isinstance(encoder, Encoder)
    return encoder


def refuse_averages(name: str, norm: TeacherNorm) -> None:
    """Raise ValueError for averages of the student's statistics in a target that follows nobody."""
    if norm == "ema":
        raise ValueError(
            f"method.teacher_norm=ema is for a target that follows the student, and "
            f"method.target.name={name} does not; leave it out"
        )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """While entered, torch draws for targets alone; afterwards it is as if nothing was drawn. A
    run of the same seed draws other numbers for its student."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.default_rng([seed, *b"target"]).integers(2**63)))
        yield


def full_batches(indices: list[int]) -> list[int]:
    """The images, and as many of the first ones again as make all batches full."""
    if len(indices) <= BATCH:
        return indices
    return indices + indices[: -len(indices) % BATCH]


def same_on_all_ranks(module: nn.Module) -> None:
    """Give the module of every rank the numbers of the first one's."""
    for x in module.state_dict().values():
        x.copy_(dist.gather_constant(x[None])[0])
