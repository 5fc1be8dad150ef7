"""Scores as probabilities: the likeliest line through logits, and back."""

import numpy as np
import pytest
from scipy.optimize import minimize

from genseg.alpha.calibration import LEAST, Calibration, fit_calibration


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


def test_where_nothing_can_be_learnt_scores_stay_as_they_are() -> None:
    scores, right = drawn(3.0, 0.0, 200)
    assert fit_calibration(scores, np.ones(200, bool)) == Calibration()
    assert fit_calibration(scores, np.arange(200) < LEAST - 1) == Calibration()
    assert fit_calibration(scores, ~right) == Calibration()  # the better ones are wrong
    assert fit_calibration(np.zeros(0), np.zeros(0, bool)) == Calibration()
