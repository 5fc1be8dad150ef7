"""Scores that are probabilities: how often an instance of a score is right, learnt where the truth
is known.

Composites know their layers, so no label is needed.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq
from sklearn.linear_model import LogisticRegression

from genseg.core.check import above

LEAST = 20  # instances, without which nothing is learnt
# a slope at the least: where scores say nothing, all are about as likely as instances are in the
# mean
FLAT = 0.1


@dataclass(frozen=True)
class Calibration:
    """logit(probability) = slope * logit(score) + offset (Platt, 1999, of the logit). By default
    the identity."""

    slope: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        above(0, slope=self.slope)
        if not math.isfinite(self.offset):
            raise ValueError(f"offset={self.offset:g}: it has to be finite")

    def probability(self, score: float) -> float:
        """Of an instance of this score to be right."""
        return _sigmoid(self.slope * _logit(score) + self.offset)

    def score(self, probability: float) -> float:
        """At which an instance is right with this probability."""
        return _sigmoid((_logit(probability) - self.offset) / self.slope)


def fit_calibration(scores: Float[np.ndarray, "n"], right: Bool[np.ndarray, "n"]) -> Calibration:
    """The likeliest calibration, with Platt's targets: (r + 1) / (r + 2) for each of r right ones,
    1 / (w + 2) for each of w wrong ones, so that it is finite where a score parts them. Of fewer
    than LEAST instances nothing is learnt.
    """
    r, w = int(right.sum()), int((~right).sum())
    if r + w < LEAST:
        return Calibration()
    x = np.array([_logit(s) for s in np.clip(scores, 1e-6, 1 - 1e-6).tolist()])[:, None]
    target = np.where(right, (r + 1) / (r + 2), 1 / (w + 2))
    both = LogisticRegression(C=np.inf).fit(
        np.concatenate([x, x]), np.repeat([1, 0], len(x)), np.concatenate([target, 1 - target])
    )
    slope, offset = float(both.coef_[0, 0]), float(both.intercept_[0])
    if slope >= FLAT:
        return Calibration(slope, offset)
    offset = brentq(
        lambda o: np.mean([_sigmoid(FLAT * v + o) for v in x[:, 0]]) - target.mean(), -30, 30
    )
    return Calibration(FLAT, offset)


def _logit(p: float) -> float:
    if p <= 0:
        return -math.inf
    return math.inf if p >= 1 else math.log(p / (1 - p))


def _sigmoid(x: float) -> float:
    return (1 + math.tanh(x / 2)) / 2
