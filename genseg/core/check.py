"""Ranges of a config's numbers."""

import math
from collections.abc import Sequence


def at_least(minimum: float, **values: float) -> None:
    """Raise ValueError naming the first value below `minimum`, or not finite."""
    for name, value in values.items():
        if not minimum <= value < math.inf:  # nor nan
            raise ValueError(f"{name}={value:g}: use {minimum:g} or more")


def above(minimum: float, **values: float) -> None:
    """Raise ValueError naming the first value not above `minimum`, or not finite."""
    for name, value in values.items():
        if not minimum < value < math.inf:
            raise ValueError(f"{name}={value:g}: it has to be above {minimum:g}, and finite")


def normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise ValueError unless all means are finite, all standard deviations are above 0, and there
    are as many of them."""
    if len(mean) != len(std) or not mean:
        raise ValueError(f"mean has {len(mean)} numbers and std {len(std)}: one for each channel")
    for value in mean:
        if not math.isfinite(value):
            raise ValueError(f"mean={value:g}: it has to be finite")
    for value in std:
        above(0, std=value)


def between(low: float, high: float, **values: float) -> None:
    """Raise ValueError naming the first value that is not in [low, high]; nan is not."""
    for name, value in values.items():
        if not low <= value <= high:
            raise ValueError(f"{name}={value:g}: use {low:g} to {high:g}")
