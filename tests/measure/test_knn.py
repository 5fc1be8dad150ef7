"""kNN against a loop; accuracies against their definitions."""

import math

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from genseg.measure.knn import accuracy, knn
from genseg.measure.representation.collapse import spread, verdict
from genseg.measure.representation.spectrum import effective_rank


def test_knn_equals_a_loop_over_images_and_neighbours() -> None:
    g = torch.Generator().manual_seed(0)
    train, test = torch.randn(30, 5, generator=g), torch.randn(7, 5, generator=g)
    labels = torch.randint(0, 4, (30,), generator=g)
    got = knn(train, labels, test, k=6, temperature=0.1)
    for i in range(7):
        cosines = torch.cosine_similarity(train, test[i][None], dim=1)
        votes = [0.0] * 4
        for j in cosines.argsort(descending=True)[:6]:
            votes[int(labels[j])] += math.exp(float(cosines[j]) / 0.1)
        assert int(got[i]) == votes.index(max(votes))


def test_knn_with_fewer_images_than_neighbours() -> None:
    x = torch.eye(3)
    assert knn(x, torch.tensor([0, 1, 2]), x, k=20).tolist() == [0, 1, 2]


def test_leaving_one_out_equals_asking_each_image_of_all_others() -> None:
    g = torch.Generator().manual_seed(0)
    x, labels = torch.randn(1100, 4, generator=g), torch.randint(0, 3, (1100,), generator=g)
    got = knn(x, labels, x, k=5, leave_one_out=True)
    for i in (0, 1, 1023, 1024, 1099):
        rest = torch.arange(1100) != i
        assert int(got[i]) == int(knn(x[rest], labels[rest], x[i : i + 1], k=5)[0])


def test_balanced_accuracy_is_the_mean_recall() -> None:
    labels, predicted = torch.tensor([0, 0, 0, 0, 2, 2]), torch.tensor([0, 0, 0, 2, 2, 0])
    got = accuracy(predicted, labels)
    assert got.top1 == pytest.approx(4 / 6)
    assert (
        got.balanced
        == pytest.approx(balanced_accuracy_score(labels, predicted))
        == pytest.approx((0.75 + 0.5) / 2)
    )


def test_spread_is_one_on_the_sphere_and_zero_when_collapsed() -> None:
    g = torch.Generator().manual_seed(0)
    assert spread(torch.randn(4000, 32, generator=g)) == pytest.approx(1.0, abs=0.02)
    assert spread(torch.ones(10, 32)) == pytest.approx(0.0, abs=1e-6)


def test_effective_rank_counts_equal_directions() -> None:
    assert effective_rank(torch.eye(8)) == pytest.approx(8.0, abs=1e-3)
    assert effective_rank(torch.ones(8, 8)) == pytest.approx(1.0, abs=1e-3)


def test_the_verdict_speaks_of_collapse_and_of_the_trivial_loss_only() -> None:
    healthy = {
        "loss": 3.0,
        "trivial": 6.0,
        "spread": 0.9,
        "rank": 40.0,
        "progress": 0.5,
        "temperature": False,
    }
    assert verdict(**healthy) is None
    assert "collapsed" in str(verdict(**{**healthy, "spread": 0.01}))
    stuck = {**healthy, "loss": 5.99}
    assert str(verdict(**stuck)).endswith("Raise the learning rate, or weaken the views.")
    assert "the learning rate, lower method.temperature, or" in str(
        verdict(**{**stuck, "temperature": True})
    )
    assert verdict(**{**healthy, "loss": 5.99, "progress": 0.05}) is None
