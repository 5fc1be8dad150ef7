"""Overlaps, matches and scores of instances: against loops over whole images, scikit-learn, and
closed forms."""

import itertools
import math
import time

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from genseg.data.instances.instance import Instance, cut
from genseg.measure.overlaps import (
    adjusted_rand,
    alpha_errors,
    best_overlaps,
    box_overlap,
    calibration_error,
    foreground_ari,
    intersections,
    located,
    mask_overlap,
    match,
    partition,
    tp_ratio,
)

HEIGHT, WIDTH = 40, 60


def blobs(seed: int, count: int) -> list[Instance]:
    """Soft rectangles with holes, anywhere, with scores."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        whole = np.zeros((HEIGHT, WIDTH), np.uint8)
        top, left = rng.integers(HEIGHT - 4), rng.integers(WIDTH - 4)
        part = whole[top : top + rng.integers(3, 20), left : left + rng.integers(3, 25)]
        part[:] = rng.integers(60, 256, part.shape)
        found.append(cut(whole, float(rng.random())))
    return found


def square(top: int, left: int, size: int, score: float = 1.0) -> Instance:
    return Instance(np.full((size, size), 255, np.uint8), top, left, score)


def none(count: int) -> np.ndarray:
    return np.zeros(count, bool)


def test_overlaps_equal_those_of_whole_masks() -> None:
    found, truth = blobs(0, 9), blobs(1, 7)
    crowd = np.array([False, True, False, False, True, False, False])
    shared, overlap = intersections(found, truth), mask_overlap(found, truth, crowd)
    assert (shared > 0).sum() > 10
    for i, j in itertools.product(range(9), range(7)):
        a, b = found[i].paint(HEIGHT, WIDTH) >= 128, truth[j].paint(HEIGHT, WIDTH) >= 128
        assert shared[i, j] == (a & b).sum()
        assert overlap[i, j] == pytest.approx(
            (a & b).sum() / (a.sum() if crowd[j] else (a | b).sum())
        )


def test_overlaps_with_nothing() -> None:
    nothing = cut(np.zeros((HEIGHT, WIDTH), np.uint8))
    assert mask_overlap([], blobs(0, 3), none(3)).shape == (0, 3)
    assert mask_overlap(blobs(0, 3), [], none(0)).shape == (3, 0)
    assert mask_overlap([nothing], [nothing], none(1)) == 0
    assert box_overlap(np.empty((0, 4)), np.ones((2, 4)), none(2)).shape == (0, 2)
    assert box_overlap(np.ones((2, 4)), np.empty((0, 4)), none(0)).shape == (2, 0)


def test_boxes_overlap_by_their_areas() -> None:
    a, b = (
        np.array([[0.0, 0.0, 2.0, 2.0]]),
        np.array([[1.0, 0.5, 2.0, 2.0], [1.0, 0.5, 2.0, 2.0], [5, 5, 1, 1]]),
    )
    got = box_overlap(a, b, np.array([False, True, False]))
    assert got[0].tolist() == pytest.approx([1.5 / 6.5, 1.5 / 4, 0])


def test_hundreds_of_instances_in_a_large_image_take_well_under_a_second() -> None:
    nuclei = [square(45 * (n // 25), 50 * (n % 25), 40) for n in range(375)]
    started = time.perf_counter()
    overlap = mask_overlap(nuclei, nuclei, none(375))
    assert len(match(overlap, 0.5)) == 375 and (overlap == np.eye(375)).all()
    assert time.perf_counter() - started < 1


def test_matching_is_one_to_one_and_takes_the_best_first() -> None:
    overlap = np.array([[0.6, 0.7], [0.65, 0.9], [0.0, 0.2]])
    assert match(overlap, 0.5) == [(0, 0), (1, 1)]  # (1, 1) first, then (0, 0): what is left
    # 0.65 of (1, 0) and 0.7 of (0, 1) lose their partner to 0.9
    assert match(overlap, 0.65) == [(1, 1)]
    assert match(overlap, 0.9) == [(1, 1)] and match(overlap, 0.91) == []
    assert match(np.array([[0.5], [0.5]]), 0.5) == [(0, 0)]
    assert match(np.empty((0, 2)), 0.5) == match(np.empty((2, 0)), 0.5) == []


def most_pairs(possible: np.ndarray) -> int:
    """Size of the largest matching, by trying all."""
    if not len(possible):
        return 0
    first, rest = possible[0], possible[1:]
    taken = [1 + most_pairs(rest * (np.arange(len(first)) != j)) for j in np.flatnonzero(first)]
    return max([most_pairs(rest), *taken])


@pytest.mark.parametrize("seed", range(5))
def test_no_matching_has_more_pairs_when_labels_are_disjoint(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = [square(0, 10 * n, 8) for n in range(5)]
    found = [
        square(int(rng.integers(0, 3)), 10 * n + int(rng.integers(-2, 3)), 8)
        for n in (0, 0, 1, 1, 2, 3)
    ]
    overlap = mask_overlap(found, truth, none(5))
    assert len(match(overlap, 0.51)) == most_pairs(overlap >= 0.51) > 0


def test_the_ratio_counts_right_wrong_and_missed() -> None:
    overlap = np.array([[0.8, 0.0, 0.0], [0.7, 0.0, 0.0], [0.0, 0.6, 0.0]])
    assert tp_ratio(overlap, none(3), 0.5) == 2 / (2 + 1 + 1)
    assert tp_ratio(overlap, none(3), 0.75) == 1 / (1 + 2 + 2)
    assert tp_ratio(overlap, none(3), 0.9) == 0
    assert tp_ratio(np.eye(3), none(3), 1.0) == 1


def test_the_ratio_is_one_when_nothing_is_found_where_nothing_is() -> None:
    assert tp_ratio(np.empty((0, 0)), none(0), 0.5) == 1
    assert tp_ratio(np.empty((0, 2)), none(2), 0.5) == tp_ratio(np.empty((2, 0)), none(0), 0.5) == 0
    assert (
        tp_ratio(np.ones((2, 1)), ~none(1), 0.5) == tp_ratio(np.empty((0, 1)), ~none(1), 0.5) == 1
    )


def test_a_crowd_is_neither_missed_nor_wrong() -> None:
    overlap = np.array([[0.8, 0.9], [0.0, 0.9], [0.0, 0.4]])
    crowd = np.array([False, True])
    assert tp_ratio(overlap, crowd, 0.5) == 1 / (1 + 1 + 0)
    assert tp_ratio(overlap[:2], crowd, 0.5) == 1
    assert tp_ratio(overlap, crowd, 0.85) == 0  # one wrong, one missed


def test_best_overlaps_may_share_what_was_found() -> None:
    assert best_overlaps(np.array([[0.5, 0.3, 0.0], [0.4, 0.2, 0.0]])).tolist() == [0.5, 0.3, 0]
    assert best_overlaps(np.empty((0, 2))).tolist() == [0, 0]
    assert best_overlaps(np.empty((2, 0))).shape == (0,)


def test_an_image_is_located_by_its_best_box_alone() -> None:
    boxes, truth = (
        np.array([[0.0, 0, 10, 10], [50, 50, 10, 10]]),
        np.array([[20.0, 20, 5, 5], [0, 0, 10, 5]]),
    )
    assert located(boxes, np.array([0.9, 0.1]), truth)  # an IoU of exactly 0.5
    assert not located(boxes, np.array([0.1, 0.9]), truth)
    assert located(boxes, np.array([0.9, 0.9]), truth)  # of equals the first
    assert not located(np.empty((0, 4)), np.empty(0), truth) and not located(
        boxes, np.ones(2), np.empty((0, 4))
    )


def test_the_calibration_error_is_the_mean_distance_of_scores_and_shares_by_bin() -> None:
    rng = np.random.default_rng(0)
    scores = np.append(rng.random(200), (0.0, 1.0))
    right = rng.random(202) < scores**2
    want = 0.0
    for b in range(10):
        inside = (scores >= b / 10) & ((scores < (b + 1) / 10) | (b == 9))
        want += inside.sum() / 202 * abs(scores[inside].mean() - right[inside].mean())
    assert calibration_error(scores, right) == pytest.approx(want) and want > 0.1
    assert calibration_error(np.ones(3), np.ones(3, bool)) == 0
    assert math.isnan(calibration_error(np.zeros(0), np.zeros(0, bool)))
    # logits are no probabilities
    assert math.isnan(calibration_error(np.array([-0.5, 0.5]), np.ones(2, bool)))


def test_where_instances_overlap_the_better_then_the_smaller_then_the_first_wins() -> None:
    whole, part, better = square(0, 0, 4, 0.5), square(1, 1, 2, 0.5), square(2, 2, 3, 0.9)
    expected = np.zeros((6, 6), int)
    expected[:4, :4], expected[1:3, 1:3], expected[2:5, 2:5] = 1, 2, 3
    assert (partition([whole, part, better], 6, 6) == expected).all()
    assert partition([square(0, 0, 2), square(0, 0, 2)], 2, 2).tolist() == [[1, 1], [1, 1]]
    assert partition([], 2, 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("seed", range(8))
def test_ari_equals_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, classes = int(rng.integers(1, 400)), int(rng.integers(1, 8))
    b = rng.integers(0, classes, n)
    a = np.where(rng.random(n) < 0.7, b, rng.integers(0, 9, n))
    assert adjusted_rand(a, b) == pytest.approx(adjusted_rand_score(b, a), abs=1e-12)
    assert adjusted_rand(a, b) == pytest.approx(adjusted_rand(b, a), abs=1e-12)


@pytest.mark.parametrize(
    ("a", "b"), [([0], [0]), ([1, 1, 1], [2, 2, 2]), ([0, 1, 2], [2, 0, 1]), ([0, 0], [0, 1])]
)
def test_ari_of_partitions_that_leave_no_choice(a: list[int], b: list[int]) -> None:
    assert adjusted_rand(np.array(a), np.array(b)) == adjusted_rand_score(a, b)


def test_ari_of_millions_of_pixels_keeps_its_digits() -> None:
    b = np.repeat(np.arange(4), 700_000)
    a = np.minimum(b, 2)
    half, pairs = 700_000 * 699_999 / 2, 2_800_000 * 2_799_999 / 2
    in_a, in_b = 2 * half + 1_400_000 * 1_399_999 / 2, 4 * half
    expected = in_a * in_b / pairs
    assert adjusted_rand(a, b) == pytest.approx(
        (4 * half - expected) / ((in_a + in_b) / 2 - expected), rel=1e-12
    )


def test_foreground_ari_equals_scikit_learn_on_labelled_pixels() -> None:
    found, truth = blobs(2, 6), blobs(3, 4)
    ours, labels = (np.zeros((HEIGHT, WIDTH), int) for _ in range(2))
    for numbers, instances in ((ours, found), (labels, truth)):
        for n in sorted(range(len(instances)), key=lambda n: instances[n].score):  # noqa: B023
            numbers[instances[n].paint(HEIGHT, WIDTH) >= 128] = n + 1
    expected = adjusted_rand_score(labels[labels > 0], ours[labels > 0])
    assert foreground_ari(found, truth, HEIGHT, WIDTH) == pytest.approx(expected, abs=1e-12)
    assert foreground_ari(truth, truth, HEIGHT, WIDTH) == 1


def test_foreground_ari_of_nothing() -> None:
    truth = [square(0, 0, 4), square(10, 10, 4)]
    assert foreground_ari([], truth, HEIGHT, WIDTH) == 0  # all pixels are one class
    # what is not covered is a class as good as any
    assert foreground_ari([square(0, 0, 4)], truth, HEIGHT, WIDTH) == 1
    assert math.isnan(foreground_ari(truth, [], HEIGHT, WIDTH))


def test_alpha_errors_are_means_over_the_union_of_both_supports() -> None:
    found, truth = blobs(4, 1)[0], blobs(5, 1)[0]
    a, b = (i.paint(HEIGHT, WIDTH) / 255 for i in (found, truth))
    values = [abs(p - q) for p, q in zip(a.ravel(), b.ravel(), strict=True) if p > 0 or q > 0]
    mad, mse = alpha_errors(found, truth)
    assert mad == pytest.approx(sum(values) / len(values))
    assert mse == pytest.approx(sum(v * v for v in values) / len(values))
    assert alpha_errors(truth, found) == pytest.approx((mad, mse)) and alpha_errors(
        found, found
    ) == (0, 0)
    half = Instance(np.full((2, 2), 51, np.uint8), 3, 3)
    assert alpha_errors(half, square(3, 3, 2)) == pytest.approx((0.8, 0.64))
