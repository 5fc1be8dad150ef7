"""Targets that mean words: supervised by the names of classes, in what is otherwise BYOL."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genseg.core.check import above, at_least, between
from genseg.core.ridge import ridge
from genseg.data.labels.word_vectors import class_vectors, dimension
from genseg.methods.method import RunImages, embed
from genseg.methods.target import (
    Projector,
    Target,
    encoder_of,
    full_batches,
    refuse_averages,
    same_on_all_ranks,
    seeded,
)
from genseg.nn.momentum import TeacherNorm, follow
from genseg.nn.norms import average_anew

SUPERVISED = "supervised by class names"


@dataclass(frozen=True)
class SemanticConfig:
    words: str  # word vectors in GloVe's text format, `word v1 .. vn` on each line
    name: str = "semantic"
    # what a class is called, where its name is not made of words of the file
    names: dict[str, str] = field(default_factory=dict)
    # word: the target is the vector of the image's class; network: a teacher that begins by giving
    # word vectors, and then follows the student
    form: Literal["word", "network"] = "word"
    labelled: float = 1.0  # share of each class's images whose class is used
    seed: int = 0  # draws those images
    unseen: tuple[str, ...] = ()  # classes of which no image's class is used
    # of the network form: the weight of the ridge regression, in parts of the features' variance
    ridge: float = 1e-2

    supervised = True

    def __post_init__(self) -> None:
        above(0, labelled=self.labelled, ridge=self.ridge)
        between(0, 1, labelled=self.labelled)
        at_least(0, seed=self.seed)


@runtime_checkable
class Labels(Protocol):
    """Which labels of a run's images are used."""

    @property
    def labelled(self) -> float:
        """Share of each class's images."""

    @property
    def seed(self) -> int:
        """Draws them."""

    @property
    def unseen(self) -> tuple[str, ...]:
        """Classes of which none is used."""


class Semantic(Target):
    """Word vectors as targets, of length 1.

    In the form `word` the student predicts the vector of the image's class from each view, and an
    image without one gives no loss. In the form `network` the target is the student's encoder with
    a linear layer that ridge regression has fitted to the vectors of labelled images; the encoder
    then follows the student on all images, and the layer stays.
    """

    vectors: Tensor

    def __init__(
        self,
        student: nn.Sequential,
        config: SemanticConfig,
        norm: TeacherNorm,
        projector: Projector,
    ) -> None:
        width, follows = dimension(config.words), config.form == "network"
        if follows:
            with seeded(config.seed):  # its weights are fitted: none are drawn from the run's
                layer = nn.Linear(encoder_of(student).width, width)
            super().__init__(copy.deepcopy(student[0]), layer)
        else:
            refuse_averages(f"{config.name} with method.target.form=word", norm)
            super().__init__()
        self.requires_grad_(False)
        self.config, self.norm, self.width, self.follows = config, norm, width, follows
        self.register_buffer("vectors", torch.zeros(0, width))
        self.labels = torch.zeros(0, dtype=torch.long)  # of each image, -1: not used
        self.last = self.labels  # of the last pass

    def prepare(self, images: RunImages, *, begun: bool) -> None:
        vectors, c = word_vectors(self.config, images), self.config
        self.vectors = torch.from_numpy(vectors).float().to(self.vectors.device)
        labels = torch.tensor(images.labels)
        used = labelled(labels, images.classes, c)
        self.labels = torch.full_like(labels, -1)
        self.labels[used] = labels[used]
        self.labels = self.labels.to(self.vectors.device)
        if self.follows and not begun:
            self._fit(images, used)

    @torch.no_grad()
    def _fit(self, images: RunImages, used: list[int]) -> None:
        """The last layer, on features in the mode that the teacher is then used in."""
        encoder = encoder_of(self)
        order = np.random.default_rng([self.config.seed, *b"order"]).permutation(used).tolist()
        if self.norm == "ema":
            average_anew(encoder)
            for views, _ in images.views(full_batches(order)):
                encoder(views)
            encoder.eval()
        features, found = list[Tensor](), list[Tensor]()
        for views, index in images.views(full_batches(order)):
            features.append(encoder(views).float())
            found.append(self.labels[index.to(self.labels.device)])
        x, y = torch.cat(features)[: len(order)], torch.cat(found)[: len(order)]
        some = y >= 0  # what stands in for a broken image may have no label
        weight, bias = ridge(x[some], self.vectors[y[some]], strength=self.config.ridge)
        layer = self[1]
        assert isinstance(layer, nn.Linear)
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
        same_on_all_ranks(self)

    def begin_pass(self, index: Int[Tensor, "b"]) -> None:
        self.last = self.labels[index.to(self.labels.device)]

    def known(self) -> Bool[Tensor, "b"] | None:
        return None if self.follows else self.last >= 0

    def targets(
        self, views: Float[Tensor, "2 b c h w"], z: Float[Tensor, "2 b e"]
    ) -> Float[Tensor, "2 b d"]:
        if not self.follows:
            assert len(self.last) == views.shape[1], "begin_pass says which images these are"
            return self.vectors[self.last.clamp_min(0)].expand(2, -1, -1)
        if self.norm == "ema":
            self.eval()
        return embed(self, [views]).float()

    def after_step(self, student: nn.Sequential, tau: float) -> None:
        if self.follows:
            follow(self[0], student[0], tau, self.norm)


def word_vectors(config: SemanticConfig, images: RunImages) -> Float[np.ndarray, "k n"]:
    """The vector of each class of a run's images. Raises ValueError where images have no classes,
    where fewer than two are to be learnt, and as `class_vectors` does."""
    if images.labels is None:
        raise ValueError(
            "method.target.name=semantic is supervised by class names, and data.path has none: "
            "give class folders, a list with a class behind a tab on each line, or a COCO json, "
            "whose boxes are then the images"
        )
    if unknown := sorted(set(config.unseen) - set(images.classes)):
        raise ValueError(
            f"method.target.unseen: there are no classes {', '.join(unknown)}; the classes are "
            f"{', '.join(images.classes)}"
        )
    if len(set(images.classes) - set(config.unseen)) < 2:
        raise ValueError(
            f"method.target.name=semantic needs two classes or more to tell apart; of "
            f"{', '.join(images.classes)} method.target.unseen leaves "
            f"{len(set(images.classes) - set(config.unseen))}"
        )
    return class_vectors(config.words, images.classes, config.names)


def labelled(labels: Int[Tensor, "n"], classes: Sequence[str], config: Labels) -> list[int]:
    """The images whose class is used, in order: of each seen class the share `labelled`, one at
    least, drawn by the seed."""
    rng = np.random.default_rng([config.seed, *b"labelled"])
    chosen: list[int] = []
    for c, name in enumerate(classes):
        own = rng.permutation(np.flatnonzero(labels.numpy() == c))
        if name not in config.unseen:
            chosen += own[: max(1, round(config.labelled * len(own)))].tolist()
    return sorted(chosen)
