"""BYOL: Grill et al., Bootstrap Your Own Latent, 2020."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genseg.core import dist
from genseg.core.check import at_least, between
from genseg.core.contrast import full_precision, regression
from genseg.core.schedule import Plan, ema_momentum
from genseg.methods.method import Key, Method, RunImages, check_two_large, embed, project
from genseg.methods.targets import TARGETS, EMAConfig
from genseg.nn.encoder import Encoder
from genseg.nn.heads import Head, mlp
from genseg.nn.momentum import TeacherNorm


@dataclass(frozen=True)
class BYOLConfig:
    name: str = "byol"
    # what the student predicts; method.target.name chooses which keys it has; ema: the paper's
    target: Any = field(default_factory=EMAConfig)
    # momentum of a teacher that follows, at the start; it rises to 1 along half a cosine
    momentum: float = 0.996
    # batch: statistics of its own batches (paper), ema: averages of the student's
    teacher_norm: TeacherNorm = "batch"
    hidden: int = 4096  # width of the hidden layer of projector and predictor
    dim: int = 256  # width of the embedding
    # projector: mlp as in the paper; mlp_bn ends in a batch norm; mlp_whiten whitens, too
    head: Head = "mlp"

    def __post_init__(self) -> None:
        at_least(1, hidden=self.hidden, dim=self.dim)
        between(0, 1, momentum=self.momentum)


class BYOL(Method):
    """The student predicts, from one view, the teacher's embedding of another; there are no
    negatives. What the teacher is, is the target's: see `genseg.methods.targets`.

    Both views pass the network as one batch, so that batch norm sees them together; the official
    code passes one after the other. It costs half the passes.
    """

    def __init__(self, encoder: Encoder, config: BYOLConfig, plan: Plan) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder

        def projector(width: int) -> nn.Sequential:
            return mlp(width, config.hidden, config.dim, last_bias=False, head=config.head)

        self.head = projector(encoder.width)
        self.teacher = TARGETS[config.target.name][0](
            nn.Sequential(encoder, self.head), config.target, config.teacher_norm, projector
        )
        width = self.teacher.width or config.dim
        self.predictor = mlp(config.dim, config.hidden, width, last_bias=False)

    def forward(self, views: list[Float[Tensor, "_ b c _ _"]]) -> dict[str, Tensor]:
        check_two_large(len(views[0]), views[0].shape[-1], "byol")
        h = embed(self.encoder, views)
        z = project(self.head, h)
        p = project(self.predictor, z)
        with torch.no_grad():
            target = self.teacher.targets(views[0], z[:2])
        with full_precision(p):
            pairs = [regression(p[i], target[j]) for i in range(len(p)) for j in range(2) if i != j]
            # both directions summed: 2 pairs when there are two views
            loss = 2 * self._mean(torch.stack(pairs))
        return {"loss": loss, "embeddings": z[0].detach()}

    def _mean(self, pairs: Float[Tensor, "n b"]) -> Float[Tensor, ""]:
        """Over all pairs and images; over those that have a target, where not all have."""
        known = self.teacher.known()
        if known is None:
            return pairs.mean()
        return (pairs.mean(0) * known).sum() / dist.over_ranks(known.sum())

    @torch.no_grad()
    def prepare(self, images: RunImages, *, begun: bool) -> None:
        self.teacher.prepare(images, begun=begun)

    def begin_pass(self, index: Int[Tensor, "b"], keys: Sequence[Key]) -> None:
        self.teacher.begin_pass(index)

    def after_step(self, progress: float) -> None:
        """Move the teacher, after the optimiser."""
        student = nn.Sequential(self.encoder, self.head)
        self.teacher.after_step(student, ema_momentum(progress, self.config.momentum))

    def scheduled(self, progress: float) -> dict[str, float]:
        return {"tau": ema_momentum(progress, self.config.momentum)} if self.teacher.follows else {}

    def trivial(self, batch: int) -> float:
        """Loss of predictions at right angles to their targets: 2 directions of 2."""
        return 4.0
