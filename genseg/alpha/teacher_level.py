"""The features of a frozen teacher as a level of the alpha decoder's pyramid. Then the teacher is a
part of the model: its file is named in what is saved, by its digest, and is needed to use it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from jaxtyping import Float
from torch import Tensor, nn

from genseg.core.names import CONFIG_NAME
from genseg.core.paths import exists, expand
from genseg.nn.teacher import Colour, Teacher, guard, load_teacher

STRIDE, LEVEL = 16, 4  # of the level, and its place in the encoder's pyramid
Pyramid = Sequence[Float[Tensor, "b _ _ _"]]


@dataclass(frozen=True)
class TeacherFile:
    """What a saved model says of its teacher.

    file: the name of its file, or its tag, without the folder
    name: timm's name of its architecture
    digest: of the weights
    """

    file: str
    name: str
    digest: str


class TeacherLevel:
    """A teacher for images that are normalised by `mean` and `std`.

    It is no module, so its weights are in no checkpoint; a copy of a model shares it.
    """

    level = LEVEL

    def __init__(self, teacher: Teacher, *, file: str, mean: Colour, std: Colour) -> None:
        self.teacher, self.mean, self.std = teacher, mean, std
        self.facts = TeacherFile(Path(file).name, teacher.facts.name, teacher.facts.digest)

    @property
    def width(self) -> int:
        return self.teacher.width

    def __deepcopy__(self, memo: Any) -> "TeacherLevel":
        return self

    def guard(self, module: nn.Module) -> None:
        """Let the module refuse weights that were trained with another teacher."""
        guard(module, self.teacher, key="alpha.teacher", file=self.facts.file)

    def __call__(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c _h _w"]:
        """Features at h / STRIDE by w / STRIDE places of a mean of 0 and a variance of 1 at each.
        The teacher sees the image so large that each place is one of its patches; one of larger
        patches than STRIDE sees it as it is, and its map is enlarged."""
        teacher = self.teacher.to(x.device)
        h, w = (n // STRIDE for n in x.shape[2:])
        x = teacher.seen(x, mean=self.mean, std=self.std)
        if teacher.stride <= STRIDE:
            size = (h * teacher.stride, w * teacher.stride)
            x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        found = teacher(x).movedim(1, -1)
        level = F.layer_norm(found, found.shape[-1:]).movedim(-1, 1)
        if level.shape[2:] == (h, w):
            return level
        return F.interpolate(level, (h, w), mode="bilinear", align_corners=False)

    def beside(self, pyramid: Pyramid) -> list[Float[Tensor, "b _ _ _"]]:
        """The pyramid, whose first entry is the image, with the features behind the channels of
        the level of their stride."""
        before = pyramid[LEVEL]
        taught = self(pyramid[0].float()).to(before.dtype)
        return [*pyramid[:LEVEL], torch.cat([before, taught], 1), *pyramid[LEVEL + 1 :]]


def teacher_of(facts: TeacherFile, path: Path, given: str | None) -> Teacher:
    """The teacher of a saved model: the one that is given, else the file of its name beside it, the
    one that its run was given, or its tag. Raises ValueError where there is none, or another
    one."""
    beside = path.parent / facts.file
    known = given or (str(beside) if beside.exists() else _of_run(path.parent)) or facts.file
    try:
        teacher = load_teacher(known, name=facts.name if exists(expand(known)) else None)
    except ValueError as error:
        raise ValueError(
            f"{path}: its decoder takes the features of a frozen teacher, which is no part of the "
            f"file: {facts.file} ({facts.name}). Put that file beside it, or give it by --teacher, "
            f"which generate, evaluate and app take ({error})"
        ) from None
    if teacher.facts.digest != facts.digest:
        raise ValueError(
            f"{path}: it was trained with another teacher than {known}: wanted {facts.file} "
            f"({facts.name}) of the digest {facts.digest}, got {teacher.facts.digest}"
        )
    return teacher


def _of_run(run: Path) -> str | None:
    """The teacher in the config of a run, where that is still there."""
    try:
        said = yaml.safe_load((run / CONFIG_NAME).read_text("utf-8"))["alpha"]["teacher"]
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        return None
    return str(said) if said and exists(expand(str(said))) else None
