"""Confusion and IoU: against loops and scikit-learn, added over parts, at the edges."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score

from genseg.measure.semantic import confusion, iou, mean_iou, pixel_accuracy


def maps(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Found and true maps of classes 0, 1 and 3 of five, a tenth of the true ones ignored; class 4
    is only found."""
    rng = np.random.default_rng(seed)
    target = rng.choice([0, 1, 3], (3, 17, 13))
    found = np.where(rng.random(target.shape) < 0.7, target, rng.choice([0, 1, 3, 4], target.shape))
    target[rng.random(target.shape) < 0.1] = 255
    return torch.from_numpy(found), torch.from_numpy(target)


@pytest.mark.parametrize("seed", range(3))
def test_against_loops_and_scikit_learn(seed: int) -> None:
    found, target = maps(seed)
    matrix = confusion(found, target, 5)
    naive = np.zeros((5, 5), int)
    for f, t in zip(found.ravel().tolist(), target.ravel().tolist(), strict=True):
        if t != 255:
            naive[t, f] += 1
    assert matrix.tolist() == naive.tolist()
    kept = target != 255
    true, said = target[kept].numpy(), found[kept].numpy()
    assert matrix.tolist() == confusion_matrix(true, said, labels=range(5)).tolist()
    expected = jaccard_score(true, said, labels=[0, 1, 3, 4], average=None)
    assert iou(matrix)[[0, 1, 3, 4]].tolist() == pytest.approx(expected)
    assert math.isnan(iou(matrix)[2]) and mean_iou(matrix) == pytest.approx(expected.mean())
    assert pixel_accuracy(matrix) == pytest.approx((true == said).mean())


def test_parts_add_up() -> None:
    found, target = maps(3)
    parts = sum(confusion(f, t, 5) for f, t in zip(found, target, strict=True))
    assert torch.equal(parts, confusion(found, target, 5))


def test_perfect_nothing_and_ignored() -> None:
    _, target = maps(4)
    perfect = confusion(target.clamp(max=4), target, 5)
    assert mean_iou(perfect) == pixel_accuracy(perfect) == 1
    nothing = confusion(target.clamp(max=4), torch.full_like(target, 255), 5)
    assert (
        nothing.sum() == 0 and math.isnan(mean_iou(nothing)) and math.isnan(pixel_accuracy(nothing))
    )


def test_classes_beyond_are_told() -> None:
    with pytest.raises(ValueError, match="target has classes from 0 to 7; there are 0 to 4"):
        confusion(torch.tensor([0, 1]), torch.tensor([0, 7]), 5)
    with pytest.raises(ValueError, match="found has classes from -1 to 1"):
        confusion(torch.tensor([-1, 1]), torch.tensor([0, 1]), 5)
