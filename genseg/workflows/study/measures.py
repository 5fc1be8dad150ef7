"""What is measured of the encoder of a cell: the literal table MEASURES."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genseg.core.names import ENCODER_NAME
from genseg.data.images.cache import build_cache
from genseg.data.images.files import list_images
from genseg.data.images.source import ImageSource
from genseg.measure.features import features
from genseg.measure.knn import accuracy, knn
from genseg.measure.linear import few_shots, linear
from genseg.measure.representation.measures import FACTOR, OVERLAP
from genseg.measure.representation.measures import MEASURES as FAMILIES
from genseg.nn.encoder import Encoder, load_weights
from genseg.nn.encoder_file import facts_of
from genseg.recipes import one_length, recipe
from genseg.workflows.evaluate.probe_sets import LabelledImages, labelled
from genseg.workflows.evaluate.representation import evaluate_representation
from genseg.workflows.finetune.cells import Arm
from genseg.workflows.finetune.compare import compare
from genseg.workflows.pretrain.zero_shot import zero_shot

ZERO_SHOT = {  # of genseg.zero_shot
    "zero_shot": "all classes, among all",
    "zero_shot_unseen": "unseen classes, among these",
}
PROBES = ("knn", "linear")  # measures of their own, which learn from the training images
LAYERED = ("knn", "linear", "effective_rank")  # measures that are told of each stage
SECONDS = "seconds"  # of training, beside all measures
SHOTS, DRAWS = 10, 5  # labelled images of each class in few-shot probes, and draws of them


@dataclass(frozen=True)
class TransferConfig:
    """The fine-tuning of the measure transfer: `genseg compare` with one encoder."""

    recipe: str = "unet"  # a recipe of genseg finetune
    train: str | None = None  # COCO jsons
    val: str | None = None
    labels: str = "16"  # labelled images
    keys: tuple[str, ...] = ()  # key=value of the recipe


@dataclass(frozen=True)
class Subject:
    """An encoder to measure, and on what.

    run: its run directory
    cache: short side of the decoded images on disk; 0: files are read
    limit: at most so many images of train and of test; 0: all
    reads_names: its method can tell classes by their names
    """

    run: Path
    train: str
    test: str
    cache: int
    limit: int
    reads_names: bool
    transfer: TransferConfig

    @functools.cached_property
    def known(self) -> LabelledImages:
        return labelled_images(self.train, self.cache, self.limit)

    @functools.cached_property
    def asked(self) -> LabelledImages:
        return labelled_images(self.test, self.cache, self.limit)

    @functools.cached_property
    def of_known(self) -> Float[Tensor, "n d"]:
        return self._features(self.known)

    @functools.cached_property
    def of_asked(self) -> Float[Tensor, "m d"]:
        return self._features(self.asked)

    def _features(self, images: LabelledImages) -> Float[Tensor, "n d"]:
        file = self.run / ENCODER_NAME
        facts = facts_of(file)
        encoder = Encoder(facts.encoder)
        load_weights(encoder, file)
        encoder.to("cuda" if torch.cuda.is_available() else "cpu")
        return features(
            encoder,
            images.source,
            images.indices,
            size=facts.size,
            mean=facts.mean,
            std=facts.std,
        )


@functools.lru_cache(maxsize=4)  # of all cells that this process makes
def labelled_images(path: str, cache: int, limit: int) -> LabelledImages:
    """Some images of a folder or list and their classes. Raises ValueError where they have none."""
    images = list_images(path)
    if images.labels is None:
        raise ValueError(
            f"{path} has no classes to measure by: give a folder for each class, or the measure "
            "representation alone"
        )
    cached = build_cache(images, side=cache, workers=2) if cache else None
    return labelled(ImageSource(images, cached), limit)


def _knn(s: Subject) -> dict[str, float]:
    guess = knn(s.of_known, s.known.labels, s.of_asked)
    return {"knn": accuracy(guess, s.asked.labels).top1}


def _linear(s: Subject) -> dict[str, float]:
    guess = linear(s.of_known, s.known.labels, s.of_asked)
    return {"linear": accuracy(guess, s.asked.labels).top1}


def _few_shot(s: Subject) -> dict[str, float]:
    found = few_shots(
        s.of_known, s.known.labels, s.of_asked, s.asked.labels, shots=SHOTS, seeds=DRAWS
    )
    return {"few_shot": float(np.mean(found))}


def _representation(s: Subject) -> dict[str, float]:
    found = evaluate_representation([s.run], s.test, images=s.limit).numbers()[str(s.run)]
    return {name: value for name, value in found.items() if name not in PROBES}


def _layers(s: Subject) -> dict[str, float]:
    """knn_1, linear_1 and so on, after each stage of the encoder."""
    found = evaluate_representation([s.run], s.test, layers=True, images=s.limit)
    stages = found.layers[str(s.run)].values()
    return {
        f"{name}_{n}": stage.measures[name].value
        for name in LAYERED
        for n, stage in enumerate(stages, start=1)
        if name in stage.measures
    }


def _zero_shot(s: Subject) -> dict[str, float]:
    if not s.reads_names:
        return {}
    found = zero_shot(s.run, s.test, limit=s.limit)
    return {key: found[row].accuracy.top1 for key, row in ZERO_SHOT.items() if row in found}


def _transfer(s: Subject) -> dict[str, float]:
    t = s.transfer
    if t.train is None or t.val is None:
        raise ValueError(
            "the measure transfer fine-tunes on COCO jsons: give transfer.train=TRAIN.json and "
            "transfer.val=VAL.json"
        )
    found = compare(
        [Arm("encoder", str(s.run))],
        labels=t.labels,
        seeds=1,
        out=s.run.parent / "transfer",
        file=recipe(Path(t.recipe), "finetune"),
        overrides=one_length([*t.keys, f"data.train={t.train}", f"data.val={t.val}"]),
        jobs=1,
    )
    values = [c["value"] for c in found["cells"] if c["value"] is not None]
    return {"transfer": float(np.mean(values))} if values else {}


Measure = Callable[[Subject], Mapping[str, float]]
# name -> the measure, which gives numbers by name, and the keys of a study that it depends on
MEASURES: dict[str, tuple[Measure, tuple[str, ...]]] = {
    "knn": (_knn, ("limit",)),
    "linear": (_linear, ("limit",)),
    "few_shot": (_few_shot, ("limit",)),
    "representation": (_representation, ("limit",)),
    "layers": (_layers, ("limit",)),
    "zero_shot": (_zero_shot, ("limit",)),
    "transfer": (_transfer, ("transfer",)),
}


def given_by(measure: str, name: str) -> bool:
    """Whether a measure may give a number of that name."""
    if measure == "representation":
        known = {n for family in FAMILIES.values() for n in family} - {*PROBES}
        return name in known or name.startswith((f"{FACTOR}_", f"{OVERLAP}_"))
    if measure == "layers":
        kind, _, stage = name.rpartition("_")
        return kind in LAYERED and stage.isdigit()
    return name in ZERO_SHOT if measure == "zero_shot" else name == measure


def settings_of(measure: str, config: Any, content: str) -> dict[str, Any]:
    """What the numbers of a measure depend on, besides the encoder. content: digest of the
    images."""
    of_study = asdict(config)
    return {"images": content, **{key: of_study[key] for key in MEASURES[measure][1]}}
