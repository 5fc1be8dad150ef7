"""Choose which images to label next."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

from genseg.alpha.mine import mine
from genseg.alpha.model import AlphaModel, load_alpha
from genseg.core.check import at_least
from genseg.core.files import write_text
from genseg.core.names import ALPHA_NAME
from genseg.core.precision import fast_precision
from genseg.core.result import Result
from genseg.core.threads import in_order, several_at_once
from genseg.core.words import amount
from genseg.data.images.files import ImageList, list_images
from genseg.data.images.source import ImageError, decode_image
from genseg.measure.coverage import k_center, typical
from genseg.nn.kept_reading import reads_as
from genseg.workflows.vectors.embed import BATCH, Embedder

By = Literal["typical", "k-center", "uncertainty", "both", "random"]
POOL = 4  # times as many uncertain images as are wanted: both chooses among these
AGREEMENT = 0.6  # as in rounds; how well two looks agree does not depend on it


@dataclass(frozen=True)
class Chosen(Result):
    """Images to label next, in the order in which they were chosen.

    out: the text list; files: as it has them; of: how many there were to choose from
    uncertain: of each, 1 less the agreement of two looks at it; empty where nobody looked
    broken: images that could not be read, and why
    """

    out: Path
    files: tuple[str, ...]
    by: str
    of: int
    uncertain: tuple[float, ...] = ()
    broken: tuple[str, ...] = ()

    def text(self) -> str:
        lost = f"; {amount(len(self.broken), 'image')} cannot be read" if self.broken else ""
        return f"{self.out}: {amount(len(self.files), 'image')} of {self.of:,}, by {self.by}{lost}"


@reads_as("run")
def choose(
    run: Path,
    data: Path,
    out: Path,
    *,
    count: int,
    by: By = "typical",
    labelled: Path | None = None,
    seed: int = 0,
) -> Chosen:
    """Write a text list of `count` images of a folder, the first ones the most wanted.

    by: typical, the most typical ones of clusters of vectors; k-center, that no vector is far from
        a chosen one; uncertainty, where two looks of the alpha model agree least; both, k-center
        among the most uncertain (Yang et al., 2017, choose so, with another measure of cover);
        random
    labelled: a list or json of images that have labels: they are not chosen, and count as chosen
        before
    seed: of random, and of nothing else

    Raises ValueError for what a user can mend.
    """
    at_least(1, count=count)
    if out.suffix.lower() != ".txt":
        raise ValueError(f"--out {out}: it is a text list; end it in .txt")
    images = list_images(data)
    if images.pages is not None:
        raise ValueError(
            f"{data}: a list names files and not their pages; choose with --pages max, or save "
            "each page as a file of its own"
        )
    done = _done(images, labelled)
    free = [i for i in range(len(images)) if i not in done]
    if count > len(free):
        raise ValueError(f"--count {count}: there are {amount(len(free), 'image')} without labels")
    broken, doubts = dict[int, str](), dict[int, float]()
    if by == "random":
        order = np.random.default_rng(seed).permutation(len(free))[:count]
        chosen = [free[n] for n in order.tolist()]
    else:
        if by in ("uncertainty", "both"):
            doubts = _uncertain(run, images, free, broken)
            # the most uncertain first; of equal ones the first
            free = sorted(doubts, key=lambda i: (-doubts[i], i))
            free = free[: count if by == "uncertainty" else POOL * count]
        if by == "uncertainty":
            chosen = free
        else:
            standing = typical if by == "typical" else k_center
            chosen = _standing(standing, run, images, free, done, count, broken)
    _refuse_few(chosen, count, broken)
    lines = [os.path.relpath(images.path(i).absolute(), out.absolute().parent) for i in chosen]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, "".join(f"{line}\n" for line in lines))
    doubted = tuple(doubts[i] for i in chosen) if doubts else ()
    return Chosen(out, tuple(lines), by, len(images), doubted, tuple(broken.values()))


def _refuse_few(chosen: Sequence[int], count: int, broken: dict[int, str]) -> None:
    if len(chosen) < count:
        raise ValueError(
            f"--count {count}: only {amount(len(chosen), 'image')} can be read; the first that "
            f"cannot: {next(iter(broken.values()))}"
        )


def _done(images: ImageList, labelled: Path | None) -> set[int]:
    """The images that have labels. Raises ValueError where none of them is among `images`."""
    if labelled is None:
        return set()
    known = {p.resolve() for p in list_images(labelled).paths}
    found = {i for i, path in enumerate(images.paths) if path.resolve() in known}
    if not found:
        raise ValueError(f"--labelled {labelled}: none of its images is among those to choose from")
    return found


def _standing(
    choice: Callable[[np.ndarray, int, Sequence[int]], list[int]],
    run: Path,
    images: ImageList,
    free: Sequence[int],
    done: set[int],
    count: int,
    broken: dict[int, str],
) -> list[int]:
    """The free images that stand for all by a choice among vectors, beside those with labels."""
    embedder, numbers, vectors = Embedder(run), list[int](), list[np.ndarray]()
    wanted = sorted({*free, *done})
    for first in range(0, len(wanted), BATCH):
        views = []
        for i in wanted[first : first + BATCH]:
            try:
                views.append(embedder.view(images, i))
                numbers.append(i)
            except ImageError as error:
                broken[i] = str(error)
        vectors.append(embedder.images(views))
    before = [n for n, i in enumerate(numbers) if i in done]
    return [numbers[n] for n in choice(np.concatenate(vectors), count, before)]


def _uncertain(
    run: Path, images: ImageList, free: Sequence[int], broken: dict[int, str]
) -> dict[int, float]:
    """Of each image, 1 less the agreement of two looks at it; 0 where neither finds anything.

    Raises ValueError for a run without the alpha task.
    """
    model = _alpha_model(run)
    sure = model.config.score

    def look(i: int) -> float | str:
        try:
            image = decode_image(images, i)
        except ImageError as error:
            return str(error)
        found = mine(model, image, [], sure=sure, doubtful=sure, agreement=AGREEMENT).agreement
        return 0.0 if found is None else 1 - found

    doubts = dict[int, float]()
    with several_at_once(model.device) as looking:
        made = tqdm(in_order(looking, look, free), total=len(free), desc="looking", leave=False)
        for i, found in zip(free, made, strict=True):
            if isinstance(found, str):
                broken[i] = found
            else:
                doubts[i] = found
    return doubts


def _alpha_model(run: Path) -> AlphaModel:
    file = run / ALPHA_NAME if run.is_dir() else run
    if not file.is_file():
        raise ValueError(
            f"there is no {file}: uncertainty takes a run of genseg pretrain with the alpha task; "
            "give such a run, or --by k-center"
        )
    model, _ = load_alpha(file)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.precision = fast_precision(device)
    model.to(device)
    return model
