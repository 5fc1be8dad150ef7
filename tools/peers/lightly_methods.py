"""MoCo, SimCLR, BYOL and SwAV as lightly documents them: its transforms, heads, losses and memory
bank."""

import argparse
import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from lightly.loss import NegativeCosineSimilarity, NTXentLoss, SwaVLoss
from lightly.models import modules as heads
from lightly.models.batchnorm import get_norm_layer
from lightly.models.modules.memory_bank import MemoryBankModule
from lightly.models.utils import (
    batch_shuffle,
    batch_unshuffle,
    deactivate_requires_grad,
    update_momentum,
)
from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform
from lightly.transforms.moco_transform import MoCoV2Transform
from lightly.transforms.simclr_transform import SimCLRTransform
from lightly.transforms.swav_transform import SwaVTransform
from torch import Tensor, nn

CIFAR: dict[str, dict[str, Any]] = {  # docs/source/getting_started/benchmarks/cifar10_benchmark.py
    "moco": {
        "temperature": 0.1,
        "queue": 4096,
        "momentum": (0.99, 0.99),
        "symmetric": True,
        "splits": 8,
        "blur": 0.0,
    },
    "simclr": {"temperature": 0.5, "jitter": 0.5, "blur": 0.0},
    "byol": {"momentum": (0.99, 0.99), "blur": 0.0},
    "swav": {
        "temperature": 0.1,
        "queue": 0,
        "prototypes": 512,
        "jitter": 0.5,
        "blur": 0.0,
        "small_crops": 0,
    },
}
# examples/pytorch/METHOD.py; SwAV's crops scaled from 224 and 96 px
EXAMPLES: dict[str, dict[str, Any]] = {
    "moco": {
        "temperature": 0.5,
        "queue": 4096,
        "momentum": (0.996, 1.0),
        "symmetric": False,
        "splits": 0,
    },
    "simclr": {"temperature": 0.5},
    "byol": {"momentum": (0.996, 1.0)},
    "swav": {"temperature": 0.1, "queue": 0, "prototypes": 512, "small_crops": 6},
}


def documented(method: str, size: int) -> dict[str, Any]:
    """lightly's own numbers for images of `size` pixels; a missing key is left to lightly's
    classes."""
    return (CIFAR if size <= 32 else EXAMPLES)[method]


def views_of(o: argparse.Namespace) -> Any:
    """lightly's transform of the method: PIL image -> list of view tensors, the large ones
    first."""
    given = {"cj_strength": o.jitter, "gaussian_blur": o.blur}
    if o.method != "swav":
        given |= {"input_size": o.size, "min_scale": o.min_scale}
    given = {k: v for k, v in given.items() if v is not None}
    if o.method == "moco":
        return MoCoV2Transform(**given)
    if o.method == "simclr":
        return SimCLRTransform(**given)
    if o.method == "byol":
        return BYOLTransform(BYOLView1Transform(**given), BYOLView2Transform(**given))
    kinds = 2 if o.small_crops else 1
    return SwaVTransform(
        crop_sizes=(o.size, o.size // 2)[:kinds],
        crop_counts=(2, o.small_crops)[:kinds],
        crop_min_scales=(0.14 if o.min_scale is None else o.min_scale, 0.05)[:kinds],
        crop_max_scales=(1.0, 0.14)[:kinds],
        **given,
    )


def resnet18(stem: str, splits: int) -> nn.Module:
    """torchvision's ResNet-18 without its classifier: `b 3 h w` -> `b 512`."""
    net = torchvision.models.resnet18(norm_layer=partial(get_norm_layer, num_splits=splits))
    if stem == "small":
        net.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        net.maxpool = nn.Identity()
    net.fc = nn.Identity()
    return net


class Method(nn.Module, ABC):
    """`forward(views)` gives embeddings, a `b d` each, and `loss(embeddings)` a scalar."""

    def __init__(self, backbone: nn.Module, projection_head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = projection_head

    def before(self, seen: int, momentum: float) -> None:
        """What lightly does ahead of each forward pass; `seen` counts images."""

    def embed(self, x: Tensor) -> Tensor:
        return self.projection_head(self.backbone(x))

    @abstractmethod
    def loss(self, y: list[Tensor]) -> Tensor:
        """Of the embeddings of one batch."""


class Taught(Method):
    """A method with a momentum copy."""

    def __init__(self, backbone: nn.Module, projection_head: nn.Module) -> None:
        super().__init__(backbone, projection_head)
        self.backbone_momentum = copy.deepcopy(backbone)
        self.projection_head_momentum = copy.deepcopy(projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)

    def before(self, seen: int, momentum: float) -> None:
        update_momentum(self.backbone, self.backbone_momentum, m=momentum)
        update_momentum(self.projection_head, self.projection_head_momentum, m=momentum)

    @torch.no_grad()
    def teach(self, x: Tensor) -> Tensor:
        return self.projection_head_momentum(self.backbone_momentum(x))


class SimCLR(Method):
    def __init__(self, backbone: nn.Module, o: argparse.Namespace) -> None:
        super().__init__(backbone, heads.SimCLRProjectionHead(512, 512, 128))
        self.criterion = NTXentLoss(temperature=o.temperature)

    def forward(self, views: list[Tensor]) -> list[Tensor]:
        return [self.embed(x) for x in views]

    def loss(self, y: list[Tensor]) -> Tensor:
        return self.criterion(y[0], y[1])


class MoCo(Taught):
    def __init__(self, backbone: nn.Module, o: argparse.Namespace) -> None:
        super().__init__(backbone, heads.MoCoProjectionHead(512, 512, 128))
        self.symmetric, self.splits = o.symmetric, o.splits
        self.criterion = NTXentLoss(temperature=o.temperature, memory_bank_size=(o.queue, 128))

    def forward(self, views: list[Tensor]) -> list[Tensor]:
        pairs = [(views[0], views[1]), (views[1], views[0])][: 2 if self.symmetric else 1]
        return [y for query, key in pairs for y in (self.embed(query), self._key(key))]

    def _key(self, x: Tensor) -> Tensor:
        if not self.splits:
            return self.teach(x)
        x, shuffle = batch_shuffle(x)
        return batch_unshuffle(self.teach(x), shuffle)

    def loss(self, y: list[Tensor]) -> Tensor:
        return torch.stack(
            [self.criterion(q, k) for q, k in zip(y[::2], y[1::2], strict=True)]
        ).mean()


class BYOL(Taught):
    def __init__(self, backbone: nn.Module, o: argparse.Namespace) -> None:
        super().__init__(backbone, heads.BYOLProjectionHead(512, 1024, 256))
        self.prediction_head = heads.BYOLPredictionHead(256, 1024, 256)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, views: list[Tensor]) -> list[Tensor]:
        return [self.prediction_head(self.embed(x)) for x in views] + [self.teach(x) for x in views]

    def loss(self, y: list[Tensor]) -> Tensor:
        return 0.5 * (self.criterion(y[0], y[3]) + self.criterion(y[1], y[2]))


class SwaV(Method):
    def __init__(self, backbone: nn.Module, o: argparse.Namespace) -> None:
        super().__init__(backbone, heads.SwaVProjectionHead(512, 512, 128))
        self.prototypes = heads.SwaVPrototypes(128, n_prototypes=o.prototypes)
        self.queues = nn.ModuleList(
            MemoryBankModule(size=(o.queue, 128)) for _ in range(2 if o.queue else 0)
        )
        self.criterion = SwaVLoss(temperature=o.temperature)
        self.start = o.queue_start

    def before(self, seen: int, momentum: float) -> None:
        self.prototypes.normalize()
        self.use_queue = bool(self.queues) and seen >= self.start

    def forward(self, views: list[Tensor]) -> list[Tensor]:
        return [self.embed(x) for x in views]

    def loss(self, y: list[Tensor]) -> Tensor:
        z = [F.normalize(x, dim=1) for x in y]
        scores = [self.prototypes(x) for x in z]
        with torch.no_grad():
            kept = [
                self.prototypes(q(x, update=True)[1].T)
                for q, x in zip(self.queues, z, strict=False)
            ]
        return self.criterion(scores[:2], scores[2:], kept if self.use_queue else None).squeeze()


METHODS: dict[str, Callable[[nn.Module, argparse.Namespace], Method]] = {
    "moco": MoCo,
    "simclr": SimCLR,
    "byol": BYOL,
    "swav": SwaV,
}
