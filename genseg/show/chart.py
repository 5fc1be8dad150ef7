"""Line charts and dot plots as inline SVG: lines named where they end, few ticks, colours from the
page."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 380, 230
TOP, BOTTOM, LEFT, RIGHT = 14, 34, 46, 96
GAP = 14  # pixels between two labels
POINTS = 300  # of a line; longer ones are thinned
LETTERS = 15  # of a name beside a line
INSET = 20  # pixels between the axis and the first of the dots
BESIDE = 5  # pixels between the dots of two lines at the same x
TICK = 30  # pixels that a number on the x axis needs
Scale = Callable[[float], float]  # from a value to pixels
FEW = 8  # points up to which each is marked
COLOURS = 7  # that the page has
BINS = 24  # of a histogram, at most


@dataclass(frozen=True)
class Line:
    """Values y over x. `spread` is drawn as a bar of so much above and below each point."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] | None = None


def chart(
    title: str, lines: Sequence[Line], *, x_label: str, percent: bool = False, dots: bool = False
) -> str:
    """An <svg> of some lines. Values that are not finite are left out; nothing left gives no chart.

    percent: values are parts of one, the axis says them in percent
    dots: mark every point, as for few measurements; then x is logarithmic, and every x gets a tick
        where there is room
    """
    lines = [kept for kept in map(_finite, lines) if kept.x]
    if not lines:
        return ""
    xs = sorted({x for line in lines for x in line.x})
    right = LEFT if len(lines) == 1 else RIGHT
    low, high = _range(lines)
    ticks = nice_ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def across(x: float) -> float:
        low, high, x = (math.log(v) if dots else v for v in (xs[0], xs[-1], x))
        part = (x - low) / (high - low) if high > low else 0.5 if dots else 0.0
        margin = INSET if dots else 0
        return LEFT + margin + part * (WIDTH - LEFT - right - 2 * margin)

    def up(y: float) -> float:
        return TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        _y_axis(ticks, up, right, percent),
        _x_axis(
            _apart(xs, across) if dots else nice_ticks(xs[0], xs[-1], 4), across, right, x_label
        ),
    ]
    for n, line in enumerate(lines):
        # else bars of the same x would hide one another
        aside = (n - (len(lines) - 1) / 2) * BESIDE if dots else 0
        parts.append(_drawn(n % COLOURS, line, _aside(across, aside), up, dots))
    if len(lines) > 1:
        parts += _labels(lines, up, WIDTH - right + 8)
    said = f"{title}: " + "; ".join(
        f"{line.name} from {number(line.y[0])} to {number(line.y[-1])}" for line in lines
    )
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">'
        + "".join(parts)
        + "</svg>"
    )


def histogram(title: str, values: Sequence[float], *, x_label: str, y_label: str) -> str:
    """An <svg> of how many values lie in bins of equal width on a logarithmic axis. Values are
    above 0."""
    edges = log_bins(values)
    counts, _ = np.histogram(values, edges)
    ticks = nice_ticks(0, float(counts.max()), 4)
    top = max(float(counts.max()), ticks[-1])

    def across(x: float) -> float:
        part = math.log(x / edges[0]) / math.log(edges[-1] / edges[0])
        return LEFT + part * (WIDTH - 2 * LEFT)

    def up(y: float) -> float:
        return TOP + (1 - y / top) * (HEIGHT - TOP - BOTTOM)

    drawn = [
        f'<rect class="bin" x="{across(a) + 0.5:.1f}" y="{up(n):.1f}" '
        f'width="{across(b) - across(a) - 1:.1f}" height="{up(0) - up(n):.1f}"/>'
        for a, b, n in zip(edges, edges[1:], counts.tolist(), strict=False)
    ]
    round_ones = [x for x in _round_numbers(edges[0], edges[-1]) if edges[0] <= x <= edges[-1]]
    axes = _y_axis(ticks, up, LEFT, False) + _x_axis(
        _apart(round_ones, across), across, LEFT, x_label
    )
    said = (
        f"{title}: {sum(counts.tolist()):,} {y_label} from {number(min(values))} to "
        f"{number(max(values))} {x_label}"
    )
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(said)}">{axes}{"".join(drawn)}<text class="tick" x="{LEFT}" '
        f'y="{TOP - 3}">{escape(y_label)}</text></svg>'
    )


def log_bins(values: Sequence[float]) -> list[float]:
    """The edges of BINS bins, or fewer for few values, whose ratio is the same; all values lie
    within."""
    low, high = min(values), max(values)
    low, high = (low, high) if high > 1.5 * low else (low / 1.25, high * 1.25)
    count = min(BINS, max(4, round(2 * math.sqrt(len(values)))))
    edges = [low * (high / low) ** (n / count) for n in range(count + 1)]
    # rounding may leave the ends out
    return [min(low, min(values)), *edges[1:-1], max(high, max(values))]


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2, 5 times the powers of ten from below one number to above another."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**p for p in powers for m in (1, 2, 5)]


def _aside(scale: Scale, pixels: float) -> Scale:
    return lambda x: scale(x) + pixels


def _apart(xs: Sequence[float], across: Scale) -> list[float]:
    """Those whose ticks do not meet, from the last one down."""
    kept: list[float] = []
    for x in reversed(xs):
        if not kept or across(kept[-1]) - across(x) >= TICK:
            kept.append(x)
    return kept


def _finite(line: Line) -> Line:
    """Without values that are not finite, and with at most POINTS points; the last one stays."""
    kept = [n for n, y in enumerate(line.y) if math.isfinite(y)]
    stride = -(-len(kept) // POINTS)
    kept = kept[::-1][:: max(stride, 1)][::-1]
    spread = None if line.spread is None else [line.spread[n] for n in kept]
    return Line(line.name, [line.x[n] for n in kept], [line.y[n] for n in kept], spread)


def _range(lines: Sequence[Line]) -> tuple[float, float]:
    ends = [
        y + sign * s
        for line in lines
        for y, s in zip(line.y, line.spread or [0.0] * len(line.y), strict=True)
        for sign in (-1, 1)
    ]
    low, high = min(ends), max(ends)
    margin = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    return (0.0 if 0 <= low <= 0.3 * high else low - margin), high + margin


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers within [low, high], about `count` of them: steps of 1, 2 or 5 times a power of
    ten."""
    if high <= low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)] or [low]


def number(value: float) -> str:
    """A number as an axis or a table says it: short, thousands as k, no exponent where it can be
    helped."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 10_000:
        return f"{value / 1e3:.3g}k"
    if size and size < 1e-3:
        return f"{value:.2g}".replace("e-0", "e-")
    return f"{value:.0f}" if size >= 1000 else f"{value:.3g}"


def _y_axis(ticks: Sequence[float], up: Scale, right: int, percent: bool) -> str:
    parts = []
    for y in ticks:
        text = f"{100 * y:.3g} %" if percent else number(y)
        parts.append(
            f'<line class="rule" x1="{LEFT}" x2="{WIDTH - right}" y1="{up(y):.1f}" '
            f'y2="{up(y):.1f}"/><text class="tick" x="{LEFT - 7}" y="{up(y) + 4:.1f}" '
            f'text-anchor="end">{text}</text>'
        )
    return "".join(parts)


def _x_axis(ticks: Sequence[float], across: Scale, right: int, label: str) -> str:
    below = HEIGHT - BOTTOM + 16
    parts = [
        f'<text class="tick" x="{across(x):.1f}" y="{below}" '
        f'text-anchor="middle">{number(x)}</text>'
        for x in ticks
    ]
    middle = (LEFT + WIDTH - right) / 2
    return "".join(parts) + (
        f'<text class="tick" x="{middle:.0f}" y="{HEIGHT - 3}" '
        f'text-anchor="middle">{escape(label)}</text>'
    )


def _drawn(n: int, line: Line, across: Scale, up: Scale, dots: bool) -> str:
    points = [(across(x), up(y)) for x, y in zip(line.x, line.y, strict=True)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [f'<polyline class="line c{n}" points="{path}"/>']
    for x, y, s in zip(line.x, line.y, line.spread or (), strict=False):
        parts.append(
            f'<line class="line bar c{n}" x1="{across(x):.1f}" x2="{across(x):.1f}" '
            f'y1="{up(y - s):.1f}" y2="{up(y + s):.1f}"/>'
        )
    if dots or len(points) <= FEW:
        parts += [
            f'<circle class="dot c{n}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in points
        ]
    return "".join(parts)


def _labels(lines: Sequence[Line], up: Scale, x: float) -> list[str]:
    """The name of each line at the height where it ends, pushed apart where two would meet."""
    names = _short([line.name for line in lines])
    order = sorted(range(len(lines)), key=lambda n: up(lines[n].y[-1]))
    heights = [up(lines[n].y[-1]) + 4 for n in order]
    for i in range(1, len(order)):
        heights[i] = max(heights[i], heights[i - 1] + GAP)
    beyond = max(0.0, heights[-1] - (HEIGHT - BOTTOM))
    for i in range(len(order) - 1, -1, -1):
        heights[i] = min(
            heights[i] - (beyond if i == len(order) - 1 else 0),
            heights[i + 1] - GAP if i + 1 < len(order) else math.inf,
        )
    return [
        f'<text class="name c{n % COLOURS}" x="{x:.0f}" y="{y:.1f}">{escape(names[n])}</text>'
        for n, y in zip(order, heights, strict=True)
    ]


def _short(names: Sequence[str]) -> list[str]:
    """Names that fit: without their ends, or their middles where two would look alike."""
    ends = [n if len(n) <= LETTERS else n[: LETTERS - 1] + "…" for n in names]
    half = LETTERS // 2
    return [
        n if len(n) <= LETTERS else f"{n[:half]}…{n[-half:]}" if alike else end
        for n, end in zip(names, ends, strict=True)
        for alike in [ends.count(end) > 1 or end[:-1] in names]
    ]
