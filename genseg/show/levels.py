"""Pictures and maps whose order is seen before a number is read: one scale of colours from low to
high, a bar below each picture, and a map of values over a plane."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from genseg.show.chart import number
from genseg.show.page import as_text
from genseg.show.viewer import data_uri

# from blue over grey to orange, which all eyes tell apart, on a light and on a dark page
ANCHORS = ((0, 84, 150), (86, 160, 205), (200, 200, 196), (233, 150, 70), (186, 68, 0))
LEAST = 0.04  # of a bar: the lowest is seen, too
CELL = 14  # units of a cell of a map
EDGE = 34  # units beside and below it, for words
GREY = "#8a8a8a"  # of what is not finite


@dataclass(frozen=True)
class Level:
    """A picture and its value. word: what it is; more: another line; marked: it is framed"""

    picture: UInt8[np.ndarray, "_ _ 3"]
    value: float
    word: str
    more: str = ""
    marked: bool = False


def shade(part: float) -> str:
    """The colour of a part of the way from low, 0, to high, 1; grey where that is not finite."""
    if not math.isfinite(part):
        return GREY
    at = min(max(part, 0.0), 1.0) * (len(ANCHORS) - 1)
    n = min(int(at), len(ANCHORS) - 2)
    pairs = zip(ANCHORS[n], ANCHORS[n + 1], strict=True)
    return "#" + "".join(f"{round(a + (at - n) * (b - a)):02x}" for a, b in pairs)


def span_of(values: Sequence[float]) -> tuple[float, float]:
    """The lowest and the highest of those that are finite."""
    finite = [v for v in values if math.isfinite(v)]
    return min(finite, default=0.0), max(finite, default=0.0)


def parts_of(values: Sequence[float], span: tuple[float, float] | None = None) -> list[float]:
    """Where each value lies in a span, from 0 to 1: in their own, unless one is given. What is not
    finite stays nowhere."""
    low, high = span or span_of(values)
    return [(v - low) / ((high - low) or 1.0) if math.isfinite(v) else math.nan for v in values]


def ordered(cells: Sequence[Level]) -> list[Level]:
    """From low to high; those that are not finite last."""
    return sorted(cells, key=lambda c: c.value if math.isfinite(c.value) else math.inf)


def levels(cells: Sequence[Level], *, name: str, span: tuple[float, float] | None = None) -> str:
    """A row of pictures. Colour and bar of each say where its value lies in a span, by default from
    the row's lowest to its highest; below stands the value, after its `name`."""
    shown = ""
    for cell, part in zip(cells, parts_of([c.value for c in cells], span), strict=True):
        side, kind = cell.picture.shape[:2], ' class="marked"' if cell.marked else ""
        value = signed(cell.value)
        alt = as_text(f"{cell.word}: {name} {value}" + (f", {cell.more}" if cell.more else ""))
        width = 100 * min(max(LEAST, part), 1) if math.isfinite(part) else 0
        more = f"<br>{as_text(cell.more)}" if cell.more else ""
        shown += (
            f'<figure{kind} style="--shade:{shade(part)}"><img src="{data_uri(cell.picture)}" '
            f'alt="{alt}" width="{side[1]}" height="{side[0]}"><span class="bar"><i '
            f'style="width:{width:.0f}%"></i></span><figcaption><b>{as_text(cell.word)}</b><br>'
            f"{as_text(name)} {value}{more}</figcaption></figure>"
        )
    return f'<div class="levels">{shown}</div>'


def signed(value: float) -> str:
    """A value as a caption says it, with a true minus."""
    if not math.isfinite(value):
        return "not finite"
    return number(value).replace("-", "\N{MINUS SIGN}")


def legend(low: str, high: str) -> str:
    """What the colours mean."""
    stops = ", ".join(shade(n / 8) for n in range(9))
    return (
        f'<p class="scale"><span>{as_text(low)}</span><i style="background:linear-gradient(90deg, '
        f'{stops})"></i><span>{as_text(high)}</span></p>'
    )


def plane(
    title: str, values: Float[np.ndarray, "r c"], *, low: str, high: str, across: str, down: str
) -> str:
    """An <svg> of values over a plane: a cross in the middle, a ring around the lowest.

    low, high: words at the ends of both axes
    across, down: what the axes are
    """
    rows, columns = values.shape
    flat = parts_of(values.ravel().tolist())
    cells = "".join(
        f'<rect x="{EDGE + n % columns * CELL}" y="{n // columns * CELL}" width="{CELL}" '
        f'height="{CELL}" fill="{shade(part)}"/>'
        for n, part in enumerate(flat)
    )
    w, h = EDGE + columns * CELL, rows * CELL
    x, y = EDGE + columns * CELL / 2, h / 2
    marks = f'<path class="cross" d="M{x - 6:g} {y:g}h12M{x:g} {y - 6:g}v12"/>'
    said = f"{title}: nothing is finite"
    if np.isfinite(values).any():
        least = int(np.nanargmin(np.where(np.isfinite(values), values, np.nan)))
        at = (EDGE + (least % columns + 0.5) * CELL, (least // columns + 0.5) * CELL)
        marks += f'<circle class="ring" cx="{at[0]:g}" cy="{at[1]:g}" r="{0.72 * CELL:g}"/>'
        finite = values[np.isfinite(values)]
        middle, ends = values[rows // 2, columns // 2], (finite.min(), finite.max())
        said = (
            f"{title}: {signed(float(middle))} in the middle, lowest {signed(float(ends[0]))}, "
            f"highest {signed(float(ends[1]))}"
        )
    words = [
        *(
            (EDGE - 6, 11, "end", low),
            (EDGE - 6, h - 2, "end", high),
            (EDGE - 6, y + 4, "end", "0"),
        ),
        *((EDGE, h + 15, "start", low), (w, h + 15, "end", high), (x, h + 15, "middle", "0")),
        (x, h + 30, "middle", across),
    ]
    texts = "".join(
        f'<text class="tick" x="{a:g}" y="{b:g}" text-anchor="{anchor}">{as_text(word)}</text>'
        for a, b, anchor, word in words
    )
    texts += (
        f'<text class="tick" transform="translate(9 {h / 4:g}) rotate(-90)" '
        f'text-anchor="middle">{as_text(down)}</text>'
    )
    return (
        f'<svg class="chart plane" viewBox="0 0 {w} {h + 34}" role="img" '
        f'aria-label="{as_text(said)}"><g shape-rendering="crispEdges">{cells}</g>{marks}{texts}'
        "</svg>"
    )
