"""What the alpha task finds in the same few images as training goes on. Nothing of training depends
on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from genseg.core.names import SNAPSHOTS
from genseg.core.reading import Reading
from genseg.data.composites.bank import build_bank, load_bank, save_bank
from genseg.data.images.pixels import rgb_of
from genseg.data.images.png import write_png
from genseg.data.images.source import ImageError, ImageSource, decode
from genseg.data.instances.instance import Instance
from genseg.workflows.generate.finder import Finder

COUNT = 4  # images
SIDE = 256  # pixels of their windows: small ones cost little
Pixels = UInt8[np.ndarray, "_ _ c"]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Snapshot:
    """What was found after so many steps, for each of the images."""

    step: int
    found: tuple[tuple[Instance, ...], ...]


class Snapshots:
    """Takes the snapshots of a run: `snapshots/IMAGE.png` once, then `snapshots/STEP.npz`, a
    bank."""

    def __init__(self, run: Path, source: ImageSource, start: int) -> None:
        """`start`: the step at which the run goes on; snapshots of later ones are dropped, they
        come again."""
        self.folder = run / SNAPSHOTS
        self.folder.mkdir(exist_ok=True)
        for file in self.folder.glob("*.npz"):
            if int(file.stem) > start:
                file.unlink()
        drawn = np.random.default_rng(0).permutation(len(source))[:COUNT]
        self.images = [middle(source.read(int(i))[0], SIDE) for i in drawn]
        for n, image in enumerate(self.images):
            write_png(self.folder / f"{n}.png", rgb_of(image))

    def take(self, model: Finder, step: int) -> None:
        """Keep what a model finds now."""
        bank = build_bank([model.instances(image) for image in self.images])
        save_bank(bank, self.folder / f"{step:08d}.npz")


def read_snapshots(run: Path) -> tuple[list[Pixels], list[Snapshot]]:
    """The images, and the snapshots by step. Both are empty where there are none."""
    folder, images = run / SNAPSHOTS, list[Pixels]()
    try:
        for n in range(COUNT):
            if (folder / f"{n}.png").is_file():
                images.append(decode(folder / f"{n}.png", reading=Reading()))
    except ImageError:  # it is being written
        return [], []
    taken = []
    for file in sorted(folder.glob("*.npz")):
        bank = load_bank(file)
        found = tuple(tuple(bank[i] for i in bank.of_image(n)) for n in range(len(images)))
        taken.append(Snapshot(int(file.stem), found))
    return images, taken


def middle(image: Pixels, side: int) -> Pixels:
    """The middle of an image, at most `side` pixels square."""
    h, w = image.shape[:2]
    top, left = max(0, h - side) // 2, max(0, w - side) // 2
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def spaced(items: Sequence[_T], count: int) -> list[_T]:
    """At most so many of them: the first, the last, and evenly between."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[i] for i in sorted(set(places.tolist()))]
