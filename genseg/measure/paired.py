"""Whether one of two paired columns of numbers is larger than the other beyond chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t


@dataclass(frozen=True)
class Difference:
    """Of pairs: mean of a - b, its standard error (nan for fewer than two pairs), and how many
    pairs.

    clear: whether the mean is further from 0 than chance takes it in 19 of 20 cases where there is
        no difference (Student's t: 4.3 standard errors for 3 pairs, 2.8 for 5, 2 for many)
    """

    mean: float
    error: float
    pairs: int

    @property
    def clear(self) -> bool:
        return self.pairs > 1 and abs(self.mean) > float(t.ppf(0.975, self.pairs - 1)) * self.error


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    """The difference of two columns whose rows share what they were drawn from: the standard error
    is that of the differences (mean / error is Student's paired t)."""
    differences = [x - y for x, y in zip(a, b, strict=True)]
    mean, spread = mean_and_spread(differences)
    return Difference(
        mean,
        spread / math.sqrt(len(differences)) if len(differences) > 1 else math.nan,
        len(differences),
    )


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of a sample (n - 1); nan where there are too few."""
    n = len(values)
    mean = math.fsum(values) / n if n else math.nan
    return mean, math.sqrt(
        math.fsum((v - mean) ** 2 for v in values) / (n - 1)
    ) if n > 1 else math.nan
