"""The online probe: k-nearest neighbours on labels that training never sees. And what is probed on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genseg.core.check import at_least
from genseg.core.schedule import check_durations
from genseg.data.box_crops import BoxCrops
from genseg.data.images import ImageSource, Readable, list_images
from genseg.data.labelled import read_labelled
from genseg.data.preflight import Findings
from genseg.measure.knn import Accuracy, accuracy, knn


@dataclass(frozen=True)
class ProbeConfig:
    every: str = "20 percent"  # how often; "0 steps": never
    train: str | None = None  # class folders whose images vote; null: data.path, each image by all others
    test: str | None = None  # class folders whose images are classified
    limit: int = 5000  # at most so many images of each, drawn by a fixed seed; 0: all
    k: int = 20
    size: int = 0  # pixels of the images that are measured; 0: those of the largest views

    def __post_init__(self) -> None:
        at_least(1, k=self.k)
        at_least(0, limit=self.limit, size=self.size)
        check_durations(every=self.every)


@dataclass(frozen=True)
class LabelledImages:
    """Some images of a source, and the class of each; and what was found wrong with their json."""

    source: Readable
    indices: list[int]
    labels: Int[Tensor, "n"]
    findings: Findings = ()


@dataclass(frozen=True)
class Probe:
    """Labelled images to measure an encoder on. Without `test`, each image of `train` is classified by all others."""

    train: LabelledImages
    test: LabelledImages | None
    k: int

    def measure(self, features: Callable[[LabelledImages], Float[Tensor, "n d"]]) -> Accuracy:
        """Accuracy of the neighbours' votes on what `features` makes of the images."""
        known = features(self.train)
        if self.test is None:
            votes = knn(known, self.train.labels, known, k=self.k, leave_one_out=True)
            return accuracy(votes, self.train.labels)
        return accuracy(knn(known, self.train.labels, features(self.test), k=self.k), self.test.labels)


def build_probe(config: ProbeConfig, source: ImageSource) -> Probe | None:
    """The probe of a config; None when neither config nor `source` has labels.

    Raises ValueError when only one side is named, or when the two name different classes.
    """
    if (config.train is None) != (config.test is None):
        raise ValueError("probe: name both probe.train and probe.test, or neither")
    if config.train is None or config.test is None:
        if source.images.labels is None:
            return None
        return Probe(train=labelled(source, config.limit), test=None, k=config.k)
    train, test = labelled_pair(config.train, config.test, limit=config.limit)
    return Probe(train=train, test=test, k=config.k)


def labelled_pair(train: str, test: str, *, limit: int, margin: float = 0.1) -> tuple[LabelledImages, LabelledImages]:
    """Two class folders, or the objects of two COCO jsons, whose boxes are cut out with `margin` on each side.

    Raises ValueError when the two have different classes, or are not of one kind.
    """
    if train.endswith(".json") != test.endswith(".json"):
        raise ValueError(f"probe: {train} and {test} are not of one kind: give two class folders or two COCO jsons")
    if train.endswith(".json"):
        first, found = read_labelled(Path(train), masks=False)
        second, more = read_labelled(Path(test), categories=first.categories, masks=False)
        return _crops(BoxCrops(first, margin), limit, found), _crops(BoxCrops(second, margin), limit, more)
    known, asked = (ImageSource(list_images(path), None) for path in (train, test))
    if known.images.classes != asked.images.classes or not known.images.classes:
        raise ValueError(
            f"probe: {train} has the classes {list(known.images.classes)} and {test} "
            f"{list(asked.images.classes)}; both need one folder for each class, of the same names"
        )
    return labelled(known, limit), labelled(asked, limit)


def _crops(crops: BoxCrops, limit: int, findings: Findings) -> LabelledImages:
    indices = sorted(np.random.default_rng(0).permutation(len(crops))[: limit or None].tolist())  # image by image
    return LabelledImages(crops, indices, torch.tensor([crops.labels[i] for i in indices]), findings)


def labelled(source: ImageSource, limit: int) -> LabelledImages:
    """At most `limit` readable images (0: all) of a source with classes, drawn by a fixed seed."""
    assert source.images.labels is not None
    drawn = np.random.default_rng(0).permutation(len(source.images))[: limit or None].tolist()
    indices = [i for i in drawn if source.read(i)[1] == i]  # a broken image's stand-in has another label
    return LabelledImages(source, indices, torch.tensor([source.images.labels[i] for i in indices]))
