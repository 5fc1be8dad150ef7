"""SimCLR: Chen et al., A Simple Framework for Contrastive Learning of Visual Representations,
2020."""

import math
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from genseg.core import dist
from genseg.core.check import above, at_least
from genseg.core.contrast import full_precision, nt_xent
from genseg.core.schedule import Plan
from genseg.methods.method import Method, check_two_large, embed, project
from genseg.nn.encoder import Encoder
from genseg.nn.heads import mlp


@dataclass(frozen=True)
class SimCLRConfig:
    name: str = "simclr"
    # of the softmax over the batch; lower values weight hard negatives more
    temperature: float = 0.1
    hidden: int = 2048  # width of the projection head's hidden layer
    dim: int = 128  # width of the embedding
    # the projection head; linear and none are the paper's controls (section 4.2)
    head: Literal["mlp", "linear", "none"] = "mlp"

    def __post_init__(self) -> None:
        above(0, temperature=self.temperature)
        at_least(1, hidden=self.hidden, dim=self.dim)


class SimCLR(Method):
    """Views of one image attract, all other images of the global batch repel.

    Accumulated passes do not enlarge the set of negatives: each pass contrasts its own images.
    """

    def __init__(self, encoder: Encoder, config: SimCLRConfig, plan: Plan) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        hidden = (config.hidden,) if config.head == "mlp" else ()
        self.head = (
            nn.Identity()
            if config.head == "none"
            else mlp(
                encoder.width,
                *hidden,
                config.dim,
                hidden_bias=False,
                last_bias=False,
                head="mlp_bn",
            )
        )

    def forward(self, views: list[Float[Tensor, "_ b c _ _"]]) -> dict[str, Tensor]:
        check_two_large(len(views[0]), views[0].shape[-1], "simclr")
        h = embed(self.encoder, views)
        z = project(self.head, h)
        with full_precision(z):
            z = F.normalize(z, dim=-1)
            everyone = dist.gather(z[:2].transpose(0, 1)).transpose(0, 1)
            first = dist.rank() * z.shape[1]
            t = self.config.temperature
            losses = nt_xent(z[:2], everyone, temperature=t, first=first)
            small = (
                [nt_xent(z[2:], everyone, temperature=t, first=first, shared=False)]
                if len(z) > 2
                else []
            )
        loss = sum((part.sum(0) for part in small), losses.sum(0)).mean() / len(z)
        return {"loss": loss, "embeddings": z[0].detach()}

    def trivial(self, batch: int) -> float:
        """Loss of equal embeddings for `batch` images over all ranks: ln(2N - 1)."""
        return math.log(2 * batch - 1)
