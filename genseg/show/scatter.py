"""Scatter plots as inline SVG, in the frame of the charts."""

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from genseg.show.chart import BOTTOM, HEIGHT, LEFT, TOP, WIDTH, _x_axis, _y_axis, nice_ticks

POINTS = 2000  # of a picture; of more a part is drawn, evenly spaced


def scatter(title: str, x: Sequence[float], y: Sequence[float], *, x_label: str) -> str:
    """An <svg> with a dot for each pair; pairs that are not finite are left out, and nothing left
    gives no chart."""
    pairs = [p for p in zip(x, y, strict=True) if all(map(math.isfinite, p))]
    if not pairs:
        return ""
    pairs = pairs[:: -(-len(pairs) // POINTS)]
    across, up = (
        _Scale([p[n] for p in pairs], *ends)
        for n, ends in enumerate(((LEFT, WIDTH - LEFT), (HEIGHT - BOTTOM, TOP)))
    )
    dots = "".join(
        f'<circle class="dot c0" cx="{across(a):.1f}" cy="{up(b):.1f}" r="2" fill-opacity="0.5"/>'
        for a, b in pairs
    )
    axes = _y_axis(up.ticks, up, LEFT, False) + _x_axis(across.ticks, across, LEFT, x_label)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}: {len(pairs):,} dots">{axes}{dots}</svg>'
    )


class _Scale:
    """From values to pixels between two ends, by way of round numbers."""

    def __init__(self, values: Sequence[float], first: float, last: float) -> None:
        low, high = float(np.min(values)), float(np.max(values))
        if high <= low:
            low, high = low - 1, high + 1
        self.ticks = nice_ticks(low, high, 4)
        self.low, self.high = min(low, self.ticks[0]), max(high, self.ticks[-1])
        self.first, self.last = first, last

    def __call__(self, value: float) -> float:
        part = (value - self.low) / (self.high - self.low)
        return self.first + part * (self.last - self.first)
