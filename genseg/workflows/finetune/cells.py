"""The cells of a comparison: arms, numbers of labelled images, seeds."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genseg.core.words import amount
from genseg.data.labels.labelled_set import LabelledSet


@dataclass(frozen=True)
class Arm:
    """What fine-tuning starts from: an encoder, with a recipe of its own where the model is another
    one. chosen: a text list of images, of which the first are labelled in place of a draw"""

    name: str
    encoder: str
    config: Path | None = None
    chosen: Path | None = None


@dataclass(frozen=True)
class Cell:
    """One fine-tuning."""

    arm: str
    labels: int  # labelled images
    seed: int

    @property
    def title(self) -> str:
        return f"{self.arm}, {amount(self.labels, 'labelled image')}, seed {self.seed}"

    def folder(self, out: Path) -> Path:
        return out / "cells" / self.arm / f"{self.labels}-labels" / f"seed-{self.seed}"


def parse_arms(text: str) -> list[Arm]:
    """`random,RUN,NAME=RUN,NAME=RUN@CONFIG.yaml,NAME=RUN@LIST.txt`: arms by commas. Raises
    ValueError for a name that is used twice."""
    arms = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        named, _, rest = part.rpartition("=")
        arms.append(arm_of(named, rest))
    names = [a.name for a in arms]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise ValueError(
            f"--arms: several arms are called {', '.join(twice)}; name them, as in "
            "a=RUN,b=RUN@FILE.yaml"
        )
    if bad := [n for n in names if "/" in n or n.startswith(".")]:
        raise ValueError(
            f"--arms: {bad[0]!r} has to be the name of a folder; name the arm, as in mine={bad[0]}"
        )
    if not arms:
        raise ValueError("--arms: name at least one, as in --arms random,runs/mine")
    return arms


def arm_of(name: str, text: str) -> Arm:
    """`RUN`, `RUN@CONFIG.yaml` or `RUN@LIST.txt`, or both behind it; without a name it has one of
    its files. Raises ValueError for two of a kind."""
    encoder, *files = text.split("@")
    lists = [f for f in files if f.lower().endswith(".txt")]
    others = [f for f in files if f not in lists]
    if len(lists) > 1 or len(others) > 1:
        raise ValueError(f"--arms: {text} has two lists or two recipes; give one of each")
    name = name or Path(encoder).name + "".join(f"-{Path(f).stem}" for f in (*others, *lists))
    config, chosen = (Path(f[0]) if f else None for f in (others, lists))
    return Arm(name, encoder, config, chosen)


def parse_labels(text: str, images: int) -> list[int]:
    """`4,8,10%,100%`: numbers of labelled images, in order. Raises ValueError for what is no such
    number."""
    counts = set()
    for part in filter(None, (p.strip() for p in text.split(","))):
        try:
            count = round(float(part[:-1]) / 100 * images) if part.endswith("%") else int(part)
        except (ValueError, OverflowError):
            raise ValueError(
                f"--labels: {part!r} is neither a number of images nor a percentage"
            ) from None
        if not 1 <= count <= images:
            raise ValueError(
                f"--labels: {part} are {count} images of {images}; give from 1 to {images}"
            )
        counts.add(count)
    if not counts:
        raise ValueError("--labels: give at least one, as in --labels 4,10%,100%")
    return sorted(counts)


def drawn_labels(labelled: LabelledSet, count: int, seed: int) -> list[int]:
    """Ids of `count` images, as evenly over their kinds as there are such images; images without a
    label come last.

    The draws of a seed are nested: fewer labels are a part of more.
    """
    rng = np.random.default_rng([seed, *b"labels"])
    order = rng.permutation(len(labelled.images)).tolist()
    images = [labelled.images[i] for i in order]
    images.sort(key=lambda image: not len(image.classes))  # stable
    kinds = [image.kind for image in images]
    seen: Counter[str] = Counter()
    rank = []  # first of each kind, second of each kind ...
    for kind in kinds:
        rank.append(seen[kind])
        seen[kind] += 1
    turn = sorted(range(len(images)), key=lambda n: (not len(images[n].classes), rank[n], n))
    return sorted(images[n].number for n in turn[:count])


def chosen_labels(labelled: LabelledSet, count: int, chosen: Path) -> list[int]:
    """Ids of the first `count` images of a text list, as genseg choose writes it. Raises ValueError
    for one that is not in the set, and for a list that is too short."""
    known = {image.path.resolve(): image.number for image in labelled.images}
    lines = [line.strip() for line in chosen.read_text("utf-8").splitlines() if line.strip()]
    numbers = [known.get((chosen.parent / line).resolve()) for line in lines[:count]]
    if None in numbers:
        raise ValueError(
            f"{chosen}: {lines[numbers.index(None)]} is no image of {labelled.source}; choose "
            "among these"
        )
    if len(numbers) < count:
        raise ValueError(f"{chosen} lists {amount(len(lines), 'image')}; --labels wants {count}")
    return sorted(n for n in numbers if n is not None)
