"""Slope, denoising and masking where the answer is known: normal distributions, linear maps and one
layer."""

from collections.abc import Callable

import pytest
import torch
from least import least, relative
from torch import Tensor

from genseg.energies.slope import denoising_score, sliced_score, squared_slope

POINTS = 4000
Energy = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module")
def points() -> Tensor:
    """Of a normal distribution in the plane."""
    root = torch.tensor([[1.2, 0.3], [-0.5, 0.7]], dtype=torch.float64)
    return normal(0, 2) @ root.T + torch.tensor([0.5, -1.0], dtype=torch.float64)


def normal(seed: int, *shape: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(POINTS, *shape, generator=g, dtype=torch.float64)


def covariance(x: Tensor) -> Tensor:
    return torch.cov(x.T, correction=0)


def fitted(loss: Callable[[Energy], Tensor]) -> tuple[Tensor, Tensor]:
    """Precision and mean of the quadratic energy for which a loss is least."""

    def energy(at: Tensor) -> Energy:
        return lambda x: 0.5 * ((x - at[4:]) @ at[:4].view(2, 2)).square().sum(1)

    start = torch.tensor([1.0, 0, 0, 1, 0, 0], dtype=torch.float64)
    found = least(lambda at: loss(energy(at)), start, steps=100)
    root = found[:4].view(2, 2)
    return root @ root.T, found[4:]


@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_denoising_scores_find_the_precision_of_the_data_with_noise(
    points: Tensor, spread: float
) -> None:
    noise = normal(1, 2)
    found, mean = fitted(lambda e: denoising_score(e, points, spread, noise).mean())
    wanted = torch.linalg.inv(covariance(points) + spread**2 * torch.eye(2))
    assert relative(found, wanted) < 0.1
    torch.testing.assert_close(mean, points.mean(0), atol=0.1, rtol=0)


def test_sliced_scores_find_the_precision_of_the_data(points: Tensor) -> None:
    sign = normal(1, 2).sign()
    found, mean = fitted(lambda e: sliced_score(e, points, sign).mean())
    assert relative(found, torch.linalg.inv(covariance(points))) < 0.1
    torch.testing.assert_close(mean, points.mean(0), atol=0.1, rtol=0)


def test_sliced_scores_over_all_signs_find_the_precision_exactly(points: Tensor) -> None:
    """Their mean is Hyvarinen's objective."""
    some = points[:500]
    signs = [torch.tensor([1.0, s], dtype=torch.float64).expand(len(some), 2) for s in (1, -1)]
    found, mean = fitted(lambda e: torch.stack([sliced_score(e, some, v) for v in signs]).mean())
    assert relative(found, torch.linalg.inv(covariance(some))) < 1e-6
    torch.testing.assert_close(mean, some.mean(0), atol=1e-6, rtol=0)


def test_the_squared_slope_of_a_sigmoid_layer_is_its_closed_form() -> None:
    """sum_i (h_i (1 - h_i))^2 |W_i|^2, by the products with each number of the code, and by those
    with noise."""
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(12, 16, generator=g, dtype=torch.float64)
    a = torch.randn(1, 16, generator=g, dtype=torch.float64)
    h = (a @ weight.T).sigmoid()[0]
    wanted = float(((h * (1 - h)) ** 2 * weight.square().sum(1)).sum())

    def found(noise: Tensor) -> Tensor:
        x = a.expand(len(noise), -1).clone().requires_grad_(True)
        return squared_slope((x @ weight.T).sigmoid(), x, noise).detach()

    assert float(found(torch.eye(12, dtype=torch.float64)).sum()) == pytest.approx(
        wanted, abs=1e-10
    )
    noise = torch.randn(20000, 12, generator=g, dtype=torch.float64)
    assert float(found(noise).mean()) == pytest.approx(wanted, rel=0.05)


def test_the_squared_slope_can_be_trained() -> None:
    weight = torch.ones(2, 3, requires_grad=True)
    x = torch.ones(1, 3, requires_grad=True)
    squared_slope(x @ weight.T, x, torch.tensor([[1.0, 2.0]])).sum().backward()
    # |noise W|^2 = 3 (w_1 + 2 w_2)^2 for equal columns
    torch.testing.assert_close(weight.grad, torch.tensor([[6.0] * 3, [12.0] * 3]))


def test_the_best_linear_denoiser_shrinks_by_the_share_of_the_data(points: Tensor) -> None:
    """C (C + s^2)^-1: and its step, over s^2, is the slope of log p of the noisy data, which is
    what `denoising_score` finds too (Alain & Bengio, 2014)."""
    spread, noise = 0.5, normal(1, 2)
    clean = points - points.mean(0)
    corrupt = clean + spread * noise
    gain = least(
        lambda at: (corrupt @ at.view(2, 2).T - clean).square().sum(1).mean(),
        torch.zeros(4, dtype=torch.float64),
    ).view(2, 2)
    c, eye = covariance(points), torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(gain, c @ torch.linalg.inv(c + spread**2 * eye), atol=0.03, rtol=0)
    precision, _ = fitted(lambda e: denoising_score(e, points, spread, noise).mean())
    assert relative((eye - gain) / spread**2, precision) < 0.05


def test_the_best_guess_of_a_hidden_half_is_its_mean_given_the_other() -> None:
    """S_ba S_aa^-1 a, of the halves a and b."""
    root = torch.randn(4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x = normal(0, 4) @ root.T
    shown, hidden = x[:, :2], x[:, 2:]
    found = least(
        lambda at: (shown @ at.view(2, 2).T - hidden).square().sum(1).mean(),
        torch.zeros(4, dtype=torch.float64),
    ).view(2, 2)
    true = root @ root.T
    assert relative(found, true[2:, :2] @ torch.linalg.inv(true[:2, :2])) < 0.05
