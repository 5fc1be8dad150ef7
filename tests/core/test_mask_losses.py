"""Losses and overlaps of alpha maps against loops in float64, and their closed forms."""

import math

import pytest
import torch
from torch import Tensor

from genseg.core.mask_losses import balanced_cross_entropy, dice, focal, overlap


def draw(n: int = 5, p: int = 30) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(n, p, generator=g, dtype=torch.float64) * 3
    return logits, torch.rand(n, p, generator=g, dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def cross_entropy(x: float, a: float) -> float:
    return -a * math.log(sigmoid(x)) - (1 - a) * math.log(1 - sigmoid(x))


def test_dice_is_the_loop() -> None:
    logits, alpha = draw()
    for got, row, truth in zip(dice(logits, alpha), logits.tolist(), alpha.tolist(), strict=True):
        both = sum(sigmoid(x) * a for x, a in zip(row, truth, strict=True))
        each = sum(sigmoid(x) ** 2 for x in row) + sum(a * a for a in truth)
        assert float(got) == pytest.approx(1 - (2 * both + 1) / (each + 1), abs=1e-12)


def test_dice_of_hard_maps() -> None:
    """Equal ones give 0, disjoint ones 1 - 1 / (both areas + 1), and nothing against nothing 0."""
    maps = torch.tensor(
        [[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0]], dtype=torch.float64
    )
    sure = (maps * 2 - 1) * 60
    torch.testing.assert_close(dice(sure, maps), torch.zeros(3, dtype=torch.float64))
    assert float(dice(sure[:1], maps[1:2])) == pytest.approx(1 - 1 / 6)
    assert float(dice(sure[:1], maps[2:])) == pytest.approx(1 - 1 / 4)


def test_balanced_cross_entropy_is_the_loop() -> None:
    logits, alpha = draw()
    for got, row, truth in zip(
        balanced_cross_entropy(logits, alpha), logits.tolist(), alpha.tolist(), strict=True
    ):
        each = [cross_entropy(x, a) for x, a in zip(row, truth, strict=True)]
        inside = sum(a * e for a, e in zip(truth, each, strict=True)) / sum(truth)
        outside = sum((1 - a) * e for a, e in zip(truth, each, strict=True)) / (
            len(truth) - sum(truth)
        )
        assert float(got) == pytest.approx((inside + outside) / 2, abs=1e-12)


def test_a_small_instance_weighs_as_a_large_one() -> None:
    """Logits of 0 cost ln 2 whatever the size, and half of it falls on the instance alone."""
    alpha = torch.zeros(2, 100, dtype=torch.float64)
    alpha[0, :1], alpha[1, :70] = 1, 1
    unsure, missed = torch.zeros_like(alpha), torch.where(alpha > 0, 0.0, -60.0).double()
    for logits, want in ((unsure, math.log(2)), (missed, math.log(2) / 2)):
        assert balanced_cross_entropy(logits, alpha).tolist() == pytest.approx([want, want])


def test_an_empty_alpha_counts_by_the_rest_alone() -> None:
    logits = draw()[0]
    want = torch.tensor(
        [sum(cross_entropy(x, 0) for x in row) / len(row) / 2 for row in logits.tolist()]
    )
    torch.testing.assert_close(
        balanced_cross_entropy(logits, torch.zeros_like(logits)), want.double()
    )


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_focal_is_the_loop(gamma: float) -> None:
    logits = draw(1, 40)[0][0]
    target = (torch.arange(40) % 3 == 0).double()
    got = focal(logits, target, gamma=gamma, positive=0.3)
    for value, x, t in zip(got.tolist(), logits.tolist(), target.tolist(), strict=True):
        p = sigmoid(x) if t else 1 - sigmoid(x)
        assert value == pytest.approx(
            -(0.3 if t else 0.7) * (1 - p) ** gamma * math.log(p), abs=1e-12
        )


def test_focal_without_gamma_is_weighted_cross_entropy() -> None:
    logits = draw(1, 40)[0][0]
    target = (torch.arange(40) % 2).double()
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    torch.testing.assert_close(focal(logits, target, gamma=0.0, positive=0.5), plain / 2)
    easy = focal(torch.tensor([6.0]), torch.tensor([1.0])) / focal(
        torch.tensor([6.0]), torch.tensor([1.0]), gamma=0.0
    )
    assert float(easy) == pytest.approx(sigmoid(-6) ** 2, rel=1e-4)


def loop_overlap(a: Tensor, b: Tensor) -> float:
    one, two = ({i for i, x in enumerate(m.tolist()) if x} for m in (a, b))
    return len(one & two) / len(one | two) if one | two else 0.0


def test_overlaps_are_those_of_sets() -> None:
    masks = (
        torch.rand(6, 20, generator=torch.Generator().manual_seed(1))
        < torch.linspace(0, 0.9, 6)[:, None]
    )
    assert not masks[0].any()  # one of them is empty
    others = masks.roll(1, 0)
    want = [loop_overlap(a, b) for a, b in zip(masks, others, strict=True)]
    torch.testing.assert_close(overlap(masks, others), torch.tensor(want))


def test_no_maps_give_no_values() -> None:
    none = torch.zeros(0, 7)
    for loss in (
        dice(none, none),
        balanced_cross_entropy(none, none),
        overlap(none.bool(), none.bool()),
    ):
        assert loss.shape == (0,)
    assert focal(none[:, 0], none[:, 0]).shape == (0,)
