"""Charts: round ticks, short numbers, lines where they belong, names that are text and do not
meet."""

import math
import re
from xml.etree import ElementTree

import pytest

from genseg.show.chart import (
    BESIDE,
    BOTTOM,
    GAP,
    HEIGHT,
    LEFT,
    POINTS,
    TOP,
    WIDTH,
    Line,
    chart,
    histogram,
    log_bins,
    nice_ticks,
    number,
)


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # raises unless it is well formed


def points(svg: str) -> list[list[tuple[float, float]]]:
    return [
        [tuple(map(float, p.split(","))) for p in line.split()]
        for line in re.findall(r'points="([^"]*)"', svg)
    ]


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.31, 0.46), (-3, 12), (1e-6, 8e-4), (0, 24000), (5, 5)]
)
def test_ticks_are_round_inside_and_about_five(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert all(low - 1e-12 <= t <= high + 1e-12 for t in ticks)
    if high > low:
        step = ticks[1] - ticks[0]
        mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-6
        assert 3 <= len(ticks) <= 7


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.5, "0.5"),
        (1234, "1234"),
        (24000, "24k"),
        (3.2e6, "3.2M"),
        (5e-4, "0.0005"),
        (2e-6, "2e-6"),
        (-0.25, "-0.25"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_a_line_goes_from_edge_to_edge_and_higher_is_higher() -> None:
    svg = chart("Loss", [Line("loss", [0, 50, 100], [4.0, 2.0, 1.0])], x_label="step")
    ((first, middle, last),) = points(svg)
    assert (
        first[0] == LEFT
        and last[0] == WIDTH - LEFT
        and middle[0] == pytest.approx((first[0] + last[0]) / 2)
    )
    assert TOP <= first[1] < middle[1] < last[1] <= HEIGHT
    assert (last[1] - middle[1]) / (middle[1] - first[1]) == pytest.approx(0.5, abs=0.02)
    assert parsed(svg).get("aria-label") == "Loss: loss from 4 to 1"


def test_names_are_escaped_and_pushed_apart() -> None:
    lines = [Line(f"<b>{n}</b>", [0, 1], [0.5 + n / 1000, 0.5]) for n in range(5)]
    svg = chart("A & B", lines, x_label="<i>")
    assert "<b>" not in svg and "<i>" not in svg
    root = parsed(svg)
    heights = sorted(
        float(t.get("y", 0))
        for t in root.iter()
        if t.tag == "text" and "name" in t.get("class", "")
    )
    assert len(heights) == 5 and all(
        b - a >= GAP - 0.11 for a, b in zip(heights, heights[1:], strict=False)
    )
    assert heights[0] > 0 and heights[-1] <= HEIGHT


def test_what_is_not_finite_is_left_out_and_nothing_gives_no_chart() -> None:
    assert (
        chart("x", [], x_label="step")
        == ""
        == chart("x", [Line("a", [1, 2], [math.nan, math.inf])], x_label="step")
    )
    ((one, two),) = points(chart("x", [Line("a", [0, 1, 2], [1.0, math.nan, 3.0])], x_label="step"))
    assert one[0] < two[0]


def test_parts_that_stay_at_nothing_have_an_axis_from_nothing() -> None:
    assert "−" not in chart("kNN", [Line("a", [0, 1], [0.0, 0.0])], x_label="step", percent=True)


def test_long_lines_are_thinned_and_keep_their_end() -> None:
    n = 10 * POINTS + 3
    (line,) = points(
        chart("x", [Line("a", list(range(n)), [float(i) for i in range(n)])], x_label="step")
    )
    assert len(line) <= POINTS and line[-1][0] == WIDTH - LEFT


def test_dots_stand_where_the_logarithm_is_with_bars_of_their_spread() -> None:
    svg = chart(
        "AP",
        [Line("a", [5, 20, 100], [0.2, 0.3, 0.5], [0.02, 0.0, 0.1])],
        x_label="labels",
        dots=True,
    )
    (line,) = points(svg)
    steps = [b[0] - a[0] for a, b in zip(line, line[1:], strict=False)]
    assert steps[1] / steps[0] == pytest.approx(math.log(5) / math.log(4), rel=0.01)
    bars = [
        (float(a), float(b)) for a, b in re.findall(r'bar c0" .*?y1="([\d.]+)" y2="([\d.]+)"', svg)
    ]
    assert bars[1][0] == bars[1][1] and (bars[2][1] - bars[2][0]) / (
        bars[0][1] - bars[0][0]
    ) == pytest.approx(5, rel=0.02)
    for (top, bottom), (_, y) in zip(bars, line, strict=True):
        assert (top + bottom) / 2 == pytest.approx(y, abs=0.11) or top == bottom


def test_bars_of_two_lines_stand_side_by_side_and_ticks_do_not_meet() -> None:
    lines = [
        Line(name, [4, 5, 40], [0.2, 0.3, y], [0.1, 0.1, 0.1])
        for name, y in (("a", 0.4), ("b", 0.5))
    ]
    svg = chart("AP", lines, x_label="labels", dots=True)
    one, two = points(svg)
    assert [b[0] - a[0] for a, b in zip(one, two, strict=True)] == pytest.approx(
        [BESIDE] * 3, abs=0.11
    )
    ticks = [
        float(x) for x in re.findall(rf'class="tick" x="([\d.]+)" y="{HEIGHT - BOTTOM + 16}"', svg)
    ]
    assert len(ticks) == 2 and max(ticks) == pytest.approx((one[2][0] + two[2][0]) / 2, abs=0.11)
    assert (
        len(points(chart("AP", [Line("a", [16], [0.4], [0.1])], x_label="labels", dots=True))[0])
        == 1
    )


def test_a_histogram_counts_every_value_in_bins_of_one_ratio() -> None:
    values = [4.0] * 30 + [8.0] * 10 + [70.0, 3.9, 100.0]
    edges = log_bins(values)
    ratios = [b / a for a, b in zip(edges, edges[1:], strict=False)]
    assert max(ratios) / min(ratios) == pytest.approx(1) and edges[0] <= 3.9 and edges[-1] >= 100
    svg = histogram("Sizes <", values, x_label="px", y_label="instances")
    bins = [float(r.get("height", 0)) for r in parsed(svg).iter() if r.get("class") == "bin"]
    unit = max(bins) / 31  # 4 and 3.9 share a bin
    assert sorted(round(h / unit) for h in bins if h > 0.2) == [1, 1, 10, 31]
    assert parsed(svg).get("aria-label") == "Sizes <: 43 instances from 3.9 to 100 px"


@pytest.mark.parametrize("values", [[5.0], [5.0, 5.0, 5.0], [0.5, 9000.0]])
def test_a_histogram_of_few_or_equal_values_has_room_for_them(values: list[float]) -> None:
    svg = parsed(histogram("x", values, x_label="px", y_label="n"))
    places = [
        float(r.get("x", 0)) + float(r.get("width", 0))
        for r in svg.iter()
        if r.get("class") == "bin"
    ]
    assert places and all(LEFT <= x <= WIDTH - LEFT for x in places)


def test_names_that_begin_alike_are_told_apart() -> None:
    """Two baselines of a representation's report were both "random weights"."""
    names = ["random weights", "random weights, batch norms fitted", "runs/simclr-of-nuclei"]
    svg = chart(
        "Spectrum", [Line(name, [0, 1], [0, n]) for n, name in enumerate(names)], x_label="x"
    )
    shown = re.findall(r'class="name[^>]*>([^<]*)<', svg)
    assert sorted(shown) == ["random weights", "random … fitted", "runs/simclr-of…"]
