"""What BYOL's student predicts: from the paper's teacher to word vectors.

A target is a network whose modules run in a row and take no gradient. BYOL asks it for the targets
of two views and tells it when to move; it does not know which one it is.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from genseg.core.check import at_least
from genseg.methods.method import RunImages, embed
from genseg.methods.semantic import Semantic, SemanticConfig
from genseg.methods.target import (
    Projector,
    Target,
    encoder_of,
    full_batches,
    refuse_averages,
    same_on_all_ranks,
    seeded,
)
from genseg.nn.blocks import blocks_of
from genseg.nn.encoder import Encoder
from genseg.nn.momentum import TeacherNorm, follow
from genseg.nn.norms import average_anew

FITTED = 2048  # images, at most, whose statistics the batch norms of a random target are given


@dataclass(frozen=True)
class EMAConfig:
    name: str = "ema"


class EMA(Target):
    """The paper's teacher: encoder and projector, which follow by an exponential moving average."""

    follows = True

    def __init__(
        self, student: nn.Sequential, config: EMAConfig, norm: TeacherNorm, projector: Projector
    ) -> None:
        super().__init__(*copy.deepcopy(student))
        self.requires_grad_(False)
        self.norm = norm

    def targets(
        self, views: Float[Tensor, "2 b c h w"], z: Float[Tensor, "2 b e"]
    ) -> Float[Tensor, "2 b d"]:
        if self.norm == "ema":
            self.eval()
        return embed(self, [views]).float()

    def after_step(self, student: nn.Sequential, tau: float) -> None:
        follow(self, student, tau, self.norm)


@dataclass(frozen=True)
class OnlineConfig:
    name: str = "online"


class Online(Target):
    """The student's own embedding behind a stop-gradient: a momentum of 0, as in SimSiam (Chen and
    He, 2021). A control, at no cost."""

    def __init__(
        self, student: nn.Sequential, config: OnlineConfig, norm: TeacherNorm, projector: Projector
    ) -> None:
        super().__init__()
        refuse_averages(config.name, norm)

    def targets(
        self, views: Float[Tensor, "2 b c h w"], z: Float[Tensor, "2 b e"]
    ) -> Float[Tensor, "2 b d"]:
        return z.detach()


@dataclass(frozen=True)
class RandomConfig:
    name: str = "random"
    seed: int = 0  # of the target's weights
    # statistics of its batch norms. batch: of its own batches; fitted: of the run's images, once
    norm: Literal["batch", "fitted"] = "batch"

    def __post_init__(self) -> None:
        at_least(0, seed=self.seed)


class Random(Target):
    """Encoder and projector of random weights, which never move (BYOL, sec. 2: the online network
    ends above the network that it predicts)."""

    def __init__(
        self, student: nn.Sequential, config: RandomConfig, norm: TeacherNorm, projector: Projector
    ) -> None:
        refuse_averages(config.name, norm)
        with seeded(config.seed):
            encoder = Encoder(replace(encoder_of(student).config, weights=None))
            super().__init__(encoder, projector(encoder.width))
        self.requires_grad_(False)
        self.config = config

    def prepare(self, images: RunImages, *, begun: bool) -> None:
        if self.config.norm == "batch" or begun:
            return
        order = np.random.default_rng([self.config.seed, *b"fitted"]).permutation(images.count)
        average_anew(self)
        for views, _ in images.views(full_batches(order[:FITTED].tolist())):
            self(views)
        self.eval()
        same_on_all_ranks(self)

    def targets(
        self, views: Float[Tensor, "2 b c h w"], z: Float[Tensor, "2 b e"]
    ) -> Float[Tensor, "2 b d"]:
        if self.config.norm == "fitted":
            self.eval()
        return embed(self, [views]).float()


@dataclass(frozen=True)
class MiddleConfig:
    name: str = "middle"
    # the last block of the target, from 1; 0: half of them: block 4 of ResNet-18's 8, 8 of the 16
    # of ResNet-34 and ResNet-50 (25 of its 50 layers), 9 of the 18 of ConvNeXt tiny
    block: int = 0
    # ema: the blocks follow the student's; random: they are those of another encoder, and stay
    weights: Literal["ema", "random"] = "ema"
    seed: int = 0  # of all weights that are random

    def __post_init__(self) -> None:
        at_least(0, block=self.block, seed=self.seed)


class Middle(Target):
    """The first half of the encoder's blocks, and fully connected layers of random weights behind
    them, as wide as the projector. The student predicts it from its top.

    Nothing of the student is what those layers could follow, so they stay as they are, with the
    statistics of their batch.
    """

    def __init__(
        self, student: nn.Sequential, config: MiddleConfig, norm: TeacherNorm, projector: Projector
    ) -> None:
        encoder = encoder_of(student)
        follows = config.weights == "ema"
        if not follows:
            refuse_averages(f"{config.name} with method.target.weights=random", norm)
        with seeded(config.seed):
            start = encoder if follows else Encoder(replace(encoder.config, weights=None))
            half = copy.deepcopy(half_of(start, config.block))
            super().__init__(half, projector(_width(half, encoder)))
        self.requires_grad_(False)
        self.config, self.norm, self.follows = config, norm, follows

    def targets(
        self, views: Float[Tensor, "2 b c h w"], z: Float[Tensor, "2 b e"]
    ) -> Float[Tensor, "2 b d"]:
        if self.norm == "ema":
            self[0].eval()
        return embed(self, [views]).float()

    def after_step(self, student: nn.Sequential, tau: float) -> None:
        if self.follows:
            follow(self[0], half_of(encoder_of(student), self.config.block), tau, self.norm)


def half_of(encoder: Encoder, block: int) -> nn.Sequential:
    """The encoder's own modules up to a block, counted from 1 (0: half of all), and the mean over
    places. Raises ValueError when it has no such block."""
    stem, blocks = blocks_of(encoder)
    if block > len(blocks):
        raise ValueError(
            f"method.target.block={block}: this encoder has {len(blocks)} blocks; use 1 to "
            f"{len(blocks)}, or 0 for half of them"
        )
    return nn.Sequential(*stem, *blocks[: block or len(blocks) // 2], Mean())


class Mean(nn.Module):
    """The mean of a map over its places."""

    def forward(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d"]:
        return x.mean((2, 3))


@torch.no_grad()
def _width(half: nn.Sequential, encoder: Encoder) -> int:
    """Numbers that the blocks give of an image."""
    probe = copy.deepcopy(half).eval()
    return int(probe(encoder.blank()).shape[1])


TARGETS: dict[str, tuple[Callable[..., Target], type]] = {
    "ema": (EMA, EMAConfig),
    "random": (Random, RandomConfig),
    "middle": (Middle, MiddleConfig),
    "semantic": (Semantic, SemanticConfig),
    "online": (Online, OnlineConfig),
}
