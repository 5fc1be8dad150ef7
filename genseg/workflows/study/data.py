"""The images of a study: what is learnt from, what is measured on, and lists of parts of them."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genseg.core.files import write_text
from genseg.core.paths import expand
from genseg.data.images.files import ImageList, fingerprint, list_images
from genseg.data.scenes.scenes import default_scenes

TESTS = ("test", "val")  # beside train/
HELD_OUT = 0.1  # of each class, where there is no such folder
EMBEDDED = "embedded"


@dataclass(frozen=True)
class StudyData:
    """train, test: folders or lists, as `list_images` reads them; content: a digest of the images
    of both; lists: how the files of lists of parts begin. These hold paths, so images that lie
    elsewhere, or are moved, have others"""

    train: str
    test: str
    content: str
    images: ImageList  # of train
    lists: Path

    def part(self, count: int, seed: int) -> tuple[str, str]:
        """A list of `count` images of train (0: all of them), evenly over classes, and what tells
        it from others. Parts of one seed are nested.

        Raises ValueError when there are fewer images.
        """
        if not count or count == len(self.images):
            return self.train, ""
        if count > len(self.images):
            raise ValueError(
                f"subset={count}: {self.train} has {len(self.images)} images; take fewer, or "
                "another multiple for the arm"
            )
        file = Path(f"{self.lists}-{count}-{seed}.txt")
        if not file.exists():
            rng = np.random.default_rng([seed, *b"subset"])
            write_list(self.images, evenly(self.images, rng)[:count], file)
        return str(file), f"{count} images by seed {seed}"


def study_data(data: str, lists: Path) -> StudyData:
    """Read where the images of a study are: `data/train` and `data/test` (or `data/val`); else a
    tenth of each class of `data` is held out, by a fixed seed. Raises ValueError."""
    root = default_scenes("objects") if data == EMBEDDED else expand(data).absolute()
    test = next((root / name for name in TESTS if (root / name).is_dir()), None)
    if (root / "train").is_dir() and test is not None:
        train, asked = root / "train", test
        known, others = list_images(train), list_images(asked)
        if known.classes != others.classes:
            raise ValueError(
                f"data={data}: train has the classes {list(known.classes)} and {asked.name} "
                f"{list(others.classes)}; both need a folder for each class, of the same names"
            )
        content = f"{fingerprint(known)[:8]}{fingerprint(others)[:8]}"
        return StudyData(str(train), str(asked), content, known, _begin(lists, content, root))
    whole = list_images(root)
    content = fingerprint(whole)[:16]
    order = evenly(whole, np.random.default_rng([*b"held out"]))
    count = round(HELD_OUT * len(whole))
    if count < 2:
        raise ValueError(f"data={data}: {len(whole)} images are too few to hold a tenth out")
    begin = _begin(lists, content, root)
    train, asked = Path(f"{begin}-train.txt"), Path(f"{begin}-test.txt")
    for file, chosen in ((asked, order[:count]), (train, order[count:])):
        if not file.exists():
            write_list(whole, chosen, file)
    return StudyData(str(train), str(asked), content, list_images(train), begin)


def _begin(lists: Path, content: str, root: Path) -> Path:
    """How the files of lists begin, of images of this content at this place."""
    place = hashlib.blake2b(os.fsencode(root), digest_size=4).hexdigest()
    return lists / f"{content}-{place}"


def evenly(images: ImageList, rng: np.random.Generator) -> list[int]:
    """All images in an order in which each beginning has the classes as evenly as it can."""
    order: list[int] = rng.permutation(len(images)).tolist()
    if images.labels is None:
        return order
    seen: Counter[int] = Counter()
    rank = {}  # first of each class, second of each class ...
    for i in order:
        rank[i] = seen[images.labels[i]]
        seen[images.labels[i]] += 1
    return sorted(order, key=rank.__getitem__)  # stable


def write_list(images: ImageList, chosen: Sequence[int], file: Path) -> None:
    """A text list of some images with absolute paths, and their classes."""
    lines = []
    for i in sorted(chosen):
        label = f"\t{images.classes[images.labels[i]]}" if images.labels is not None else ""
        lines.append(f"{images.path(i).absolute()}{label}\n")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, "".join(lines))
