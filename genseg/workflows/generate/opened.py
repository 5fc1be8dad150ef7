"""A run, opened to ask it for instances: in a whole image, and at one place of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, overload, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int

from genseg.alpha.model import AlphaModel, load_alpha
from genseg.core.names import ALPHA_NAME, BEST_NAME, MODEL_NAME
from genseg.core.precision import fast_precision, scoring_precision
from genseg.data.instances.instance import Instance, filled
from genseg.data.labels.categories import Categories
from genseg.energies.autoencoder import Autoencoder
from genseg.nn.weights import read_facts
from genseg.transfer.contract import Detection, Pixels
from genseg.transfer.detector import Detector
from genseg.transfer.predictor import Predictor, load_predictor
from genseg.transfer.segmenter import Segmenter
from genseg.workflows.generate import finder, predict
from genseg.workflows.generate.exported import USUAL, open_exported
from genseg.workflows.generate.shrinking import Shrinking

ONE_CLASS: Categories = ((1, "instance"),)  # of what is found without a label


@runtime_checkable
class Opened(Protocol):
    """A run that finds instances.

    score: from which on instances usually count; lower ones are found, too
    categories: id and name of each class
    boxes: whether it finds boxes alone; its instances then fill their boxes
    shrinking: how it makes images smaller
    """

    @property
    def score(self) -> float: ...
    @property
    def categories(self) -> Categories: ...
    @property
    def boxes(self) -> bool: ...
    @property
    def shrinking(self) -> Shrinking: ...

    def instances(self, pixels: Pixels) -> list[Instance]:
        """All that it finds in an image, best first."""
        ...

    def at(self, pixels: Pixels, y: int, x: int) -> Instance | None:
        """Its best guess at a pixel, however little that scores; None for a run that looks at whole
        images alone."""
        ...


@dataclass(frozen=True)
class AlphaRun:
    """A run with the alpha task. The model's own least score is halved, so that a threshold can go
    below `score`.

    energy: of its decoder's maps; it ranks nothing here
    """

    model: AlphaModel
    score: float
    categories: Categories = ONE_CLASS
    boxes: bool = False
    energy: Autoencoder | None = None

    @property
    def shrinking(self) -> Shrinking:
        return finder.shrinking_of(self.model)

    def instances(self, pixels: Pixels) -> list[Instance]:
        return self.model.instances(pixels)

    def at(self, pixels: Pixels, y: int, x: int) -> Instance | None:
        return self.model.instance_at(pixels, y, x)


@dataclass(frozen=True)
class DetectorRun:
    """A run of genseg finetune that finds single objects."""

    predictor: Predictor
    boxes: bool
    score: float = USUAL

    @property
    def categories(self) -> Categories:
        return self.predictor.categories

    @property
    def shrinking(self) -> Shrinking:
        return predict.shrinking_of(self.predictor)

    def instances(self, pixels: Pixels) -> list[Instance]:
        return [_instance(d, *pixels.shape[:2]) for d in self.predictor.detect(pixels)]

    def at(self, pixels: Pixels, y: int, x: int) -> Instance | None:
        return self.predictor.instance_at(pixels, y, x)


@dataclass(frozen=True)
class ProposerRun:
    """A proposer, to be seen beside a run. It proposes for whole images alone, and keeps all."""

    proposer: finder.Classical
    score: float = 0.0
    categories: Categories = ONE_CLASS
    boxes: bool = False

    @property
    def shrinking(self) -> Shrinking:
        return finder.shrinking_of(self.proposer)

    def instances(self, pixels: Pixels) -> list[Instance]:
        return self.proposer.instances(pixels)

    def at(self, pixels: Pixels, y: int, x: int) -> Instance | None:
        return None


def _instance(d: Detection, height: int, width: int) -> Instance:
    whole = filled(d.box_xyxy, height, width) if d.instance is None else d.instance
    return replace(whole, score=d.score, category=d.category)


def open_runs(runs: Sequence[Path], wanted: finder.Wanted | None = None) -> dict[str, Opened]:
    """The models of some runs, and proposers, by name. Raises ValueError for a run that finds no
    instances.

    wanted: what a proposer goes by: its side, its least area, its teacher
    """
    opened: dict[str, Opened] = {}
    for run in runs:
        if finder.is_proposer(run):
            opened[str(run)] = _proposer(run, wanted or finder.Wanted())
            continue
        name = run.absolute().name if run.is_dir() else run.absolute().parent.name
        opened[name if name not in opened else str(run)] = open_finder(run)
    return opened


def _proposer(name: Path, wanted: finder.Wanted) -> ProposerRun:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    proposer, _ = finder.finder_of(name, wanted, device)
    assert isinstance(proposer, finder.Classical)
    return ProposerRun(proposer)


@dataclass(frozen=True)
class SegmenterRun:
    """A run of genseg finetune that gives each pixel a class."""

    predictor: Predictor

    @property
    def categories(self) -> Categories:
        return self.predictor.categories

    def segment(self, pixels: Pixels) -> Int[np.ndarray, "h w"]:
        """0 for background, 1, 2, ... in the order of `categories`."""
        return self.predictor.segment(pixels).cpu().numpy()


def open_finder(run: Path) -> Opened:
    """`open_run` for a run that finds instances. Raises ValueError for a segmenter."""
    opened = open_run(run)
    if not isinstance(opened, Opened):
        name = getattr(opened.predictor.model.config, "name", "the model")
        raise ValueError(
            f"{run}: {name} gives each pixel a class and finds no single instances; genseg "
            "predict writes its masks. Give a run with the alpha task, or one of places, "
            "mask_rcnn and faster_rcnn"
        )
    return opened


@overload
def open_run(
    run: Path, device: torch.device | None = None, precision: torch.dtype | None = None
) -> Opened | SegmenterRun: ...
@overload
def open_run(
    run: Path, device: torch.device | None, precision: torch.dtype | None, *, needed: bool
) -> Opened | SegmenterRun | None: ...
def open_run(
    run: Path,
    device: torch.device | None = None,
    precision: torch.dtype | None = None,
    *,
    needed: bool = True,
) -> Opened | SegmenterRun | None:
    """The model of a run directory, or of a file of one, or of one that genseg export has written.

    device: by default the first GPU, where there is one
    precision: by default what the hardware computes fastest, or a fine-tuned model's own
    needed: raise ValueError where there is no model; else None
    """
    file = next((f for n in (ALPHA_NAME, BEST_NAME, MODEL_NAME) if (f := run / n).is_file()), run)
    if not file.is_file():
        if not needed:
            return None
        raise ValueError(
            f"{run} holds neither {ALPHA_NAME} nor {MODEL_NAME}: give a run of genseg pretrain "
            "with the alpha task, or a detector of genseg finetune; a run leaves its file when "
            "it ends or is interrupted"
        )
    if file.suffix == ".onnx":
        return open_exported(file)
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if "preparation" in read_facts(file):
        return _finetuned(file, device, precision)
    model, _ = load_alpha(file)
    usual = model.config.score
    model.precision = precision or fast_precision(device)
    model.config = replace(model.config, score=usual / 2)
    return AlphaRun(model.to(device), usual)


def _finetuned(
    file: Path, device: torch.device, precision: torch.dtype | None
) -> DetectorRun | SegmenterRun:
    predictor, facts = load_predictor(file)
    predictor.model.to(device)
    predictor.precision = precision or scoring_precision(facts.precision, device)
    if isinstance(predictor.model, Segmenter):
        return SegmenterRun(predictor)
    boxes = isinstance(predictor.model, Detector) and not predictor.model.masks
    return DetectorRun(predictor, boxes=boxes)
