"""Ways to fail, each with an image that does and one that does not."""

import numpy as np
import pytest

from genseg.data.instances.instance import Instance
from genseg.show.failures import FAILURES, in_pieces

H, W = 40, 60
HOLDS = {f.name: f.holds for f in FAILURES}


def square(top: int, left: int, h: int = 8, w: int = 8) -> Instance:
    return Instance(np.full((h, w), 255, np.uint8), top, left)


def broken(share: int) -> Instance:
    """Two pieces, of `share` and of 20 - `share` pixels."""
    alpha = np.zeros((3, 20), np.uint8)
    alpha[0, :share] = 255
    alpha[2, : 20 - share] = 255
    return Instance(alpha, 10, 10)


@pytest.mark.parametrize(
    ("name", "does", "does_not"),
    [
        ("empty", [], [square(9, 9)]),
        ("one blob", [square(9, 9), square(0, 0, 40, 30)], [square(0, 0, 40, 29)]),
        (
            "border",
            [square(0, 9), square(9, 0), square(32, 9), square(9, 9)],
            [square(0, 9), square(9, 0)],
        ),
        (
            "border",
            [square(9, 52), square(0, 9), square(0, 30)],
            [square(0, 9), square(9, 0), square(32, 9)] + [square(9, 9)] * 3,
        ),
        ("fragments", [broken(10), broken(15), square(9, 9)], [broken(10), square(9, 9)]),
    ],
)
def test_an_image_is_in_the_group_or_not(
    name: str, does: list[Instance], does_not: list[Instance]
) -> None:
    assert HOLDS[name](does, H, W) is True
    assert HOLDS[name](does_not, H, W) is False


def test_a_mask_is_in_pieces_when_its_largest_holds_less_than_four_fifths() -> None:
    assert in_pieces(broken(15)) and not in_pieces(broken(16)) and not in_pieces(broken(20))
    faint = np.full((5, 5), 100, np.uint8)  # no mask
    assert not in_pieces(Instance(faint, 0, 0))


def test_touching_the_edge_counts_the_mask_and_not_the_window() -> None:
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2:6, 2:6] = 255
    assert HOLDS["border"]([Instance(alpha, 0, n) for n in (0, 20, 40)], H, W) is False
