"""Scores that are probabilities: how often an instance of a score is right, learnt where the truth
is known.

Composites know their layers, so no label is needed.
"""

import math
from dataclasses import dataclass

from genseg.core.check import above


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
        return sigmoid(self.slope * logit(score) + self.offset)

    def score(self, probability: float) -> float:
        """At which an instance is right with this probability."""
        return sigmoid((logit(probability) - self.offset) / self.slope)


def logit(p: float) -> float:
    if p <= 0:
        return -math.inf
    return math.inf if p >= 1 else math.log(p / (1 - p))


def sigmoid(x: float) -> float:
    return (1 + math.tanh(x / 2)) / 2
