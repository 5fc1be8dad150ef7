"""Ridge regression against the equations that define it."""

import numpy as np
import pytest
import torch

from genseg.core.ridge import ridge


@pytest.mark.parametrize(("rows", "features"), [(40, 5), (4, 9)])
@pytest.mark.parametrize("strength", [1e-4, 0.5])
def test_it_is_least_squares_with_a_penalty_in_further_rows(
    rows: int, features: int, strength: float
) -> None:
    """The penalty as further rows of the problem: sqrt(n lambda v) I -> 0, on centred data."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 2, (rows, features)), rng.normal(-1, 1, (rows, 3))
    weight, bias = ridge(torch.tensor(x), torch.tensor(y), strength=strength)
    a, b = x - x.mean(0), y - y.mean(0)
    root = np.sqrt(rows * strength * (a**2).mean())
    rows_more = np.concatenate([a, root * np.eye(features)])
    want = np.linalg.lstsq(rows_more, np.concatenate([b, np.zeros((features, 3))]), rcond=None)[0]
    np.testing.assert_allclose(weight.numpy(), want.T, atol=1e-9)
    np.testing.assert_allclose(bias.numpy(), y.mean(0) - want.T @ x.mean(0), atol=1e-9)


def test_a_scale_of_the_features_changes_no_prediction() -> None:
    x, y = torch.randn(30, 6), torch.randn(30, 2)
    once, twice = (ridge(k * x, y, strength=0.1) for k in (1.0, 8.0))
    made = [k * x.double() @ w.T + b for k, (w, b) in ((1.0, once), (8.0, twice))]
    torch.testing.assert_close(made[0], made[1])


def test_features_that_are_all_equal_give_the_mean() -> None:
    y = torch.randn(7, 2)
    weight, bias = ridge(torch.ones(7, 3), y, strength=0.1)
    assert not weight.any()
    torch.testing.assert_close(bias, y.double().mean(0))
