"""The sampler and the loader: the same images and views whatever the ranks, workers and
interruptions."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from genseg.data.composites.dataset import Batch, ViewDataset
from genseg.data.images.files import list_images
from genseg.data.images.loader import EpochSampler, batches, with_clear_errors
from genseg.data.images.source import ImageError, ImageSource
from genseg.data.images.views import View, ViewConfig, crop_view

VIEWS = (
    ViewConfig(count=2, size=32),
    ViewConfig(count=1, size=16, scale=(0.05, 0.3)),
    ViewConfig(count=1, size=32),
)


RUN = {
    "images": 21,
    "batch": 4,
    "start": 0,
    "total": 10,
    "passes": 1,
    "seed": 0,
    "rank": 0,
    "world": 1,
}


def sampler(**changes: int) -> EpochSampler:
    return EpochSampler(**{**RUN, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(10):
        cv2.imwrite(str(root / f"{i}.png"), rng.integers(0, 255, (40 + i, 50, 3), dtype=np.uint8))
    (root / "5.png").write_bytes(b"not an image")
    return root


def test_an_epoch_holds_every_image_at_most_once_and_the_next_another_order() -> None:
    steps = list(sampler())
    assert all(len(step) == 4 for step in steps)
    epochs = [[i for step in steps[first : first + 5] for _, i in step] for first in (0, 5)]
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert [e for e, _ in steps[4] + steps[5]] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_an_order_is_the_one_that_runs_have_had() -> None:
    """A run that was begun by an earlier version goes on to the bit."""
    for epoch, step in ((0, 1), (1, 7)):
        order = np.random.default_rng([0, epoch]).permutation(21)
        first = step % 5 * 4
        assert list(sampler())[step] == [(epoch, int(i)) for i in order[first : first + 4]]


@pytest.mark.parametrize("images", [1, 2, 3])
def test_fewer_images_than_a_batch_are_drawn_again(images: int) -> None:
    """Each draw has an epoch of its own, so that its composite is another one."""
    drawn = [key for step in sampler(images=images) for key in step]
    assert len(drawn) == len(set(drawn)) == 40 and all(
        len(step) == 4 for step in sampler(images=images)
    )
    whole = [{i for _, i in drawn[n : n + images]} for n in range(0, 40 - images, images)]
    # none is left out, none is seen more often
    assert all(seen == set(range(images)) for seen in whole)


@pytest.mark.parametrize("images", [21, 3])
def test_a_resumed_sampler_goes_on_where_it_was(images: int) -> None:
    whole = list(sampler(images=images))
    for start in (1, 5, 7, 10):
        assert list(sampler(images=images, start=start)) == whole[start:]


@pytest.mark.parametrize("images", [21, 3])
def test_ranks_and_passes_share_one_global_batch(images: int) -> None:
    whole = list(sampler(images=images))
    ranks = [list(sampler(images=images, rank=r, world=2)) for r in (0, 1)]
    for one, *parts in zip(whole, *ranks, strict=True):
        assert parts == [one[::2], one[1::2]]  # so that a pass of all ranks is a run of the batch
    passes = list(sampler(images=images, passes=2))
    assert [passes[2 * i] + passes[2 * i + 1] for i in range(10)] == whole


def same(a: Batch, b: Batch) -> bool:
    pairs = [*zip(a.images, b.images, strict=True), *zip(a.drawn, b.drawn, strict=True)]
    return all(torch.equal(x, y) for x, y in [*pairs, (a.index, b.index), (a.source, b.source)])


def test_batches_do_not_depend_on_workers_or_on_what_came_before(folder: Path) -> None:
    source = ImageSource(list_images(folder), None)

    def load(workers: int, start: int = 0) -> list[Batch]:
        dataset = ViewDataset(source, VIEWS, seed=1, colour=True)
        order = sampler(images=10, batch=3, total=6, start=start)
        return list(batches(dataset, order, workers=workers, pin=False))

    alone = load(0)
    assert len(alone) == 6
    for workers, start in ((1, 0), (2, 0), (2, 4)):
        again = load(workers, start)
        assert len(again) == 6 - start
        assert all(same(a, b) for a, b in zip(alone[start:], again, strict=True))


def test_views_come_by_crop_size_the_largest_first(folder: Path) -> None:
    batch = ViewDataset(ImageSource(list_images(folder), None), VIEWS, seed=0, colour=True)[
        [(0, 1), (0, 2)]
    ]
    assert [tuple(x.shape) for x in batch.images] == [(3, 2, 32, 32, 3), (1, 2, 16, 16, 3)]
    assert [tuple(x.shape) for x in batch.drawn] == [(3, 2, View.LENGTH), (1, 2, View.LENGTH)]


def test_a_broken_file_is_replaced_always_by_the_same_image_and_said(folder: Path) -> None:
    source = ImageSource(list_images(folder), None)
    dataset = ViewDataset(source, VIEWS, seed=0, colour=True)
    batch = dataset[[(0, 5), (0, 6)]]
    assert batch.index.tolist() == [5, 6]
    assert batch.source.tolist() == [6, 6]
    assert same(batch, dataset[[(0, 5), (0, 6)]])


def test_without_colour_a_view_is_only_cut_and_flipped(folder: Path) -> None:
    source = ImageSource(list_images(folder), None)
    batch = ViewDataset(source, VIEWS, seed=0, colour=False)[[(2, 3)]]
    numbers = batch.drawn[0][0, 0].tolist()
    view = View(tuple(int(n) for n in numbers[:4]), bool(numbers[4]), bool(numbers[5]))
    np.testing.assert_array_equal(
        batch.images[0][0, 0].numpy(), crop_view(source.read(3)[0], view, 32)
    )


def test_workers_end_with_a_process_that_fails() -> None:
    """They ignore SIGTERM, and an error's traceback keeps the loader that would stop them."""
    script = (
        "from torch.utils.data import Dataset\n"
        "from genseg.data.images.loader import EpochSampler, batches, with_clear_errors\n"
        "class Failing(Dataset):\n"
        "    def __getitem__(self, keys): raise ZeroDivisionError(keys)\n"
        "sampler = EpochSampler(images=4, batch=2, start=0, total=2, passes=1, seed=0, rank=0, "
        "world=1)\n"
        "next(with_clear_errors(batches(Failing(), sampler, workers=1)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr


class Unreadable(Dataset[int]):
    """Of which no item can be read."""

    def __getitem__(self, key: object) -> int:
        raise ImageError("no image")


def test_no_worker_outlives_a_mistake() -> None:
    """Who kept the error kept the loader, and its worker what was open when it started: tests hung
    at their end."""
    before = set(multiprocessing.active_children())
    loader = batches(Unreadable(), sampler(), workers=1)
    with pytest.raises(ImageError, match="^no image$") as kept:
        next(with_clear_errors(loader))
    assert kept.value.__context__ is not None  # which holds the frames
    assert set(multiprocessing.active_children()) <= before
