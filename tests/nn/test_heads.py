"""Heads as the papers have them, and whitening beside its closed form."""

import numpy as np
import pytest
import torch

from genseg.nn.heads import Whitening, mlp


def test_heads_have_the_papers_biases_and_norms() -> None:
    simclr = mlp(8, 16, 4, hidden_bias=False, last_bias=False, head="mlp_bn")
    assert [type(m).__name__ for m in simclr] == [
        "Linear",
        "BatchNorm1d",
        "ReLU",
        "Linear",
        "BatchNorm1d",
    ]
    assert simclr[0].bias is None and simclr[3].bias is None and not simclr[4].bias.requires_grad
    byol = mlp(8, 16, 4, last_bias=False)
    assert byol[0].bias is not None and byol[3].bias is None
    assert [type(m).__name__ for m in mlp(8, 8, 4, norm=False)] == ["Linear", "ReLU", "Linear"]
    assert [type(m).__name__ for m in mlp(8, 4, head="mlp_whiten")] == [
        "Linear",
        "BatchNorm1d",
        "Whitening",
    ]


def correlated(n: int, d: int) -> torch.Tensor:
    """Numbers with means and correlations, of a covariance whose condition is 10."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return torch.tensor(
        rng.normal(size=(n, d)) * np.geomspace(1, 10**0.5, d) @ turn + rng.normal(size=d)
    ).float()


def test_whitening_tends_to_the_inverse_root_of_the_covariance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = correlated(500, 6)
    values, vectors = np.linalg.eigh(np.cov(x.double().numpy().T))
    want = (x - x.mean(0)).double().numpy() @ (vectors / np.sqrt(values)) @ vectors.T
    eight = np.abs(Whitening()(x).numpy() - want).max()
    monkeypatch.setattr(Whitening, "ITERATIONS", 5)
    five = np.abs(Whitening()(x).numpy() - want).max()
    monkeypatch.setattr(Whitening, "ITERATIONS", 12)
    monkeypatch.setattr(Whitening, "RIDGE", 0.0)
    np.testing.assert_allclose(Whitening()(x.double()).numpy(), want, atol=1e-6)
    assert eight < 0.01 < five < 0.3


def test_whitening_leaves_what_varies_little_and_stands_for_fewer_images_than_dimensions() -> None:
    x = correlated(500, 6) * torch.tensor((1.0, 1, 1, 1, 1, 1e-4))
    spread = Whitening()(x).std(0)
    assert (spread[:5] > 0.9).all() and spread[5] < 0.01
    assert (
        Whitening()(correlated(3, 6)).isfinite().all()
        and Whitening()(torch.ones(1, 6)).isfinite().all()
    )


def test_whitening_stays_exact_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newton's iterations in one product went to 655 after 12 and to nan after 15."""
    rng = np.random.default_rng(0)
    x = torch.tensor(
        rng.normal(size=(256, 128))
        * np.geomspace(1, 1e-3, 128)
        @ np.linalg.qr(rng.normal(size=(128, 128)))[0]
    )
    for iterations in (Whitening.ITERATIONS, 20):
        monkeypatch.setattr(Whitening, "ITERATIONS", iterations)
        torch.testing.assert_close(
            Whitening()(x.float()), Whitening()(x).float(), atol=5e-3, rtol=0
        )


def test_whitening_has_its_gradient_and_full_precision_in_autocast() -> None:
    x = correlated(8, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(Whitening(), x)
    x = correlated(8, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = Whitening()(x)
    assert torch.equal(got, Whitening()(x))
