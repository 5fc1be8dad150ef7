"""Batches of views. Everything random is a function of (seed, epoch, index, view)."""

import atexit
import multiprocessing
import signal
from collections.abc import Iterator
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from genseg.core.interrupts import ASKING
from genseg.data.images.coco_files import CocoError
from genseg.data.images.source import ImageError

_Made = TypeVar("_Made")


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Lists of (epoch, index) for one rank, from `start` updates into the run to its end.

    An epoch is a permutation drawn from (seed, epoch), cut into global batches; rank r takes every
    world-th image of a global batch from the r-th. The incomplete last batch of an epoch is
    dropped. Fewer images than a batch
    are drawn again until it is full: one permutation after another, each an epoch of its own, and
    nothing is dropped.
    """

    def __init__(
        self,
        *,
        images: int,
        batch: int,
        start: int,
        total: int,
        passes: int,
        seed: int,
        rank: int,
        world: int,
    ) -> None:
        self.images, self.batch, self.start, self.total, self.passes = (
            images,
            batch,
            start,
            total,
            passes,
        )
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


def batches(
    dataset: Dataset[_Made], sampler: EpochSampler, *, workers: int, pin: bool = False
) -> DataLoader[_Made]:
    """A loader that hands out whole batches made by `workers` processes (0: in this one)."""
    return DataLoader(
        dataset,
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        worker_init_fn=_start_worker if workers else None,
        pin_memory=pin,
        # else its start draws from torch's own, and a resumed step draws other numbers
        generator=torch.Generator(),
    )


def with_clear_errors(loader: DataLoader[_Made]) -> Iterator[_Made]:
    """The batches of a loader. A user's mistake that a worker has met comes in its own words,
    without a traceback."""
    made = iter(loader)
    while True:
        try:
            batch = next(made)
        except StopIteration:
            return
        except (ImageError, CocoError) as error:
            # who keeps the error keeps this frame: workers would live as long, with copies of what
            # was open when they started
            if isinstance(made, _MultiProcessingDataLoaderIter):
                made._shutdown_workers()
            raise type(error)(
                str(error).rstrip().rpartition(f"{type(error).__name__}: ")[2]
            ) from None
        yield batch


@atexit.register
def _stop_workers() -> None:
    """At the exit of the training process; multiprocessing would ask them by SIGTERM and wait
    without end."""
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def _start_worker(worker: int) -> None:
    """In each worker of a loader."""
    for number in ASKING:  # for the training process, which saves, then stops the workers
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
