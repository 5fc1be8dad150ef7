"""Distillation: a small encoder learns to give back the features of a frozen teacher (Hinton et
al., Distilling the Knowledge in a Neural Network, 2015; of features: Romero et al., FitNets,
2015)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from genseg.core import dist
from genseg.core.check import at_least
from genseg.core.contrast import full_precision
from genseg.core.schedule import Plan
from genseg.methods.method import Colour, Method, embed
from genseg.nn.encoder import Encoder
from genseg.nn.teacher import Teacher, guard, load_teacher


@dataclass(frozen=True)
class DistillConfig:
    name: str = "distill"
    # the teacher, which has to be given: a .safetensors file | a run directory | a tag of timm
    teacher: str | None = None
    teacher_name: str | None = None  # timm's name of the file's architecture, where it does not say
    download: bool = False  # fetch a tag that is not on this machine
    # pixels at which the teacher sees a view of the largest size; 0: as it is, in whole patches
    side: int = 0
    levels: int = 2  # so many of the pyramid's last maps give back the teacher's
    dense: float = 1.0  # weight of the loss over places
    pooled: float = 1.0  # weight of the loss of the mean over places

    def __post_init__(self) -> None:
        at_least(0, side=self.side, dense=self.dense, pooled=self.pooled)
        at_least(1, levels=self.levels)
        if not self.dense and not self.pooled:
            raise ValueError("dense=0 and pooled=0: nothing is learnt; set one of them to 1")


class Distill(Method):
    """loss = dense * (1 - cos of places, averaged over levels) + pooled * (1 - cos of means), of
    the student's linearly projected features and the teacher's.

    The teacher sees the views of the largest size, as the student does. A smaller view gives back
    the mean of the teacher's means of the largest ones (multi-crop). The teacher is no part of the
    module: it is in no checkpoint, and is read again from its file.
    """

    def __init__(self, encoder: Encoder, config: DistillConfig, plan: Plan) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self._teacher = (_load(config),)  # in a tuple, or torch would make it a part
        widths = [int(w) for w in encoder.net.out_channels[1:] if w][-config.levels :]
        if len(widths) < config.levels:
            raise ValueError(
                f"method.levels={config.levels}: the encoder has {len(widths)} "
                f"level{'' if len(widths) == 1 else 's'}; use method.levels={len(widths)}"
            )
        width = self.teacher.width
        self.dense = nn.ModuleList(nn.Conv2d(w, width, 1) for w in widths if config.dense)
        self.pooled = nn.Linear(encoder.width, width) if config.pooled else None
        guard(self, self.teacher, key="method.teacher", file=str(config.teacher))
        self.mean: Colour = (0.0, 0.0, 0.0)  # until expect_views
        self.std: Colour = (1.0, 1.0, 1.0)
        self.flat = torch.tensor(math.nan)

    @property
    def teacher(self) -> Teacher:
        return self._teacher[0]

    def expect_views(self, sizes: Sequence[int], *, mean: Colour, std: Colour) -> None:
        """Raise ValueError unless the teacher takes what the largest views become for it."""
        self.teacher.check_channels(len(mean), key="method.teacher")
        self.mean, self.std = mean, std
        if self.config.side:
            self.teacher.check_side(**{"method.side": self.config.side})

    def forward(self, views: list[Float[Tensor, "_ b c _ _"]]) -> dict[str, Tensor]:
        count = len(views[0])
        target = self.taught(views[0].flatten(0, 1))
        pyramid = self.encoder.pyramid(views[0].flatten(0, 1))
        means = pyramid[-1].mean((2, 3)).unflatten(0, (count, -1))
        terms, trivial = {}, []
        if self.config.dense:
            maps = pyramid[-len(self.dense) :]
            wanted = [at_places(target, (m.shape[2], m.shape[3])) for m in maps]
            given = [h(m).float() for h, m in zip(self.dense, maps, strict=True)]
            with full_precision(target):
                losses = [apart(g, w).mean() for g, w in zip(given, wanted, strict=True)]
                terms["dense"] = torch.stack(losses).mean()
                trivial += [self.config.dense * constant(w) / len(wanted) for w in wanted]
        if self.pooled is not None:
            # one view's mean after the other's; small ones have those of all large ones
            own = F.normalize(target.mean((2, 3)), dim=1).unflatten(0, (count, -1))
            small = sum(len(group) for group in views[1:])
            wanted_means = torch.cat([own, own.mean(0, keepdim=True).expand(small, -1, -1)])
            h = torch.cat([means, embed(self.encoder, views[1:])]) if small else means
            given_means = self.pooled(h.flatten(0, 1)).float()
            with full_precision(target):
                terms["pooled"] = apart(given_means, wanted_means.flatten(0, 1)).mean()
                trivial.append(self.config.pooled * constant(wanted_means.flatten(0, 1)))
        self.flat = torch.stack(trivial).sum()
        weights = {"dense": self.config.dense, "pooled": self.config.pooled}
        loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        return {"loss": loss, "embeddings": means[0].detach(), **terms, "trivial": self.flat}

    @torch.no_grad()
    def taught(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """The teacher's features of normalised views, which it sees at its side and in its own
        normalisation."""
        teacher = self.teacher.to(x.device)
        side = self.config.side or math.ceil(x.shape[-1] / teacher.stride) * teacher.stride
        return teacher(at_places(teacher.seen(x, mean=self.mean, std=self.std), (side, side)))

    def trivial(self, batch: int) -> float:
        """Loss of the best constant features in the last pass."""
        return float(self.flat)


def apart(p: Float[Tensor, "n d *at"], t: Float[Tensor, "n d *at"]) -> Float[Tensor, "n *at"]:
    """1 - cos of features."""
    return 1 - F.cosine_similarity(p, t, dim=1)


def constant(t: Float[Tensor, "n d *at"]) -> Float[Tensor, ""]:
    """The mean of `apart` for the best features that are the same everywhere, over all ranks: 1 -
    |mean of t / |t||."""
    unit = F.normalize(t, dim=1).movedim(1, -1).flatten(0, -2)
    return 1 - dist.mean(unit.mean(0)).norm()


def at_places(x: Float[Tensor, "n d i j"], shape: tuple[int, int]) -> Float[Tensor, "n d h w"]:
    """Maps, or images, at another number of places; where these become fewer, averaged."""
    if (x.shape[2], x.shape[3]) == shape:
        return x
    return F.interpolate(x, shape, mode="bilinear", align_corners=False, antialias=True)


def _load(config: DistillConfig) -> Teacher:
    if config.teacher is None:
        raise ValueError(
            "method.teacher: distillation wants one; give a .safetensors file, such as DINOv2's "
            "vit_small_patch14_dinov2, a run directory with an encoder, or a tag of timm"
        )
    try:
        return load_teacher(config.teacher, name=config.teacher_name, download=config.download)
    except ValueError as error:
        raise ValueError(f"method.{error}") from None
