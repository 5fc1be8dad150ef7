"""Supervised pretraining: cross-entropy on the classes of images, what methods without labels are
measured against."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from genseg.core import dist
from genseg.core.check import above, at_least, between
from genseg.core.contrast import full_precision
from genseg.core.schedule import Plan
from genseg.methods.method import Key, Method, RunImages, check_two_large, embed, project
from genseg.methods.semantic import labelled
from genseg.nn.encoder import Encoder


@dataclass(frozen=True)
class SupervisedConfig:
    name: str = "supervised"
    most: int = 1000  # classes that there may be: outputs of the head
    labelled: float = 1.0  # share of each class's images whose class is used
    seed: int = 0  # draws those images
    unseen: tuple[str, ...] = ()  # classes of which no image's class is used

    supervised = True

    def __post_init__(self) -> None:
        at_least(2, most=self.most)
        above(0, labelled=self.labelled)
        between(0, 1, labelled=self.labelled)
        at_least(0, seed=self.seed)


class Supervised(Method):
    """A linear layer on the encoder tells the class of each view; an image without a class that is
    used gives no loss."""

    def __init__(self, encoder: Encoder, config: SupervisedConfig, plan: Plan) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.head = nn.Linear(encoder.width, config.most)
        self.classes = 0  # known once there are images
        self.labels = torch.zeros(0, dtype=torch.long)  # of each image, -1: not used
        self.last = self.labels  # of the last pass

    def prepare(self, images: RunImages, *, begun: bool) -> None:
        used = used_labels(self.config, images)
        self.classes = len(images.classes)
        self.labels = torch.full((images.count,), -1)
        self.labels[used] = torch.tensor(images.labels)[used]

    def begin_pass(self, index: Int[Tensor, "b"], keys: Sequence[Key] = ()) -> None:
        self.last = self.labels[index.cpu()]

    def forward(self, views: list[Float[Tensor, "_ b c _ _"]]) -> dict[str, Tensor]:
        check_two_large(len(views[0]), views[0].shape[-1], "supervised")
        assert len(self.last) == views[0].shape[1], "begin_pass says which images these are"
        h = embed(self.encoder, views)
        scores = project(self.head, h)[..., : self.classes]
        labels = self.last.to(scores.device)
        with full_precision(scores):
            each = F.cross_entropy(
                scores.flatten(0, 1), labels.repeat(len(scores)), ignore_index=-1, reduction="none"
            )
            known = labels >= 0
            losses = each.unflatten(0, scores.shape[:2]).mean(0)
            loss = losses.sum() / dist.over_ranks(known.sum())
        return {"loss": loss, "embeddings": h[0].detach().float()}

    def trivial(self, batch: int) -> float:
        """Loss of equal scores: ln(classes)."""
        return math.log(max(self.classes, 2))


def used_labels(config: SupervisedConfig, images: RunImages) -> list[int]:
    """The images whose class is used. Raises ValueError where there are no classes, too many, or
    fewer than two that are used."""
    if images.labels is None:
        raise ValueError(
            "method.name=supervised learns from classes, and data.path has none: give class "
            "folders, a list with a class behind a tab on each line, or a COCO json, whose boxes "
            "are then the images"
        )
    if len(images.classes) > config.most:
        raise ValueError(
            f"method.most={config.most}: the images have {len(images.classes)} classes; raise it"
        )
    if unknown := sorted(set(config.unseen) - set(images.classes)):
        raise ValueError(
            f"method.unseen: there are no classes {', '.join(unknown)}; the classes are "
            f"{', '.join(images.classes)}"
        )
    if len(images.classes) - len(config.unseen) < 2:
        raise ValueError(
            f"method.name=supervised needs two classes or more to tell apart; of "
            f"{', '.join(images.classes)} method.unseen leaves "
            f"{len(images.classes) - len(config.unseen)}"
        )
    return labelled(torch.tensor(images.labels), images.classes, config)
