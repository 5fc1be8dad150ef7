"""MoCo v1 and v2: He et al., Momentum Contrast, 2019; Chen et al., Improved Baselines, 2020."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from genseg.core import dist
from genseg.core.check import above, at_least, between
from genseg.core.contrast import full_precision, info_nce
from genseg.core.schedule import Plan
from genseg.methods.method import Method, check_two_large
from genseg.nn.encoder import Encoder
from genseg.nn.groups import group_norms
from genseg.nn.heads import mlp
from genseg.nn.momentum import TeacherNorm, follow, teacher_of


@dataclass(frozen=True)
class MoCoConfig:
    name: str = "moco"
    temperature: float = 0.2  # 0.07 in v1
    momentum: float = 0.999  # momentum of the key encoder
    # batch: statistics of its own batches (paper), ema: averages of the student's
    teacher_norm: TeacherNorm = "batch"
    # number of keys kept as negatives; fewer than images, or an image meets its own old keys
    queue: int = 65536
    # v2, v1, or with batch norms as in v3, which learns sooner
    head: Literal["mlp", "linear", "mlp_bn"] = "mlp"
    dim: int = 128  # width of the embedding
    # batch-norm groups on one device, shuffled for the keys; several devices split anyway
    splits: int = 1
    # true: both large views serve as query and as key, at the cost of one more pass each
    symmetric: bool = False

    def __post_init__(self) -> None:
        above(0, temperature=self.temperature)
        between(0, 1, momentum=self.momentum)
        at_least(1, queue=self.queue, splits=self.splits, dim=self.dim)


class MoCo(Method):
    """A query finds its key, made by a slowly moving teacher, among a queue of older keys.

    Order of one update as in the official code: query, key, logits, then enqueue; the teacher moves
    after the optimiser, which is before the next key. Small views are further queries. The official
    code starts with a queue of random vectors; here only keys are negatives, because telling keys
    from noise teaches a short run to gather all images in one place.
    """

    def __init__(self, encoder: Encoder, config: MoCoConfig, plan: Plan) -> None:
        super().__init__()
        self.config = config
        widths = (
            (encoder.width, config.dim)
            if config.head == "linear"
            else (encoder.width, encoder.width, config.dim)
        )
        norm = config.head == "mlp_bn"
        self.encoder = encoder
        self.head = mlp(*widths, norm=norm, head="mlp_bn" if norm else "mlp")
        group_norms(nn.Sequential(self.encoder, self.head), config.splits)
        self.teacher = teacher_of(nn.Sequential(encoder, self.head))
        self.queue: Tensor
        self.enqueued: Tensor
        self.register_buffer("queue", torch.zeros(config.queue, config.dim))
        # keys so far, over all ranks
        self.register_buffer("enqueued", torch.zeros((), dtype=torch.long))
        self.pending: list[Tensor] = []
        self.negatives = 0  # keys that the last pass was contrasted with

    def forward(self, views: list[Float[Tensor, "_ b c _ _"]]) -> dict[str, Tensor]:
        check_two_large(len(views[0]), views[0].shape[-1], "moco")
        b, splits = views[0].shape[1], self.config.splits
        if b < 2 * splits or b % splits:
            raise ValueError(
                f"method.splits={splits} batch-norm groups need at least 2 images each and have "
                f"to divide a pass, which has {b}; change batch_size or method.splits"
            )
        large = views[0] if self.config.symmetric else views[0][:1]
        q = torch.cat([self._queries(g) for g in (large, *views[1:])])
        # key of query view i
        key_views = views[0].flip(0) if self.config.symmetric else views[0][1:]
        keys = torch.stack([self._keys(view) for view in key_views])
        negatives = self.queue[: int(self.enqueued)]
        self.negatives = len(negatives)
        with full_precision(q):
            q = F.normalize(q, dim=-1)
            own = [keys[i] if i < len(keys) else keys[0] for i in range(len(q))]
            t = self.config.temperature
            losses = [info_nce(a, k, negatives, temperature=t) for a, k in zip(q, own, strict=True)]
        if self.training:
            self.pending += [dist.gather_constant(k) for k in keys]
        return {"loss": torch.stack(losses).mean(), "embeddings": q[0].detach()}

    def _queries(self, views: Float[Tensor, "v b c h w"]) -> Float[Tensor, "v b d"]:
        """Queries of all views: the batch in `splits` runs of neighbours, each with its own
        batch-norm statistics."""
        v, splits = len(views), self.config.splits
        # splits v b/splits ...: a run is one group
        runs = views.unflatten(1, (splits, -1)).transpose(0, 1)
        q = self.head(self.encoder(runs.flatten(0, 2))).float()
        return q.unflatten(0, (splits, v, -1)).transpose(0, 1).flatten(1, 2)

    @torch.no_grad()
    def _keys(self, view: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Normalised keys, batch-normalised among other neighbours than the queries.

        The official code shuffles over devices. A fixed stride over all ranks and splits does the
        same without
        drawing numbers, because the sampler has already shuffled: group g holds images g, g +
        groups, ...
        """
        if self.config.teacher_norm == "ema":
            self.teacher.eval()
        groups = self.config.splits * dist.world() if self.config.teacher_norm == "batch" else 1
        if groups == 1:
            return F.normalize(self.teacher(view).float(), dim=1)
        everyone = dist.gather_constant(view)
        if len(everyone) % groups:
            raise ValueError(
                f"a global batch of {len(everyone)} does not divide into {groups} batch-norm groups"
            )
        mine = range(dist.rank() * self.config.splits, (dist.rank() + 1) * self.config.splits)
        order = [torch.arange(len(everyone), device=view.device)[g::groups] for g in range(groups)]
        own = everyone[torch.cat([order[g] for g in mine])]
        keys = dist.gather_constant(F.normalize(self.teacher(own).float(), dim=1))
        restored = torch.empty_like(keys)
        restored[torch.cat(order)] = keys
        b = view.shape[0]
        return restored[dist.rank() * b : (dist.rank() + 1) * b]

    def begin_step(self) -> None:
        self.pending.clear()

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Move the teacher, then the keys of this update into the queue, oldest out."""
        follow(
            self.teacher,
            nn.Sequential(self.encoder, self.head),
            self.config.momentum,
            self.config.teacher_norm,
        )
        for keys in self.pending:
            kept = keys[-len(self.queue) :]
            places = (self.enqueued + torch.arange(len(kept), device=keys.device)) % len(self.queue)
            self.queue[places] = kept
            self.enqueued += len(kept)
        self.pending.clear()

    def scheduled(self, progress: float) -> dict[str, float]:
        return {"tau": self.config.momentum}

    def trivial(self, batch: int) -> float:
        """Loss of equal logits in the last pass: ln(negatives + 1); only a full queue makes that
        ln(queue + 1)."""
        return math.log(self.negatives + 1)
