"""Greedy k-centre against a naive loop, and against its bound; the typical vectors of clusters."""

import itertools

import numpy as np
import pytest

from genseg.measure.coverage import k_center, typical

RNG = np.random.default_rng(0)


def naive(x: np.ndarray, count: int, chosen: list[int]) -> list[int]:
    taken: list[int] = []
    while len(taken) < count:
        best, far = -1, -1.0
        for i in range(len(x)):
            if i in chosen or i in taken:
                continue
            if not chosen and not taken:
                mean = [sum(column) / len(x) for column in x.T.tolist()]
                distance = -sum((a - m) ** 2 for a, m in zip(x[i], mean, strict=True))
            else:
                distance = min(
                    sum((a - b) ** 2 for a, b in zip(x[i], x[j], strict=True))
                    for j in (*chosen, *taken)
                )
            if best < 0 or distance > far:
                best, far = i, distance
        taken.append(best)
    return taken


@pytest.mark.parametrize("chosen", [[], [3], [0, 11, 5]])
def test_it_is_the_naive_greedy(chosen: list[int]) -> None:
    x = RNG.normal(size=(30, 4))
    found = k_center(x, 12, chosen)
    assert found == naive(x, 12, chosen)
    assert k_center(x, 5, chosen) == found[:5], "fewer are the first ones"


def test_the_radius_is_at_most_twice_the_best() -> None:
    def radius(x: np.ndarray, centres: tuple[int, ...]) -> float:
        apart = np.linalg.norm(x[:, None] - x[list(centres)], axis=2)
        return float(apart.min(1).max())

    for _ in range(5):
        x = RNG.normal(size=(12, 2))
        best = min(radius(x, c) for c in itertools.combinations(range(12), 3))
        assert radius(x, tuple(k_center(x, 3))) <= 2 * best


def test_copies_are_taken_last_and_each_once() -> None:
    x = np.array([[0.0], [0.0], [5.0], [5.0], [0.0]])
    assert k_center(x, 5) == [0, 2, 1, 3, 4]
    assert k_center(x, 9, [2]) == [0, 1, 3, 4], "no more than there are"


def blobs(*sizes: int) -> np.ndarray:
    """Groups far from one another, one behind the other."""
    rng = np.random.default_rng(1)
    return np.concatenate([50.0 * n + rng.normal(size=(s, 3)) for n, s in enumerate(sizes)])


def most_typical(x: np.ndarray, members: range) -> int:
    """By the paper's formula: 1 / the mean distance to the 20 nearest."""

    def typicality(i: int) -> float:
        apart = sorted(float(np.linalg.norm(x[i] - x[j])) for j in members if j != i)[:20]
        return 1 / (sum(apart) / len(apart))

    return max(members, key=typicality)


def test_typical_is_the_densest_of_each_cluster_the_largest_first() -> None:
    x = blobs(12, 40, 25)
    groups = [range(12), range(12, 52), range(52, 77)]
    wanted = [most_typical(x, groups[n]) for n in (1, 2, 0)]
    assert typical(x, 3) == wanted
    assert typical(x, 2, [30]) == wanted[1:], "the cluster of one that is chosen is passed over"


def test_typical_takes_single_vectors_and_no_copy_twice() -> None:
    x = np.array([[0.0], [0.0], [5.0], [5.0], [0.0]])
    assert sorted(typical(x, 5)) == [0, 1, 2, 3, 4]
    assert typical(x, 2) == [0, 2]
    assert sorted(typical(x, 9, [2])) == [0, 1, 3, 4], "no more than there are"
    assert typical(np.array([[0.0], [9.0], [9.5]]), 1, [1]) == [0]
    assert typical(np.zeros((0, 3)), 2) == []


def test_more_typical_ones_are_wanted_than_there_are_clusters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("genseg.measure.coverage.MOST_CLUSTERS", 2)
    monkeypatch.setattr("genseg.measure.coverage.BLOCK", 7)
    x = blobs(12, 40)
    first = [most_typical(x, range(12, 52)), most_typical(x, range(12))]
    assert typical(x, 4) == [*first, *k_center(x, 2, first)]
