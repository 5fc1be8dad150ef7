"""BYOL: Grill et al., Bootstrap Your Own Latent, 2020."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genseg.core.check import at_least, between
from genseg.core.contrast import full_precision, regression
from genseg.core.schedule import Plan, ema_momentum
from genseg.methods.method import Method, check_two_large, embed, project
from genseg.nn.encoder import Encoder
from genseg.nn.heads import Head, mlp
from genseg.nn.momentum import TeacherNorm, follow, teacher_of


@dataclass(frozen=True)
class BYOLConfig:
    name: str = "byol"
    # momentum of the teacher at the start; it rises to 1 along half a cosine
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
    negatives.

    Both views pass the network as one batch, so that batch norm sees them together; the official
    code passes one after the other. It costs half the passes.
    """

    def __init__(self, encoder: Encoder, config: BYOLConfig, plan: Plan) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.head = mlp(encoder.width, config.hidden, config.dim, last_bias=False, head=config.head)
        self.teacher = teacher_of(nn.Sequential(encoder, self.head))
        self.predictor = mlp(config.dim, config.hidden, config.dim, last_bias=False)

    def forward(self, views: list[Float[Tensor, "_ b c _ _"]]) -> dict[str, Tensor]:
        check_two_large(len(views[0]), views[0].shape[-1], "byol")
        h = embed(self.encoder, views)
        z = project(self.head, h)
        p = project(self.predictor, z)
        if self.config.teacher_norm == "ema":
            self.teacher.eval()
        with torch.no_grad():
            target = embed(self.teacher, views[:1]).float()
        with full_precision(p):
            pairs = [regression(p[i], target[j]) for i in range(len(p)) for j in range(2) if i != j]
            # both directions summed: 2 pairs when there are two views
            loss = torch.stack(pairs).mean() * 2
        return {"loss": loss, "embeddings": z[0].detach()}

    def after_step(self, progress: float) -> None:
        """Move the teacher, after the optimiser."""
        student = nn.Sequential(self.encoder, self.head)
        follow(self.teacher, student, self.scheduled(progress)["tau"], self.config.teacher_norm)

    def scheduled(self, progress: float) -> dict[str, float]:
        return {"tau": ema_momentum(progress, self.config.momentum)}

    def trivial(self, batch: int) -> float:
        """Loss of predictions at right angles to their targets: 2 directions of 2."""
        return 4.0
