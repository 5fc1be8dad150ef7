"""Which number of an encoder predicts another one, by rank."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

DRAWS = 1000  # of the bootstrap
LEAST = 4  # arms


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation of a measure with another one over arms.

    low, high: 2.5 and 97.5 percent of a bootstrap over arms
    """

    measure: str
    rho: float
    low: float
    high: float
    arms: int

    @property
    def clear(self) -> bool:
        """Whether it is other than 0 beyond chance."""
        return self.low > 0 or self.high < 0


def rank_correlations(
    values: Mapping[str, Mapping[int, Mapping[str, float]]], wanted: str
) -> list[RankCorrelation]:
    """Of all measures that LEAST arms or more have beside `wanted`, the closest first.

    An arm counts once, by the mean over its seeds: seeds of one arm are no independent encoders.
    """
    means = {arm: _means(list(of_seeds.values())) for arm, of_seeds in values.items()}
    names = sorted({m for found in means.values() for m in found} - {wanted})
    made = []
    for name in names:
        both = [(f[name], f[wanted]) for f in means.values() if name in f and wanted in f]
        if len(both) < LEAST:
            continue
        x, y = np.array(both).T
        if (rho := spearman(x, y)) is not None:
            made.append(RankCorrelation(name, rho, *_interval(x, y), len(both)))
    return sorted(made, key=lambda r: -abs(r.rho))


def spearman(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> float | None:
    """Spearman's rho: Pearson's correlation of ranks, equal values share theirs. None where one
    has no spread."""
    a, b = rankdata(x) - (len(x) + 1) / 2, rankdata(y) - (len(y) + 1) / 2
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size else None


def _interval(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, len(x), len(x)) for _ in range(DRAWS)]
    found = [rho for i in drawn if (rho := spearman(x[i], y[i])) is not None]
    low, high = np.quantile(found, [0.025, 0.975]).tolist()
    return low, high


def _means(seeds: list[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each measure over the seeds, of those that all seeds have."""
    shared = set.intersection(*(set(s) for s in seeds)) if seeds else set()
    return {m: math.fsum(s[m] for s in seeds) / len(seeds) for m in shared}
