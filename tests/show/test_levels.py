"""Values as colours, bars and planes: their order, and what is not finite."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from genseg.show.draw import close_up, square_around
from genseg.show.levels import ANCHORS, GREY, Level, levels, ordered, parts_of, plane, shade, signed

PIXELS = np.zeros((8, 8, 3), np.uint8)


def test_colours_go_from_the_first_anchor_to_the_last() -> None:
    rgb = [tuple(int(shade(p)[k : k + 2], 16) for k in (1, 3, 5)) for p in (-1, 0, 0.5, 1, 2)]
    assert rgb == [ANCHORS[0], ANCHORS[0], ANCHORS[2], ANCHORS[-1], ANCHORS[-1]]
    assert shade(math.nan) == shade(math.inf) == GREY


def test_values_lie_between_the_lowest_and_the_highest() -> None:
    parts = parts_of([2.0, math.nan, -1.0, 5.0, math.inf])
    assert parts[:1] + parts[2:4] == [0.5, 0, 1] and math.isnan(parts[1]) and math.isnan(parts[4])
    assert parts_of([3.0, 3.0]) == [0, 0] and parts_of([]) == []
    assert parts_of([2.0], (0, 4)) == [0.5]


def test_a_row_says_words_values_and_bars() -> None:
    cells = [Level(PIXELS, v, f"<{v}>", "more", v < 0) for v in (4.0, -2.0, math.nan)]
    assert [c.value for c in ordered(cells)][:2] == [-2, 4]
    html = levels(ordered(cells), name="E")
    assert re.findall(r"width:(\d+)%", html) == ["4", "100", "0"]
    assert "E \N{MINUS SIGN}2<" in html and "E 4<" in html and "E not finite" in html
    assert html.count('class="marked"') == 1 and "&lt;4.0&gt;" in html and "<4.0>" not in html


@pytest.mark.parametrize(("value", "said"), [(-0.5, "\N{MINUS SIGN}0.5"), (12345, "12.3k")])
def test_values_have_a_true_minus(value: float, said: str) -> None:
    assert signed(value) == said


def test_a_plane_marks_its_middle_and_its_lowest() -> None:
    values = np.arange(25, dtype=float).reshape(5, 5)
    values[0, 0] = math.nan
    svg = plane("Land", values, low="a", high="b", across="right", down="down")
    tree = ElementTree.fromstring(svg)
    assert "12 in the middle, lowest 1, highest 24" in tree.attrib["aria-label"]
    cells = [e.attrib for e in tree.iter("rect")]
    assert len(cells) == 25 and cells[0]["fill"] == GREY and cells[24]["fill"] == shade(1)
    (ring,) = tree.iter("circle")
    assert float(ring.attrib["cx"]) == float(cells[1]["x"]) + 7
    nothing = plane("Land", np.full((3, 3), math.nan), low="", high="", across="", down="")
    assert "nothing is finite" in nothing and "circle" not in nothing


def test_a_close_up_shows_a_square_around_what_is_drawn() -> None:
    square = square_around([(10, 20, 20, 24)], 64, 64, margin=0.5)
    assert square == (5, 12, 20)
    assert square_around([(0, 60, 4, 64)], 64, 64, margin=1, least=16) == (0, 48, 16)
    assert square_around([(0, 0, 64, 9)], 64, 64, margin=1) == (0, 0, 64)
    alpha = np.zeros((32, 32), np.uint8)
    alpha[5:10, 10:12] = 255  # at half the resolution
    image = np.full((64, 64, 3), 90, np.uint8)
    drawn = close_up(image, alpha, square, side=80)
    assert drawn.shape == (80, 80, 3)
    y, x = (15 - 5) * 4, (22 - 12) * 4
    assert (drawn[y, x] != 90).all() and (drawn[2, 2] == 90).all() and (drawn[-3, -3] == 90).all()
