"""What follows from the numbers of all arms: rank correlations, the cost of a level."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from genseg.workflows.study.ranks import rank_correlations, spearman
from genseg.workflows.study.reach import reached


def test_a_rank_correlation_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 6, 20).astype(float)  # with equal values
    y = x + rng.normal(0, 2, 20)
    assert spearman(x, y) == pytest.approx(float(spearmanr(x, y).statistic))
    assert spearman(x, x**3) == pytest.approx(1) and spearman(x, -x) == pytest.approx(-1)
    assert spearman(x, np.ones(20)) is None


def test_an_arm_counts_once_and_the_closest_measure_comes_first() -> None:
    rng = np.random.default_rng(1)
    arms = {}
    for n in range(12):
        aim = [float(n), n + 0.5]
        arms[f"arm{n}"] = {
            s: {"aim": aim[s], "good": aim[s] * 2, "noise": float(rng.normal())} for s in (0, 1)
        }
    arms["alone"] = {0: {"good": 5.0}}  # without the aim
    first, second = rank_correlations(arms, "aim")
    assert (first.measure, first.rho, first.arms) == ("good", pytest.approx(1), 12)
    assert first.clear and first.low == pytest.approx(1) and not second.clear
    assert second.low <= second.rho <= second.high
    assert rank_correlations({a: arms[a] for a in ("arm0", "arm1", "arm2")}, "aim") == []


def arm(*points: tuple[float, float]) -> dict[int, dict[str, float]]:
    return {s: {"seconds": cost, "knn": value} for s, (cost, value) in enumerate(points)}


def test_a_level_is_reached_where_the_line_meets_it() -> None:
    """knn = 0.1 + 0.05 log2(seconds): 0.4 at 64 seconds, which are 16 times 4."""
    values = {"a": arm((2, 0.15)), "b": arm((8, 0.25)), "aim": arm((4, 0.38), (4, 0.42))}
    found = reached(("a", "b", "aim"), values, "knn", "seconds")
    assert found is not None and found["beyond"]
    assert found["times"] == pytest.approx(16) and found["level"] == pytest.approx(0.4)
    assert found["for_each_doubling"] == pytest.approx(0.05)
    falls = {"a": arm((2, 0.3)), "b": arm((8, 0.2)), "aim": arm((4, 0.4))}
    told = reached(("a", "b", "aim"), falls, "knn", "seconds")
    assert told is not None and told["times"] is None
    assert reached(("a", "aim"), values, "knn", "seconds") is None  # one point is no line
    assert reached(("a", "b", "aim"), {"a": values["a"], "b": values["b"]}, "knn", "s") is None
