"""genseg from Python: `genseg.load(RUN).instances(IMAGE)`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from genseg.core.paths import expand
from genseg.core.threads import in_order, several_at_once
from genseg.data.images.depth import as_rgb
from genseg.data.images.source import decode
from genseg.workflows.generate.instances import Instances
from genseg.workflows.generate.opened import open_run

Picture = str | Path | Image.Image | np.ndarray


class Model:
    """A run that finds instances: one of the alpha task, or a detector of fine-tuning. It may be
    used by several threads, and pickles by its path."""

    def __init__(self, run: str | Path) -> None:
        """Raises ValueError for a run that finds no instances, with what to give."""
        self.path = expand(run).absolute()
        self._run = open_run(self.path)

    def __repr__(self) -> str:
        return f"genseg.load({str(self.path)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return load, (str(self.path),)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; one, "instance", of what is found without a label."""
        return tuple(name for _, name in self._run.categories)

    @property
    def score(self) -> float:
        """The least score of an instance by default: that of the run."""
        return self._run.score

    @overload  # a str is a sequence of str, too
    def instances(  # type: ignore[overload-overlap]
        self, image: Picture, *, score: float | None = None
    ) -> Instances: ...
    @overload
    def instances(
        self, image: Sequence[Picture], *, score: float | None = None
    ) -> list[Instances]: ...
    def instances(
        self, image: Picture | Sequence[Picture], *, score: float | None = None
    ) -> Instances | list[Instances]:
        """The instances of an image, best first, in its own pixels; of a list, those of each,
        several at once.

        image: a file, a PIL image, or an array: h w (grey), h w 3 (RGB) or h w 4 (RGB with alpha),
            of any depth
        score: the least score, from half of the run's own on; by default the run's own

        Raises ImageError for a file that cannot be read, and ValueError for an array that is no
        image.
        """
        least = self.score if score is None else score
        if isinstance(image, str | Path | Image.Image | np.ndarray):
            return self._found(image, least)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with several_at_once(device) as pool:
            return list(in_order(pool, lambda one: self._found(one, least), image))

    def _found(self, image: Picture, least: float) -> Instances:
        pixels = _pixels(image)
        kept = tuple(a for a in self._run.instances(pixels) if a.score >= least)
        height, width = pixels.shape[:2]
        return Instances(kept, height, width, pixels, self.classes)


def load(run: str | Path) -> Model:
    """The model of a run directory or of a file of one (alpha.safetensors, model.safetensors).

    Raises ValueError for a run that finds no instances, with what to give.
    """
    return Model(run)


def _pixels(image: Picture) -> UInt8[np.ndarray, "h w 3"]:
    if isinstance(image, str | Path):
        return decode(expand(image))
    if isinstance(image, Image.Image) and not image.mode.startswith(("I", "F")):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    return as_rgb(np.asarray(image))
