"""Spectrum, rank, independence and similarity against closed forms; the bootstrap against the
standard error of a mean."""

import math

import numpy as np
import pytest
import torch

from genseg.measure.representation.bootstrap import Estimate, bootstrap, mean_of
from genseg.measure.representation.independence import (
    correlation_of,
    off_diagonal,
    total_correlation,
)
from genseg.measure.representation.similarity import linear_cka
from genseg.measure.representation.spectrum import (
    effective_rank,
    entropy_rank,
    mean_squares,
    participation_ratio,
    spectrum,
    spectrum_exponent,
    variance_dimensions,
)


def normal(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_bootstrap_error_of_a_mean_is_its_standard_error() -> None:
    values = normal(400, 1)[:, 0] * 3 + 5
    expected = float(values.std(correction=0)) / 20
    found = bootstrap(lambda i: {"mean": float(values[i].mean())}, 400, draws=2000)["mean"]
    assert found.value == pytest.approx(float(values.mean()))
    assert found.error == pytest.approx(expected, rel=0.06)
    some = bootstrap(lambda i: {"mean": float(values[i].mean())}, 400, draws=2000, most=100)
    assert some["mean"].error == pytest.approx(expected, rel=0.06), "scaled from fewer images"
    assert mean_of(values, seed=1).error == pytest.approx(expected, rel=0.2)
    assert mean_of(values, seed=1) == mean_of(values, seed=1)
    assert mean_of(torch.ones(5)) == Estimate(1.0, 0.0)


def test_a_spectrum_is_that_of_numpy() -> None:
    x = normal(50, 6) @ torch.diag(torch.arange(1.0, 7, dtype=torch.float64))
    wanted = np.linalg.eigvalsh(np.cov(x.numpy().T, bias=True))[::-1]
    np.testing.assert_allclose(spectrum(x).numpy(), wanted, rtol=1e-10)
    few = spectrum(x[:4])  # as many as images; one is lost by their mean
    wanted = np.linalg.eigvalsh(np.cov(x[:4].numpy().T, bias=True))[:-5:-1]
    np.testing.assert_allclose(few.numpy(), wanted, atol=1e-10)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_equal_variances_count_as_many_directions_as_they_are(k: int) -> None:
    v = torch.zeros(8, dtype=torch.float64)
    v[:k] = 2.5
    assert participation_ratio(v) == pytest.approx(k)
    assert entropy_rank(v) == pytest.approx(k, rel=1e-4)
    assert variance_dimensions(v) == math.ceil(0.95 * k)


def test_the_participation_ratio_of_a_known_spectrum() -> None:
    assert participation_ratio(torch.tensor([3.0, 1.0])) == pytest.approx(16 / 10)
    assert participation_ratio(torch.zeros(3).double()) == 0
    assert variance_dimensions(torch.tensor([90.0, 4.0, 3.0, 3.0])) == 3
    assert variance_dimensions(torch.tensor([95.0, 5.0])) == 1


def test_rank_of_features_is_that_of_their_second_moment() -> None:
    x = normal(60, 5) + 3
    assert entropy_rank(mean_squares(x).sqrt()) == pytest.approx(effective_rank(x), rel=1e-5)


@pytest.mark.parametrize(("alpha", "d"), [(0.0, 64), (1.0, 512), (2.5, 64), (1.3, 8)])
def test_the_exponent_of_a_power_law(alpha: float, d: int) -> None:
    v = 7 * torch.arange(1, d + 1, dtype=torch.float64) ** -alpha
    assert spectrum_exponent(v) == pytest.approx(alpha, abs=1e-9)


def test_the_exponent_is_the_weighted_slope_of_the_places_4_to_100() -> None:
    v = normal(1, 300).abs()[0].sort(descending=True).values
    k = np.arange(4, 101)
    wanted = np.polyfit(np.log(k), np.log(v.numpy()[3:100]), 1, w=np.sqrt(1 / k))[0]
    assert spectrum_exponent(v) == pytest.approx(-wanted, rel=1e-9)
    assert math.isnan(spectrum_exponent(torch.tensor([1.0, 0.0, 0.0, 0.0])))


def test_correlations_of_two_and_of_more() -> None:
    a = torch.tensor([1.0, -1, 1, -1]).double()
    b = torch.tensor([1.0, -1, 1, 1]).double()
    r = correlation_of(torch.stack([a, 7 * b + 3, torch.ones(4).double()], 1))
    assert r.shape == (2, 2), "a dimension that does not vary has none"
    wanted = np.corrcoef(a, b)
    np.testing.assert_allclose(r, wanted)
    assert off_diagonal(r) == pytest.approx(wanted[0, 1])
    assert math.isnan(off_diagonal(torch.eye(1)))
    many = torch.full((4, 4), -0.2).fill_diagonal_(1)
    assert off_diagonal(many) == pytest.approx(0.2)


@pytest.mark.parametrize("r", [0.0, 0.6, 0.95])
def test_the_total_correlation_of_two_gaussians(r: float) -> None:
    """-1/2 log(1 - r^2), for many images."""
    matrix = torch.tensor([[1.0, r], [r, 1.0]])
    wanted = -0.5 * math.log(1 - r * r)
    assert total_correlation(matrix, 10**7) == pytest.approx(wanted, abs=1e-6)


def test_independent_gaussians_have_a_total_correlation_of_zero_on_average() -> None:
    """Also where there are hardly more images than dimensions."""
    n, d = 40, 20
    found = [total_correlation(correlation_of(normal(n, d, seed)), n) for seed in range(300)]
    error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found)) < 4 * error and error < 0.2
    assert math.isnan(total_correlation(torch.eye(20), 20))


def test_cka_does_not_see_rotations_shifts_and_scales() -> None:
    x = normal(80, 6)
    q = torch.linalg.qr(normal(6, 6, 1)).Q
    assert linear_cka(x, 3 * x @ q + 5) == pytest.approx(1)
    y = x @ normal(6, 9, 2) + normal(80, 9, 3)
    assert linear_cka(x, y) == pytest.approx(linear_cka(y @ torch.eye(9).double(), x))
    # by the definition of HSIC with centred kernels
    h = torch.eye(80).double() - 1 / 80
    k, m = h @ (x @ x.T) @ h, h @ (y @ y.T) @ h
    wanted = float((k * m).sum() / (k.norm() * m.norm()))
    assert linear_cka(x, y) == pytest.approx(wanted)
    assert math.isnan(linear_cka(x, torch.ones(80, 2)))
    wide = normal(5, 30)  # by kernels, where images are fewer than dimensions
    centred = wide - wide.mean(0)
    q = torch.linalg.qr(normal(30, 30, 1)).Q
    assert linear_cka(wide, centred @ q) == pytest.approx(1)


def test_cka_of_orthogonal_parts_is_zero() -> None:
    x = torch.linalg.qr(normal(50, 7) - normal(50, 7).mean(0)).Q
    x = torch.linalg.qr(torch.cat([torch.ones(50, 1).double(), x], 1)).Q[:, 1:]
    assert linear_cka(x[:, :3], x[:, 3:]) == pytest.approx(0, abs=1e-12)
    assert linear_cka(x[:, :4], x[:, :2]) == pytest.approx(2 / math.sqrt(8))
