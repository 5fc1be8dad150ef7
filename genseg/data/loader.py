"""Batches of views. Everything random is a function of (seed, epoch, index, view)."""

import atexit
import multiprocessing
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from genseg.core.interrupts import ASKING
from genseg.data.bank import Bank
from genseg.data.coco_files import CocoError
from genseg.data.compose import ComposeConfig, Composites, Images, collate, compose
from genseg.data.images import ImageError, ImageSource
from genseg.data.views import View, ViewConfig, colour_view, crop_view, draw_view

_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Batch:
    """Views of b images: one entry per crop size group, the largest first."""

    images: list[UInt8[Tensor, "_ b _ _ 3"]]
    drawn: list[Float[Tensor, "_ b 17"]]  # View.vector of each
    index: Int[Tensor, "b"]  # which image was asked for
    source: Int[Tensor, "b"]  # which image it is; another one where the file is broken
    composites: Composites | None = None  # over the first images of the batch

    def pin_memory(self) -> "Batch":
        """For DataLoader(pin_memory=True)."""
        images, drawn = ([x.pin_memory() for x in xs] for xs in (self.images, self.drawn))
        composites = None if self.composites is None else self.composites.pin_memory()
        return Batch(images, drawn, self.index, self.source, composites)


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Lists of (epoch, index) for one rank, from `start` updates into the run to its end.

    An epoch is a permutation drawn from (seed, epoch), cut into global batches; rank r takes every world-th
    image of a global batch from the r-th. The incomplete last batch of an epoch is dropped. Fewer images than a batch
    are drawn again until it is full: one permutation after another, each an epoch of its own, and nothing is dropped.
    """

    def __init__(
        self, *, images: int, batch: int, start: int, total: int, passes: int, seed: int, rank: int, world: int
    ) -> None:
        self.images, self.batch, self.start, self.total, self.passes = images, batch, start, total, passes
        self.seed, self.rank, self.world = seed, rank, world

    def __len__(self) -> int:
        return (self.total - self.start) * self.passes

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        used = self.images // self.batch * self.batch or self.images  # of each permutation
        epoch, order = -1, np.empty(0, np.int64)
        for step in range(self.start, self.total):
            keys = list[tuple[int, int]]()
            for position in range(step * self.batch, (step + 1) * self.batch):
                if position // used != epoch:
                    epoch = position // used
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.images)
                keys.append((epoch, int(order[position % used])))
            mine = keys[self.rank :: self.world]
            for part in np.array_split(np.arange(len(mine)), self.passes):
                yield [mine[i] for i in part]


class Composer:
    """Composites over the images of a source: the first `share` of each list of (epoch, index), at least one.

    With `shared` cut-outs the second composite of each pair depends on its neighbour in the list too.
    """

    def __init__(self, source: ImageSource, bank: Bank, config: ComposeConfig, *, share: float, seed: int) -> None:
        self.source, self.bank, self.config, self.share, self.seed = source, bank, config, share, seed
        self.images = Images(self._read, stretched=config.stretch)

    def _read(self, i: int) -> UInt8[np.ndarray, "h w 3"]:
        """A method and no lambda: where workers are spawned, a composer is pickled."""
        return self.source.read(i)[0]

    def __call__(self, keys: list[tuple[int, int]]) -> Composites:
        made, shared = [], list[int]()
        for n, (epoch, index) in enumerate(keys[: max(1, round(self.share * len(keys)))]):
            rng = np.random.default_rng([self.seed, epoch, index, *b"composite"])
            host = self.source.read(index)[1]
            if self.config.shared and n % 2 == 0:
                shared = self._shared(np.random.default_rng([self.seed, epoch, index, *b"shared"]), host)
            made.append(compose(rng, host, self.images, self.bank, self.config, shared))
        return collate(made)

    def _shared(self, rng: np.random.Generator, host: int) -> list[int]:
        """Sure cut-outs for the two composites of a pair: with probability `own` those of the first one's host, where
        it has some, or else any."""
        own, sure = self.bank.of_image(host), self.bank.scores >= self.config.sure
        numbers = own.start + np.flatnonzero(sure[own.start : own.stop])
        if not len(numbers) or rng.random() >= self.config.own:
            numbers = np.flatnonzero(sure)
        chosen: list[int] = rng.choice(numbers, min(self.config.shared, len(numbers)), replace=False).tolist()
        return chosen


class ViewDataset(Dataset[Batch]):
    """Reads the images of a list of (epoch, index) and makes their views.

    `colour`: apply the photometric part here; otherwise the views are only cropped and flipped, and the batch
    carries what was drawn. `composer` adds composites.
    """

    def __init__(
        self,
        source: ImageSource,
        views: tuple[ViewConfig, ...],
        *,
        seed: int,
        colour: bool,
        composer: Composer | None = None,
    ) -> None:
        self.source, self.seed, self.colour, self.composer = source, seed, colour, composer
        kinds = [v for v in views for _ in range(v.count)]
        sizes = sorted({v.size for v in kinds}, reverse=True)
        self.groups = [[(n, v) for n, v in enumerate(kinds) if v.size == size] for size in sizes]

    def __getitem__(self, keys: list[tuple[int, int]]) -> Batch:
        shapes = [(len(group), len(keys), group[0][1].size) for group in self.groups]
        images = [np.empty((v, b, size, size, 3), np.uint8) for v, b, size in shapes]
        drawn = [np.empty((v, b, View.LENGTH), np.float32) for v, b, _ in shapes]
        found = np.empty(len(keys), np.int64)
        for column, (epoch, index) in enumerate(keys):
            image, found[column] = self.source.read(index)
            for group, pixels, numbers in zip(self.groups, images, drawn, strict=True):
                for row, (n, config) in enumerate(group):
                    rng = np.random.default_rng([self.seed, epoch, index, n])
                    view = draw_view(rng, config, *image.shape[:2])
                    cut = crop_view(image, view, config.size)
                    pixels[row, column] = colour_view(cut, view) if self.colour else cut
                    numbers[row, column] = view.vector()
        return Batch(
            images=[torch.from_numpy(x) for x in images],
            drawn=[torch.from_numpy(x) for x in drawn],
            index=torch.tensor([i for _, i in keys]),
            source=torch.from_numpy(found),
            composites=None if self.composer is None else self.composer(keys),
        )


def batches(dataset: Dataset[_Made], sampler: EpochSampler, *, workers: int, pin: bool = False) -> DataLoader[_Made]:
    """A loader that hands out whole batches made by `workers` processes (0: in this one)."""
    return DataLoader(
        dataset,
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        worker_init_fn=_start_worker if workers else None,
        pin_memory=pin,
        generator=torch.Generator(),  # else its start draws from torch's own, and a resumed step draws other numbers
    )


def told(loader: DataLoader[_Made]) -> Iterator[_Made]:
    """The batches of a loader. A user's mistake that a worker has met comes in its own words, without a traceback."""
    made = iter(loader)
    while True:
        try:
            batch = next(made)
        except StopIteration:
            return
        except (ImageError, CocoError) as error:
            raise type(error)(str(error).rstrip().rpartition(f"{type(error).__name__}: ")[2]) from None
        yield batch


@atexit.register
def _stop_workers() -> None:
    """At the exit of the training process; multiprocessing would ask them by SIGTERM and wait without end."""
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def _start_worker(worker: int) -> None:
    """In each worker of a loader."""
    for number in ASKING:  # for the training process, which saves, then stops the workers
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
