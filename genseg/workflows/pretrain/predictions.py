"""What a masked method predicts of the same few images as training goes on. Nothing of training
depends on it."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from genseg.core.names import PREDICTED
from genseg.core.reading import Reading
from genseg.data.composites.dataset import ViewDataset
from genseg.data.images.inputs import rgb_of
from genseg.data.images.pixels import normalise
from genseg.data.images.png import write_png
from genseg.data.images.source import ImageError, decode
from genseg.methods.method import Predicts
from genseg.workflows.pretrain.parts import Parts

COUNT = 4  # images
SEEN = ("image", "masked")  # pictures beside those of steps
Pixels = UInt8[np.ndarray, "_ _ c"]


class Predictions:
    """Takes the pictures of a run: `predicted/image.png` and `masked.png`, one image below the
    other, and `predicted/STEP.png`."""

    def __init__(self, run: Path, method: Predicts, parts: Parts, start: int) -> None:
        """`start`: the step at which the run goes on; pictures of later ones are dropped, they come
        again."""
        self.folder, self.method, self.module = run / PREDICTED, method, parts.module
        for step, file in _of_steps(self.folder):
            if step > start:
                file.unlink()
        c = parts.config
        drawn = np.random.default_rng(0).permutation(len(parts.source))[:COUNT]
        dataset = ViewDataset(parts.source, parts.views, seed=c.seed, colour=True)
        views = dataset[[(0, int(i)) for i in drawn]].images[0].to(parts.accelerator.device)
        self.views = normalise(views, mean=c.data.mean, std=c.data.std)
        self.keys = [(c.seed, 0, int(i)) for i in drawn]
        self.mean, self.std = (torch.tensor(x) for x in (c.data.mean, c.data.std))

    def take(self, step: int) -> None:
        """Keep what the method predicts now."""
        training = self.module.training
        self.module.eval()
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            shown = self.method.shown(self.views, self.keys)
        self.module.train(training)
        for name, x in shown.items():
            pixels = x.cpu().movedim(1, -1) * self.std + self.mean
            column = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).flatten(0, 1)
            file = name if name in SEEN else f"{step:08d}"
            write_png(self.folder / f"{file}.png", rgb_of(column.numpy()))


def read_predictions(run: Path) -> tuple[dict[str, Pixels], list[tuple[int, Pixels]]]:
    """What was seen, by name, and what was predicted, by step: images one below the other. Both are
    empty where there are none."""
    folder = run / PREDICTED
    try:
        seen = {name: _read(folder / f"{name}.png") for name in SEEN if folder.is_dir()}
        return seen, [(step, _read(file)) for step, file in _of_steps(folder)]
    except ImageError:  # one is being written
        return {}, []


def _of_steps(folder: Path) -> list[tuple[int, Path]]:
    return sorted((int(f.stem), f) for f in folder.glob("*.png") if f.stem.isdigit())


def _read(file: Path) -> Pixels:
    """A picture of a run, whatever its images are."""
    return decode(file, reading=Reading())
