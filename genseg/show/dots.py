"""A dot plot of groups as inline SVG: a row for each, a dot for each value, mean and spread."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from genseg.measure.paired import mean_and_spread
from genseg.show.chart import WIDTH, nice_ticks, number

ROW = 22  # pixels
NAMES, MARGIN, BELOW = 130, 14, 34  # pixels for names, beside the plot, and below it
LETTERS = 20  # of a name


@dataclass(frozen=True)
class Dots:
    """The values of a group, at least one."""

    name: str
    values: Sequence[float]


def dot_plot(title: str, rows: Sequence[Dots]) -> str:
    """An <svg> of some groups, one below the other; a bar says the mean and one
    standard deviation to each side. There is at least one row."""
    height = len(rows) * ROW + BELOW
    every = [v for row in rows for v in row.values]
    ends = [m + sign * s for m, s in (mean_and_spread(r.values) for r in rows) for sign in (-1, 1)]
    every += [e for e in ends if not math.isnan(e)]
    low, high = min(every), max(every)
    room = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    low, high = low - room, high + room

    def across(x: float) -> float:
        return NAMES + (x - low) / (high - low) * (WIDTH - NAMES - MARGIN)

    parts = [
        f'<line class="rule" x1="{across(x):.1f}" x2="{across(x):.1f}" y1="0" '
        f'y2="{height - BELOW}"/><text class="tick" x="{across(x):.1f}" y="{height - BELOW + 16}" '
        f'text-anchor="middle">{number(x)}</text>'
        for x in nice_ticks(low, high, 4)
    ]
    parts.append(
        f'<text class="tick" x="{(NAMES + WIDTH) / 2:.0f}" y="{height - 3}" '
        f'text-anchor="middle">{escape(title)}</text>'
    )
    for n, row in enumerate(rows):
        parts.append(_row(row, (n + 0.5) * ROW, across))
    means = "; ".join(f"{r.name} {number(math.fsum(r.values) / len(r.values))}" for r in rows)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(f"{title}: {means}")}">{"".join(parts)}</svg>'
    )


def _row(row: Dots, y: float, across: Callable[[float], float]) -> str:
    """A name, the bar of mean and standard deviation, and a dot for each value."""
    mean, spread = mean_and_spread(row.values)
    short = row.name if len(row.name) <= LETTERS else row.name[: LETTERS - 1] + "…"
    parts = [
        f'<text class="name" x="{NAMES - 10}" y="{y + 4:.1f}" '
        f'text-anchor="end">{escape(short)}</text>'
    ]
    if not math.isnan(spread):
        parts.append(
            f'<line class="line bar c1" x1="{across(mean - spread):.1f}" '
            f'x2="{across(mean + spread):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
    parts.append(
        f'<line class="line bar c1" x1="{across(mean):.1f}" x2="{across(mean):.1f}" '
        f'y1="{y - 6:.1f}" y2="{y + 6:.1f}"/>'
    )
    parts += [
        f'<circle class="dot c0" cx="{across(v):.1f}" cy="{y:.1f}" r="3"/>' for v in row.values
    ]
    return "".join(parts)
