"""What becomes of the model's instances and of old proposals: two looks at an image, made by
hand."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from genseg.alpha.mine import MAGNIFIED, Mined, mine
from genseg.alpha.model import AlphaModel
from genseg.data.instances.instance import Instance, mirrored, resized

H, W = 80, 120
SURE = 0.5


class Looks(AlphaModel):
    """A model whose instances of the image, and of the mirrored and enlarged image, are given."""

    def __init__(self, first: Sequence[Instance], second: Sequence[Instance]) -> None:
        nn.Module.__init__(self)
        large = (round(H * MAGNIFIED), round(W * MAGNIFIED))
        seen = [resized(mirrored(a, W), (H, W), large) for a in second]
        self.looks = {(H, W): list(first), large: [a for a in seen if a is not None]}
        self.images: list[np.ndarray] = []

    def instances(self, image: np.ndarray) -> list[Instance]:
        self.images.append(image)
        return self.looks[image.shape[:2]]


def square(top: int, left: int, size: int = 20, score: float = 0.8) -> Instance:
    return Instance(np.full((size, size), 255, np.uint8), top, left, score)


IMAGE = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)


def mined(
    first: Sequence[Instance], second: Sequence[Instance], before: Sequence[Instance] = ()
) -> Mined:
    return mine(Looks(first, second), IMAGE, before, sure=SURE, doubtful=SURE, agreement=0.6)


def rows(found: Sequence[Instance]) -> list[tuple[int, int, float]]:
    return [(a.top, a.left, a.score) for a in found]


def test_the_second_look_is_mirrored_and_larger() -> None:
    model = Looks([], [])
    mine(model, IMAGE, [], sure=SURE, doubtful=SURE, agreement=0.6)
    small, large = model.images
    assert small is IMAGE and large.shape == (100, 150, 3)
    back = large[:, ::-1].reshape(20, 5, 30, 5, 3).mean((1, 3))
    np.testing.assert_allclose(back, IMAGE.reshape(20, 4, 30, 4, 3).mean((1, 3)), atol=25)


def test_confirmed_instances_keep_their_score_and_others_half_of_it() -> None:
    first = [square(8, 8, score=0.9), square(8, 60, score=0.8), square(48, 80, score=0.7)]
    second = [square(8, 8, score=0.3), square(8, 68, score=0.9)]  # the same; overlap 3/7; nothing
    assert rows(mined(first, second).proposals) == [(8, 8, 0.9), (8, 60, 0.4), (48, 80, 0.35)]


def test_what_is_doubted_is_never_pasted() -> None:
    """Where proposals are pasted from 0.1 on, half of 0.8 would be."""
    first, before = (
        [square(8, 60, score=0.8), square(48, 8, score=0.1)],
        [square(48, 80, score=1.0)],
    )
    found = mine(Looks(first, []), IMAGE, before, sure=0.1, doubtful=0.1, agreement=0.6).proposals
    assert [a.score for a in found] == pytest.approx([0.099, 0.05, 0.099])


@pytest.mark.parametrize(("moved", "score"), [(4, 0.8), (8, 0.4)])
def test_confirmed_is_an_overlap_of_the_agreement(moved: int, score: float) -> None:
    """Squares of 20 moved by 4 overlap by 16 / 24 = 0.67, by 8 by 12 / 28 = 0.43."""
    assert rows(mined([square(20, 20)], [square(20, 20 + moved)]).proposals) == [(20, 20, score)]


def test_old_proposals_are_replaced_where_they_were_overlapped_and_else_doubted() -> None:
    first = [square(8, 8, score=0.9)]
    before = [
        square(10, 10, score=0.6),
        square(8, 27, score=0.6),
        square(40, 8, score=0.6),
        square(8, 27, 40, 0.4),
    ]
    found = mined(first, first, before)  # overlapped by 81 %; by 5 %; not at all; by 1 %
    assert rows(found.proposals) == [(8, 8, 0.9), (8, 27, 0.3), (40, 8, 0.3), (8, 27, 0.2)]
    again = mined([], [], found.proposals[1:])
    assert rows(again.proposals) == [(8, 27, 0.15), (40, 8, 0.15), (8, 27, 0.1)]
    assert before[1].score == 0.6  # what was given is left alone


def test_nothing_found_leaves_the_old_proposals_at_half() -> None:
    assert rows(mined([], [], [square(8, 8)]).proposals) == [(8, 8, 0.4)]


@pytest.mark.parametrize("same", range(4))
@pytest.mark.parametrize("lost", range(3))
@pytest.mark.parametrize("new", range(3))
def test_agreement_is_right_over_right_and_wrong_ones(same: int, lost: int, new: int) -> None:
    """TP / (TP + FP + FN) of sure instances."""
    at = [square(4 + 24 * y, 4 + 24 * x, 16) for y, x in itertools.product(range(3), range(4))]
    common, first, second = at[:same], at[4 : 4 + lost], at[8 : 8 + new]
    unsure = [replace(at[-1], score=SURE - 0.01)]
    found = mined(common + first + unsure, common + second + unsure)
    total = same + lost + new
    assert found.agreement == (pytest.approx(same / total) if total else None)


def test_an_instance_that_the_second_look_is_not_sure_of_is_no_agreement() -> None:
    for one, two in ((0.51, 0.49), (0.49, 0.51)):
        assert mined([square(8, 8, score=one)], [square(8, 8, score=two)]).agreement == 0.0
    assert mined([square(8, 8, score=0.49)], [square(8, 8, score=0.49)]).agreement is None


def test_agreement_asks_for_an_overlap_of_three_quarters() -> None:
    assert mined([square(20, 20)], [square(20, 22)]).agreement == 1.0  # 18 / 22
    assert mined([square(20, 20)], [square(20, 24)]).agreement == 0.0  # 16 / 24
