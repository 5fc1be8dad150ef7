"""A scatter plot: a dot where each pair lies."""

import math
import re

from genseg.show.chart import BOTTOM, HEIGHT, LEFT, TOP, WIDTH
from genseg.show.scatter import POINTS, scatter


def dots(svg: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg)]


def test_the_ends_lie_at_the_ends_and_the_middle_between() -> None:
    svg = scatter("<t>", [0, 50, 100, math.nan], [0, 10, 20, 3], x_label="x & y")
    assert dots(svg) == [
        (LEFT, HEIGHT - BOTTOM),
        (WIDTH / 2, (TOP + HEIGHT - BOTTOM) / 2),
        (WIDTH - LEFT, TOP),
    ]
    assert "<t>" not in svg and "x &amp; y" in svg and "3 dots" in svg


def test_many_are_thinned_few_are_drawn_and_none_are_nothing() -> None:
    many = [float(n) for n in range(3 * POINTS)]
    assert 0.3 * POINTS < len(dots(scatter("t", many, many, x_label="x"))) <= POINTS
    assert len(dots(scatter("t", [5], [7], x_label="x"))) == 1
    assert scatter("t", [math.nan], [1], x_label="x") == ""
