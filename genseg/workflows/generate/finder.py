"""What finds the instances of an image: the model of a run, or a proposer."""

import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8

from genseg.alpha.codes import STRIDE
from genseg.alpha.model import AlphaModel, alpha_facts, load_alpha
from genseg.core.check import at_least, between
from genseg.core.names import ALPHA_NAME, ENERGY_NAME
from genseg.core.paths import expand
from genseg.core.precision import fast_precision
from genseg.data.images.decode import shrunk
from genseg.data.instances.instance import Instance, resized
from genseg.data.proposals.component_tree import MIN_AREA
from genseg.data.proposals.propose import PROPOSERS, TAUGHT, check_teacher, propose
from genseg.data.regions.opened import is_large
from genseg.data.regions.scene import Scene
from genseg.energies.model import digest, rank_by
from genseg.nn.teacher import Teacher, load_teacher
from genseg.transfer.places import PlaceDetector
from genseg.transfer.predictor import Predictor, predictor_file
from genseg.workflows.generate.shrinking import Shrinking

Pixels = UInt8[np.ndarray, "h w c"]


@dataclass(frozen=True)
class Wanted:
    """What counts as an instance, in place of what a run has set, or a proposer sets by itself
    (None)."""

    # least score, a probability; proposers have scores of their own and keep all
    score: float | None = None
    min_area: int | None = None  # pixels of the smallest, in the image's own
    side: int | None = None  # larger images are shrunk to this short side; 0: none
    # a run of genseg energy, or its energy.safetensors, that ranks the instances of a run
    energy: str | None = None
    # what `load_teacher` takes, for a proposer that asks a frozen teacher, or a run whose decoder
    # takes the features of one
    teacher: str | None = field(default=None, repr=False)
    teacher_name: str | None = field(default=None, repr=False)
    # the teacher, where it is a tag that is not on this machine
    download: bool = field(default=False, repr=False)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result of a finder; a teacher is known by the finder's own word."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.repr}

    def __post_init__(self) -> None:
        if self.score is not None:
            between(0, 1, score=self.score)
        if self.min_area is not None:
            at_least(1, min_area=self.min_area)
        if self.side is not None and self.side != 0 and self.side < 32:
            raise ValueError(f"side={self.side}: use 0, which shrinks no image, or 32 or more")


@runtime_checkable
class Finder(Protocol):
    """What gives the instances of an image, best first."""

    def instances(self, image: Pixels | Scene) -> list[Instance]: ...


@dataclass(frozen=True)
class Classical:
    """A proposer without learning, for comparison. Where `wanted` says nothing it looks at images
    in their own size, and its least area counts pixels of what it looks at."""

    name: str
    wanted: Wanted = Wanted()
    teacher: Teacher | None = None

    def instances(self, image: Pixels | Scene) -> list[Instance]:
        small, whole = self._seen(image), image.shape[:2]
        part = small.shape[0] * small.shape[1] / (whole[0] * whole[1])
        least = self.wanted.min_area
        found = propose(
            self.name,
            small,
            min_area=MIN_AREA if least is None else max(1, round(least * part)),
            teacher=self.teacher,
        )
        if small.shape[:2] == whole:
            return found
        large = (resized(a, small.shape[:2], whole) for a in found)
        return [a for a in large if a is not None and a.area >= (least or 1)]

    def _seen(self, image: Pixels | Scene) -> UInt8[np.ndarray, "_ _ c"]:
        """What it looks at, in one piece. Raises ValueError where that is too large."""
        side = self.wanted.side or 0
        if not isinstance(image, Scene):
            return shrunk(image, side)
        seen = image.looked_at(side)
        if is_large(*seen.size):
            raise ValueError(
                f"{self.name} looks at whole images, and one has {seen.shape[1]} x "
                f"{seen.shape[0]} pixels: shrink it by --side, or give a run, which looks at tiles"
            )
        return seen[:, :]


def finder_of(run: Path, wanted: Wanted, device: torch.device) -> tuple[Finder, str]:
    """What finds the instances, on a device, and a word that changes when it does. Raises
    ValueError."""
    if is_proposer(run):
        if wanted.score is not None:
            raise ValueError(f"--score is for runs; {run} is a proposer with scores of its own")
        if wanted.energy is not None:
            raise ValueError(f"--energy is for runs; {run} is a proposer")
        check_teacher(str(run), wanted.teacher, key="--teacher")
        if wanted.teacher is None:
            return Classical(str(run), wanted), str(run)
        teacher = load_teacher(
            wanted.teacher, name=wanted.teacher_name, download=wanted.download
        ).to(device)
        return Classical(str(run), wanted, teacher), f"{run} by teacher {teacher.key}"
    file = alpha_file(run)
    model, _ = load_alpha(file, teacher=wanted.teacher)
    chosen = {
        name: value
        for name in ("score", "min_area")
        if (value := getattr(wanted, name)) is not None
    }
    model.config = replace(model.config, **chosen)
    if wanted.side is not None:
        model.look = replace(model.look, side=wanted.side)
    model.precision = fast_precision(device)
    model.to(device)
    origin = digest(file)
    if wanted.energy is not None:
        energy = energy_file(expand(wanted.energy))
        rank_by(model, file, energy)
        origin += f" ranked by {digest(energy)}"
    return model, origin


def rank_detections(predictor: Predictor, run: Path, energy: str) -> str:
    """Let an energy score what a fine-tuned model finds; a word that changes with the energy.
    Raises ValueError for a model without an alpha decoder, or the energy of another one.

    run: what the predictor was loaded from
    """
    model, file = predictor.model, energy_file(expand(energy))
    if not isinstance(model, PlaceDetector):
        raise ValueError(
            f"--energy is for models with an alpha decoder (places), and {run} holds "
            f"{model.config.name}"
        )
    rank_by(model, predictor_file(run), file)
    return digest(file)


def shrinking_of(finder: Finder) -> Shrinking:
    """How a finder shrinks images, and the smallest object that it can find then."""
    side, least = 0, 1.0
    if isinstance(finder, AlphaModel):
        side, least = finder.look.side, float(STRIDE)  # a pixel of its maps
    elif isinstance(finder, Classical):
        side = finder.wanted.side or 0
        least = math.sqrt(MIN_AREA) if finder.wanted.min_area is None else least
    return Shrinking(
        lambda h, w: min(h, w) / side if side else 1.0,
        least,
        "--side 0 looks at images in their own size",
    )


def is_proposer(name: Path) -> bool:
    """Whether a classical proposer is meant, and no run."""
    return str(name) in (*PROPOSERS, *TAUGHT) and not name.exists()


def asks_teacher(name: Path) -> bool:
    """Whether this is a proposer that asks a teacher, or a run whose decoder takes the features of
    one."""
    if is_proposer(name):
        return str(name) in TAUGHT
    file = name / ALPHA_NAME if name.is_dir() else name
    if file.suffix != Path(ALPHA_NAME).suffix or not file.is_file():  # what it is is said later
        return False
    return alpha_facts(file).teacher is not None


def alpha_file(run: Path) -> Path:
    """The alpha decoder of a run directory, or the file itself. Raises ValueError when there is
    none."""
    file = run / ALPHA_NAME if run.is_dir() else run
    if file.suffix == ".onnx":
        raise ValueError(f"{file}: python -m genseg.onnx {file} FOLDER --out DIR is for such files")
    if not file.is_file():
        raise ValueError(
            f"there is no {file}: give a run directory that has {ALPHA_NAME}; a run leaves it "
            "when it ends or is interrupted, if its recipe has the alpha task. Classical "
            f"proposers: {', '.join((*PROPOSERS, *TAUGHT))}"
        )
    return file


def energy_file(run: Path) -> Path:
    """The energy of a run directory, or the file itself. Raises ValueError when there is none."""
    file = run / ENERGY_NAME if run.is_dir() else run
    if not file.is_file():
        raise ValueError(
            f"there is no {file}: give a run of genseg energy; it leaves {ENERGY_NAME} when it ends"
        )
    return file
