"""The online probe: k-nearest neighbours on labels that training never sees."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genseg.core.check import at_least
from genseg.core.schedule import check_durations
from genseg.data.images.source import ImageSource
from genseg.measure.knn import Accuracy, accuracy, knn
from genseg.workflows.evaluate.probe_sets import LabelledImages, labelled, labelled_pair


@dataclass(frozen=True)
class ProbeConfig:
    every: str = "20 percent"  # how often the encoder is probed; "0 steps": never
    # class folders or a COCO json whose images vote; null: data.path, each image by all others
    train: str | None = None
    test: str | None = None  # class folders or a COCO json whose images are classified
    limit: int = 5000  # at most this many images of each, drawn by a fixed seed; 0: all
    k: int = 20  # neighbours that vote; fewer where classes are smaller
    size: int = 0  # side of the measured images in pixels; 0: that of the largest views

    def __post_init__(self) -> None:
        at_least(1, k=self.k)
        at_least(0, limit=self.limit, size=self.size)
        check_durations(every=self.every)
        if (self.train is None) != (self.test is None):
            raise ValueError("name both probe.train and probe.test, or neither")


@dataclass(frozen=True)
class Probe:
    """Labelled images to measure an encoder on. Without `test`, each image of `train` is classified
    by all others, but
    for those that are the only one of their class, which cannot be right: they vote alone."""

    train: LabelledImages
    test: LabelledImages | None
    k: int

    def measure(self, features: Callable[[LabelledImages], Float[Tensor, "n d"]]) -> Accuracy:
        """Accuracy of the neighbours' votes on what `features` makes of the images."""
        known = features(self.train)
        if self.test is None:
            votes = knn(known, self.train.labels, known, k=self.k, leave_one_out=True)
            asked = several_of(self.train.labels)
            return accuracy(votes[asked], self.train.labels[asked])
        return accuracy(
            knn(known, self.train.labels, features(self.test), k=self.k), self.test.labels
        )


def several_of(labels: Int[Tensor, "n"]) -> Bool[Tensor, "n"]:
    """Which images have another one of their class."""
    return torch.bincount(labels)[labels] > 1


def build_probe(config: ProbeConfig, source: ImageSource) -> Probe | None:
    """The probe of a config; None when neither config nor `source` has labels, and when each image
    of `source` is the only one of its class.

    Raises ValueError when the two sides name different classes.
    """
    if config.train is None or config.test is None:
        if source.images.labels is None:
            return None
        train, test = labelled(source, config.limit), None
        if not several_of(train.labels).any():
            return None
    else:
        train, test = labelled_pair(config.train, config.test, limit=config.limit)
    # most of more neighbours are of other classes in any case
    usual = int(torch.bincount(train.labels).median())
    return Probe(train=train, test=test, k=min(config.k, max(usual - 1, 1)))
