"""Optimisers against their papers' formulas."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from genseg.core.schedule import Plan
from genseg.train.optim import LARS, OptimizerConfig, build_optimizer, lr_at


def official_lars(
    p: torch.Tensor,
    grads: list[torch.Tensor],
    *,
    lr: list[float],
    inside: bool,
    wd: float,
    m: float,
    eta: float,
) -> torch.Tensor:
    """The two published updates, one step a line (BYOL/SwAV: lr outside; SimCLR: lr inside the
    momentum)."""
    p, v = p.clone(), torch.zeros_like(p)
    for g, rate in zip(grads, lr, strict=True):
        if p.ndim > 1:
            g = g + wd * p
            g = g * eta * p.norm() / g.norm()
        v = m * v + (rate * g if inside else g)
        p = p - (v if inside else rate * v)
    return p


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("shape", [(4, 3), (3,)])
def test_lars_is_the_published_update(inside: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    start = torch.randn(shape, dtype=torch.float64)
    grads = [torch.randn(shape, dtype=torch.float64) for _ in range(5)]
    rates = [0.1, 0.4, 0.3, 0.2, 0.1]  # a changing rate tells the two forms apart
    p = nn.Parameter(start.clone())
    optimizer = LARS(
        [p], lr=0.0, momentum=0.9, weight_decay=0.01, trust=0.001, lr_in_momentum=inside
    )
    for g, rate in zip(grads, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        p.grad = g.clone()
        optimizer.step()
    want = official_lars(start, grads, lr=rates, inside=inside, wd=0.01, m=0.9, eta=0.001)
    torch.testing.assert_close(p.detach(), want)


def test_lars_leaves_zero_weights_able_to_move() -> None:
    p = nn.Parameter(torch.zeros(2, 2))
    optimizer = LARS([p], lr=1.0, momentum=0.0)
    p.grad = torch.ones(2, 2)
    optimizer.step()
    torch.testing.assert_close(p.detach(), -torch.ones(2, 2))  # no trust ratio for |p| = 0


def test_biases_and_norms_are_decayed_only_on_request() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    plan = Plan(images=10, batch=5, total=4)
    groups = build_optimizer(OptimizerConfig(weight_decay=0.1), module, plan).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.1), (3, 0.0)]
    groups = build_optimizer(
        OptimizerConfig(weight_decay=0.1, decay_all=True), module, plan
    ).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(4, 0.1)]


def test_parameters_without_gradient_are_left_out() -> None:
    module = nn.Linear(3, 4)
    module.bias.requires_grad_(False)
    groups = build_optimizer(
        OptimizerConfig(), module, Plan(images=10, batch=5, total=4)
    ).param_groups
    assert sum(len(g["params"]) for g in groups) == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"lr": -1.0}, "lr=-1: it has to be above 0"),
        ({"clip": math.nan}, "clip=nan: use 0 or more"),
        ({"betas": (0.9, 2.0)}, r"betas\[1\]=2: use 0 to 0.99999"),
    ],
)
def test_numbers_out_of_range_are_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        OptimizerConfig(**values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"name": "adamw", "momentum": 0.5},
            "momentum has no effect with name=adamw: leave it out or use sgd or lars",
        ),
        (
            {"name": "sgd", "betas": (0.9, 0.95)},
            "betas has no effect with name=sgd: leave it out or use adamw",
        ),
        (
            {"name": "sgd", "trust": 0.02},
            "trust has no effect with name=sgd: leave it out or use lars",
        ),
        (
            {"name": "lars", "decay_all": True},
            "decay_all has no effect with name=lars: leave it out or use sgd or",
        ),
    ],
)
def test_what_another_optimizer_alone_uses_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        OptimizerConfig(**values)


def test_learning_rate_warms_up_and_falls_to_its_end() -> None:
    config = OptimizerConfig(lr=0.2, scaling="linear", warmup="10 steps", final_lr=0.01)
    plan = Plan(images=5120, batch=512, total=100)
    rates = [lr_at(config, plan, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.04)
    assert rates[9] == pytest.approx(0.4) == pytest.approx(max(rates))
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))
    assert rates[55] == pytest.approx(0.4 * (0.01 + 0.99 / 2), rel=0.02)
    assert lr_at(config, plan, 100) == pytest.approx(0.004)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
@pytest.mark.parametrize("frozen", [0, 2])
def test_a_parameter_that_is_frozen_at_first_moves_afterwards(
    name: str, momentum: float, frozen: int
) -> None:
    """Against the optimiser that is not fused, to the bit where nothing is frozen."""

    def trained(fused: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        more = {} if name == "adamw" else {"momentum": momentum}
        config = OptimizerConfig(name=name, lr=0.1, weight_decay=0.1, **more)
        optimizer = build_optimizer(config, module, Plan(images=10, batch=5, total=8), fused=fused)
        start = module[1].weight.detach().clone()
        for step in range(6):
            module(torch.randn(5, 3)).square().sum().backward()
            if step < frozen:
                module[1].weight.grad = None
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            assert torch.equal(module[1].weight, start) == (step < frozen)
        saved = optimizer.state_dict()
        build_optimizer(
            config, module, Plan(images=10, batch=5, total=8), fused=fused
        ).load_state_dict(saved)
        return [p.detach() for p in module.parameters()]

    for got, want in zip(trained(True), trained(False), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
