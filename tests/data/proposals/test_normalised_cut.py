"""Normalised cuts: a known cut, the dense solution, and one segment after another."""

import numpy as np
import pytest
import scipy.linalg

from genseg.data.proposals.normalised_cut import (
    WEAK,
    cosines,
    cut_value,
    second_vector,
    successive_cuts,
)

SIDE = 12


def blocks(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A label for each place: 0, or the number of the box (top, left, bottom, right) from 1 on."""
    labels = np.zeros((SIDE, SIDE), int)
    for n, (top, left, bottom, right) in enumerate(boxes, start=1):
        labels[top:bottom, left:right] = n
    return labels


def features(labels: np.ndarray, noise: float = 0.3, seed: int = 0) -> np.ndarray:
    """A direction for each label, with noise on it; `c h w`."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.normal(size=(16, 16)))[0][: labels.max() + 1]
    found = directions[labels] + noise * rng.normal(size=(*labels.shape, 16)) / 4
    return np.moveaxis(found, -1, 0).astype(np.float32)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def test_cosines_are_those_of_each_pair() -> None:
    maps = features(blocks((2, 2, 5, 5)))
    maps[:, 0, 0] = 0
    found = cosines(maps)
    rows = maps.reshape(16, -1).T.astype(float)
    for i in range(0, SIDE * SIDE, 7):
        for j in range(0, SIDE * SIDE, 5):
            sizes = np.linalg.norm(rows[i]) * np.linalg.norm(rows[j])
            assert found[i, j] == pytest.approx(rows[i] @ rows[j] / sizes if sizes else 0, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_vector_is_that_of_the_dense_solution(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(90, 2)) + np.repeat([[0, 0], [3, 0], [0, 4]], 30, 0)
    graph = (np.linalg.norm(points[:, None] - points[None], axis=2) < 2).astype(np.float32)
    w = np.where(graph > 0, 1.0, WEAK)
    degrees = np.diag(w.sum(1))
    _, vectors = scipy.linalg.eigh(degrees - w, degrees)
    found = second_vector(graph)
    assert found is not None
    unit = found / np.linalg.norm(found)
    wanted = vectors[:, 1] / np.linalg.norm(vectors[:, 1])
    assert abs(unit @ wanted) > 0.999
    assert np.array_equal(second_vector(graph), found)


def test_the_value_is_shi_and_maliks() -> None:
    rng = np.random.default_rng(0)
    graph = rng.random((20, 20)) < 0.4
    graph = (graph | graph.T).astype(np.float32)
    side = rng.random(20) < 0.5
    between = sum(graph[i, j] for i in range(20) for j in range(20) if side[i] and not side[j])
    one, other = (sum(graph[i].sum() for i in range(20) if side[i] == s) for s in (True, False))
    assert cut_value(graph, side) == pytest.approx(between / one + between / other)
    parted = np.kron(np.eye(2), np.ones((5, 5))).astype(np.float32)
    assert cut_value(parted, np.arange(10) < 5) == 0


def test_a_known_cut_is_found() -> None:
    labels = blocks((3, 4, 8, 9))
    (first, *_) = successive_cuts(cosines(features(labels)) > 0.3, SIDE, SIDE, count=1)
    assert np.array_equal(first.mask, labels == 1)
    assert first.value < 0.1


def test_two_objects_come_one_after_another() -> None:
    labels = blocks((1, 1, 6, 5), (7, 6, 11, 11))
    found = list(successive_cuts(cosines(features(labels)) > 0.3, SIDE, SIDE, count=3))
    for n in (1, 2):
        assert max(iou(cut.mask, labels == n) for cut in found) == 1
    assert not (found[0].mask & found[1].mask).any()


def test_two_objects_alike_are_two_segments() -> None:
    """A segment is connected: the other one is left for the next cut."""
    labels = blocks((1, 1, 5, 5), (7, 7, 11, 11))
    labels[labels == 2] = 1
    found = list(successive_cuts(cosines(features(labels)) > 0.3, SIDE, SIDE, count=2))
    wanted = (blocks((1, 1, 5, 5)) == 1, blocks((7, 7, 11, 11)) == 1)
    assert sorted(max(iou(cut.mask, w) for cut in found) for w in wanted) == [1, 1]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_what_is_all_alike_has_no_cut(value: float) -> None:
    maps = np.full((4, SIDE, SIDE), value, np.float32)
    assert not list(successive_cuts(cosines(maps) > -0.5, SIDE, SIDE, count=3))


def test_what_is_all_unlike_ends() -> None:
    maps = np.random.default_rng(0).normal(size=(200, SIDE, SIDE)).astype(np.float32)
    found = list(successive_cuts(cosines(maps) > 0.9, SIDE, SIDE, count=3))
    assert len(found) <= 3
