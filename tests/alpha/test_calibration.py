"""Scores as probabilities: the likeliest line through logits, and back."""

import numpy as np
import pytest
from scipy.optimize import minimize

from genseg.alpha.calibration import Calibration
from genseg.alpha.platt import FLAT, LEAST, fit_calibration


def drawn(slope: float, offset: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and whether each is right, with the probability that a calibration says."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.02, 0.98, count)
    chance = 1 / (1 + np.exp(-(slope * np.log(scores / (1 - scores)) + offset)))
    return scores, rng.random(count) < chance


def test_the_calibration_that_scores_were_drawn_with_is_found() -> None:
    found = fit_calibration(*drawn(3.0, 0.7, 20_000))
    assert (found.slope, found.offset) == pytest.approx((3.0, 0.7), abs=0.15)


def test_it_is_the_likeliest_with_platts_targets() -> None:
    scores, right = drawn(2.0, -0.5, 300)
    r, w = right.sum(), (~right).sum()
    target = np.where(right, (r + 1) / (r + 2), 1 / (w + 2))
    x = np.log(scores / (1 - scores))

    def unlikely(line: np.ndarray) -> float:
        z = line[0] * x + line[1]
        return float((np.logaddexp(0, z) - target * z).sum())

    found = fit_calibration(scores, right)
    assert (found.slope, found.offset) == pytest.approx(minimize(unlikely, (1.0, 0.0)).x, abs=2e-3)


def test_scores_and_probabilities_are_each_others_inverse() -> None:
    calibration = Calibration(2.5, -0.4)
    for p in (0.0, 1e-3, 0.3, 0.5, 0.97, 1.0):
        assert calibration.probability(calibration.score(p)) == pytest.approx(p)
        assert Calibration().probability(p) == pytest.approx(p)
    assert calibration.probability(0.2) < calibration.probability(0.3)


def test_scores_that_part_right_from_wrong_give_a_finite_line() -> None:
    scores = np.linspace(0, 1, 100)
    found = fit_calibration(scores, scores > 0.5)
    assert 1 < found.slope < 100 and abs(found.score(0.5) - 0.5) < 0.05


def test_of_few_instances_nothing_is_learnt() -> None:
    few = drawn(3.0, 0.0, LEAST - 1)
    assert fit_calibration(*few) == Calibration()
    assert fit_calibration(np.zeros(0), np.zeros(0, bool)) == Calibration()


def test_a_probability_is_low_where_few_are_right() -> None:
    """Nineteen of five hundred right, or none: no score of 0.7 is a probability of 0.7."""
    scores = np.linspace(0.05, 0.95, 500)
    for right in (np.arange(500) >= 481, np.zeros(500, bool)):
        found = fit_calibration(scores, right)
        assert found.probability(0.7) < 0.1
        assert np.mean([found.probability(s) for s in scores.tolist()]) == pytest.approx(
            right.mean(), abs=0.01
        )


def test_where_scores_say_nothing_all_are_about_as_likely_as_instances_are_in_the_mean() -> None:
    scores, right = drawn(3.0, 0.0, 2000)
    # the better ones are wrong; chance
    for luck in (~right, np.random.default_rng(0).random(2000) < 0.3):
        found = fit_calibration(scores, luck)
        assert found.slope == FLAT
        assert np.mean([found.probability(s) for s in scores.tolist()]) == pytest.approx(
            luck.mean(), abs=0.01
        )
        assert abs(found.probability(0.99) - luck.mean()) < 0.2
