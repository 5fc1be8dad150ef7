"""Measures of so many instances that no matrix holds their overlaps: the same numbers."""

import numpy as np
import pytest

import genseg.measure.overlaps as module
from genseg.data.instances.instance import Instance
from genseg.measure.overlaps import (
    best_overlaps,
    foreground_ari,
    mask_overlap,
    match,
    overlaps_of,
    pairs_of,
    sparse_overlap,
    tp_ratio,
)


def scattered(rng: np.random.Generator, count: int, size: int) -> list[Instance]:
    """Rectangles with holes, some of equal score and area."""
    found = []
    for _ in range(count):
        h, w = (int(n) for n in rng.integers(3, 12, 2))
        alpha = np.where(rng.random((h, w)) < 0.9, 255, 0).astype(np.uint8)
        top, left = (int(n) for n in rng.integers(0, size - 12, 2))
        found.append(Instance(alpha, top, left, float(rng.integers(1, 5)) / 5))
    return found


@pytest.mark.parametrize("counts", [(40, 50), (0, 9), (9, 0), (1, 1)])
def test_sparse_and_dense_measures_are_equal(
    counts: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        found, truth = (scattered(rng, n, 60) for n in counts)
        truth = truth[:-1] + found[:1] if truth else truth  # a pair that is equal
        crowd = rng.random(len(truth)) < 0.2
        dense = mask_overlap(found, truth, crowd)
        monkeypatch.setattr(module, "DENSE", 99)
        sparse = sparse_overlap(found, truth, crowd)
        assert np.array_equal(sparse.toarray(), dense)
        for threshold in (0.05, 0.5, 0.75):
            pairs, values = pairs_of(sparse, threshold)
            assert np.array_equal(pairs, np.argwhere(dense >= threshold))
            assert np.array_equal(values, dense[dense >= threshold])
            assert match(sparse, threshold) == match(dense, threshold)
            assert tp_ratio(sparse, crowd, threshold) == tp_ratio(dense, crowd, threshold)
        assert np.array_equal(best_overlaps(sparse[:, ~crowd]), best_overlaps(dense[:, ~crowd]))
        assert isinstance(overlaps_of(found, truth, crowd), np.ndarray) == (
            len(found) * len(truth) <= 99
        )
        monkeypatch.undo()


def test_the_rand_index_by_rows_is_that_of_the_whole_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        found, truth = scattered(rng, 40, 60), scattered(rng, 30, 60)
        whole = foreground_ari(found, truth, 60, 60)
        for band in (60, 7 * 60, 59 * 60):
            monkeypatch.setattr(module, "BAND", band)
            assert foreground_ari(found, truth, 60, 60) == whole
        monkeypatch.undo()
