"""Linear probes: against scikit-learn's own steps, what they are blind to, and draws that all
encoders share."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import genseg.measure.linear as module
from genseg.measure.linear import STRENGTHS, draw_shots, few_shots, linear


def clusters(
    seed: int, n: int = 120, classes: int = 3, apart: float = 2.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features in 12 dimensions, of which the scales differ a thousandfold, around a centre for
    each class."""
    centres = np.random.default_rng(7).normal(size=(classes, 12)) * apart
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    y[:classes] = range(classes)
    x = (centres[y] + rng.normal(size=(n, 12)) * 2) * np.logspace(-1, 2, 12) + 5
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y)


def test_a_probe_of_a_strength_is_scikit_learn_s_pipeline() -> None:
    (x, y), (z, _) = clusters(0), clusters(1)
    steps = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    expected = steps.fit(x.numpy(), y.numpy()).predict(z.numpy())
    got = linear(x, y, z, strength=0.1).numpy()
    assert (got == expected).mean() > 0.99  # StandardScaler divides by n, torch by n - 1


def test_the_strength_is_the_best_on_what_is_held_out_of_train(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (x, y), (z, _) = clusters(0, n=60, apart=1.0), clusters(1, n=30, apart=1.0)
    tried, fit = [], module._fit

    def spy(
        a: np.ndarray, b: np.ndarray, strengths: tuple[float, ...], seed: int, c: np.ndarray
    ) -> list[np.ndarray]:
        found = fit(a, b, strengths, seed, c)
        tried.append((len(a), len(c), tuple(strengths), found))
        return found

    monkeypatch.setattr(module, "_fit", spy)
    linear(x, y, z)
    assert len(tried) == 2
    (n, held, strengths, _), (all_, asked, (chosen,), _) = tried
    assert (
        (n + held, all_, asked) == (60, 60, 30) and strengths == STRENGTHS and chosen in STRENGTHS
    )
    assert held == sum(round(0.2 * int((y == c).sum())) for c in range(3))


def test_scale_and_shift_of_features_do_not_matter() -> None:
    (x, y), (z, _) = clusters(0), clusters(1)
    assert torch.equal(linear(x, y, z), linear(x * 8 + 16, y, z * 8 + 16))
    constant = torch.full((len(x), 1), 3.0)
    wider = linear(torch.cat([x, constant], 1), y, torch.cat([z, constant[: len(z)] + 1e6], 1))
    # a feature without any spread in training says nothing
    assert torch.equal(linear(x, y, z), wider)


def test_clusters_are_told_apart_and_noise_is_not() -> None:
    (x, y), (z, w) = clusters(0, apart=4.0), clusters(1, apart=4.0)
    assert float((linear(x, y, z) == w).float().mean()) > 0.95
    shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    assert float((linear(x, shuffled, z) == w).float().mean()) < 0.6


def test_many_images_are_learnt_by_stochastic_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    (x, y), (z, w) = clusters(0, apart=4.0), clusters(1, apart=4.0)
    monkeypatch.setattr(module, "MOST_IMAGES", 50)
    got = linear(x, y, z)
    assert torch.equal(got, linear(x, y, z))  # seeded
    assert float((got == w).float().mean()) > 0.9


def test_one_class_is_told() -> None:
    x, _ = clusters(0)
    with pytest.raises(ValueError, match="needs two classes or more, the training images have 1"):
        linear(x, torch.zeros(len(x), dtype=torch.int64), x)


def test_draws_depend_on_labels_shots_and_seed_alone_and_grow() -> None:
    _, y = clusters(0)
    one, five = draw_shots(y, 1, 3), draw_shots(y, 5, 3)
    assert torch.equal(five, draw_shots(y, 5, 3)) and not torch.equal(five, draw_shots(y, 5, 4))
    assert y[five].bincount().tolist() == [5, 5, 5] and set(one.tolist()) <= set(five.tolist())
    with pytest.raises(
        ValueError, match="class 1 has 1 training images, fewer than 2 shots; ask for fewer"
    ):
        draw_shots(torch.tensor([0, 0, 1]), 2, 0)


def test_few_shots_are_a_probe_of_the_drawn_images() -> None:
    (x, y), (z, w) = clusters(0, apart=3.0), clusters(1, apart=3.0)
    got = few_shots(x, y, z, w, shots=4, seeds=3)
    mean, std = x.mean(0), x.std(0)
    for seed in range(3):
        drawn = draw_shots(y, 4, seed)
        model = LogisticRegression(C=1.0, max_iter=500).fit(
            ((x - mean) / std)[drawn].numpy(), y[drawn].numpy()
        )
        guess = model.predict(((z - mean) / std).numpy())
        recalls = [(guess == c)[w.numpy() == c].mean() for c in range(3)]
        assert got[seed] == pytest.approx(np.mean(recalls))
    assert (
        few_shots(x, y, z, w, shots=20, seeds=3).mean()
        > few_shots(x, y, z, w, shots=1, seeds=3).mean()
    )
