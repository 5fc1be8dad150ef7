"""Ranges of a config's numbers."""


def at_least(minimum: float, **values: float) -> None:
    """Raise ValueError naming the first value below `minimum`."""
    for name, value in values.items():
        if not value >= minimum:  # nor nan
            raise ValueError(f"{name}={value:g}: use {minimum:g} or more")


def above(minimum: float, **values: float) -> None:
    """Raise ValueError naming the first value not above `minimum`."""
    for name, value in values.items():
        if not value > minimum:
            raise ValueError(f"{name}={value:g}: it has to be above {minimum:g}")


def between(low: float, high: float, **values: float) -> None:
    """Raise ValueError naming the first value that is not in [low, high]; nan is not."""
    for name, value in values.items():
        if not low <= value <= high:
            raise ValueError(f"{name}={value:g}: use {low:g} to {high:g}")
