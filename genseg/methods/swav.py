"""SwAV: Caron et al., Unsupervised Learning of Visual Features by Contrasting Cluster Assignments,
2020."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from genseg.core import dist
from genseg.core.check import above, at_least
from genseg.core.contrast import cross_entropy, full_precision, sinkhorn
from genseg.core.schedule import Plan, check_durations
from genseg.methods.method import Method, check_two_large, embed, project
from genseg.nn.encoder import Encoder
from genseg.nn.heads import Head, mlp


@dataclass(frozen=True)
class SwAVConfig:
    name: str = "swav"
    # number of prototypes; use more than dim, or some directions have none
    prototypes: int = 3000
    temperature: float = 0.1
    epsilon: float = 0.05  # epsilon of Sinkhorn: higher gives softer assignments
    iterations: int = 3  # of Sinkhorn
    freeze: str = "1 epochs"  # the prototypes stay fixed for this long
    # embeddings of earlier batches per large view that join Sinkhorn; for batches below 256
    queue: int = 0
    queue_start: str = "15 epochs"  # fill the queue from here on, and use it once it is full
    hidden: int = 2048  # width of the projection head's hidden layer
    dim: int = 128  # width of the embedding
    # projector: mlp as in the paper; mlp_bn ends in a batch norm; mlp_whiten whitens, too
    head: Head = "mlp"

    def __post_init__(self) -> None:
        above(0, temperature=self.temperature)
        at_least(0.003, epsilon=self.epsilon)  # below, sinkhorn divides by 0
        at_least(
            1,
            prototypes=self.prototypes,
            iterations=self.iterations,
            hidden=self.hidden,
            dim=self.dim,
        )
        at_least(0, queue=self.queue)
        check_durations(freeze=self.freeze, queue_start=self.queue_start)


class SwAV(Method):
    """Each view predicts the prototype assignment of another view of the same image.

    Assignments come from the two large views alone. The queue is the same on all ranks, and each
    rank gives its share of it to the all-reduced Sinkhorn.
    """

    def __init__(self, encoder: Encoder, config: SwAVConfig, plan: Plan) -> None:
        super().__init__()
        if config.queue % dist.world():
            raise ValueError(
                f"method.queue={config.queue} has to divide into {dist.world()} processes"
            )
        self.config = config
        self.encoder = encoder
        self.head = mlp(encoder.width, config.hidden, config.dim, head=config.head)
        self.prototypes = nn.Parameter(
            F.normalize(torch.randn(config.prototypes, config.dim), dim=1)
        )
        self.freeze = plan.progress(config.freeze)
        self.queue_start = plan.progress(config.queue_start)
        self.queue: Tensor
        self.filled: Tensor
        self.register_buffer("queue", torch.zeros(2, config.queue, config.dim))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))
        self.pending: list[Tensor] = []

    def forward(self, views: list[Float[Tensor, "_ b c _ _"]]) -> dict[str, Tensor]:
        check_two_large(len(views[0]), views[0].shape[-1], "swav")
        h = embed(self.encoder, views)
        z = project(self.head, h)
        with full_precision(z):
            z = F.normalize(z, dim=-1)
            # of unit length: normalised at the start and after each update
            scores = z @ self.prototypes.T
            targets = [self._assign(z[i].detach(), scores[i].detach(), i) for i in range(2)]
            t = self.config.temperature
            pairs = [
                cross_entropy(scores[v], targets[i], temperature=t)
                for i in range(2)
                for v in range(len(z))
                if v != i
            ]
        if self.training and self.config.queue:
            self.pending.append(
                dist.gather_constant(z[:2].detach().transpose(0, 1)).transpose(0, 1)
            )
        return {"loss": torch.stack(pairs).mean(), "embeddings": z[0].detach()}

    def _assign(
        self, z: Float[Tensor, "b d"], scores: Float[Tensor, "b p"], view: int
    ) -> Float[Tensor, "b p"]:
        """Sinkhorn over the batch, and over the queue of this view when it is full."""
        if self.config.queue and self.filled >= self.config.queue:
            share = self.queue[view, dist.rank() :: dist.world()]
            scores = torch.cat([scores, share @ self.prototypes.detach().T])
        c = self.config
        return sinkhorn(scores, epsilon=c.epsilon, iterations=c.iterations)[: len(z)]

    def before_step(self, progress: float) -> None:
        """The prototypes take no gradient while they are frozen."""
        if progress < self.freeze:
            self.prototypes.grad = None

    def begin_step(self) -> None:
        self.pending.clear()

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Normalise the prototypes; put the update's embeddings at the front of the queue."""
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))
        for z in self.pending:
            if progress >= self.queue_start:
                self.queue.copy_(torch.cat([z, self.queue], 1)[:, : self.config.queue])
                self.filled += z.shape[1]
        self.pending.clear()

    def trivial(self, batch: int) -> float:
        """Loss of a uniform prediction: ln(prototypes)."""
        return math.log(self.config.prototypes)
