"""Push and its samplers where the answer is known: a grid of spins whose 512 states are summed
exactly, and normal distributions."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from least import least
from torch import Tensor

from genseg.core.contrast import info_nce
from genseg.energies import sample
from genseg.energies.push import CONTRASTS, FLATTEST, flow, logistic

SPINS = 9
EDGES = [(i, i + 1) for i in range(SPINS) if i % 3 < 2] + [(i, i + 3) for i in range(SPINS - 3)]


class Grid:
    """All states of 3 x 3 spins with E = -features . theta, and the truth that states come from.

    flipped: which state each is, with one spin turned
    """

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(0)
        states = torch.tensor(
            list(itertools.product((0.0, 1.0), repeat=SPINS)), dtype=torch.float64
        )
        equal = torch.stack([(states[:, i] == states[:, j]).double() for i, j in EDGES], 1)
        self.features = torch.cat([states, equal], 1)
        self.truth = torch.cat(
            [
                0.5 * torch.randn(SPINS, generator=g, dtype=torch.float64),
                0.6 + 0.2 * torch.randn(len(EDGES), generator=g, dtype=torch.float64),
            ]
        )
        self.p = torch.softmax(-self.energy(self.truth), 0)
        number = torch.arange(len(states))
        self.flipped = torch.stack([number ^ (1 << (SPINS - 1 - i)) for i in range(SPINS)], 1)

    def energy(self, theta: Tensor) -> Tensor:
        return -self.features @ theta

    def pushed(self, contrast: Callable[[Tensor], Tensor], theta: Tensor) -> Tensor:
        """The mean contrast of a state that comes from the truth with all that one turn reaches."""
        energy = self.energy(theta)
        u = energy[:, None] - energy[self.flipped]
        return (self.p[:, None] * contrast(u.flatten()).view_as(u)).sum()


@pytest.fixture(scope="module")
def grid() -> Grid:
    return Grid()


@pytest.mark.parametrize("name", CONTRASTS)
def test_the_slope_of_a_contrast_is_0_at_the_truth(grid: Grid, name: str) -> None:
    theta = grid.truth.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(grid.pushed(CONTRASTS[name], theta), theta)
    assert float(slope.abs().max()) < 1e-10


@pytest.mark.parametrize("name", CONTRASTS)
def test_a_contrast_finds_the_truth(grid: Grid, name: str) -> None:
    found = least(lambda theta: grid.pushed(CONTRASTS[name], theta), torch.zeros_like(grid.truth))
    assert float((found - grid.truth).abs().max()) < 1e-4


@pytest.mark.parametrize("name", CONTRASTS)
def test_a_contrast_weighs_a_pair_seen_from_both_ends_alike(name: str) -> None:
    """f'(-u) = exp(-u) f'(u): why the minimum is at the truth."""
    u = torch.linspace(-5, 5, 101, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(CONTRASTS[name](u).sum(), u)
    torch.testing.assert_close(slope.flip(0), (-u).exp() * slope, atol=1e-9, rtol=1e-9)


def test_one_bad_pair_does_not_rule_the_flow() -> None:
    assert float(flow(torch.tensor([1e4]))) == pytest.approx(math.exp(FLATTEST / 2))


def test_noise_contrastive_estimation_finds_the_truth_and_log_z(grid: Grid) -> None:
    """log(1 + exp(E(a))) + log(1 + exp(-E(a'))), where E has the constant c and is measured from
    that of the noise, here one of all states alike."""
    states = len(grid.p)

    def loss(at: Tensor) -> Tensor:
        energy = grid.energy(at[:-1]) + at[-1] - math.log(states)
        return (grid.p * logistic(energy) + logistic(-energy) / states).sum() / 2

    found = least(loss, torch.zeros(len(grid.truth) + 1, dtype=torch.float64))
    assert float((found[:-1] - grid.truth).abs().max()) < 1e-4
    log_z = float((-grid.energy(grid.truth)).logsumexp(0))
    assert float(found[-1]) == pytest.approx(log_z, abs=1e-4)


def test_a_kernel_that_keeps_p_leaves_the_truth_alone(grid: Grid) -> None:
    """Contrastive divergence with one step of Gibbs at a random spin: E(a) - E(a') has no slope
    at the truth, and has one elsewhere."""

    def slope(theta: Tensor) -> Tensor:
        energy = grid.energy(theta)
        turned = torch.sigmoid(energy[:, None] - energy[grid.flipped]) / SPINS
        kernel = torch.zeros(len(grid.p), len(grid.p), dtype=torch.float64)
        kernel.scatter_(1, grid.flipped, turned)
        kernel += torch.diag(1 - kernel.sum(1))
        at = theta.clone().requires_grad_(True)
        true = grid.energy(at)
        (found,) = torch.autograd.grad((grid.p * (true - kernel @ true)).sum(), at)
        return found

    assert float(slope(grid.truth).abs().max()) < 1e-12
    assert float(slope(torch.zeros_like(grid.truth)).abs().max()) > 1e-3


class Normal:
    """A normal distribution in the plane, as an energy."""

    def __init__(self) -> None:
        root = torch.tensor([[1.2, 0.3], [-0.5, 0.7]], dtype=torch.float64)
        self.mean = torch.tensor([0.5, -1.0], dtype=torch.float64)
        self.covariance = root @ root.T
        self.precision = torch.linalg.inv(self.covariance)

    def __call__(self, x: Tensor) -> Tensor:
        away = x - self.mean
        return 0.5 * ((away @ self.precision) * away).sum(1)

    def error_of(self, x: Tensor) -> float:
        """How far the covariance of points is from it, in parts of one."""
        off = torch.cov(x.T) @ self.precision - torch.eye(2, dtype=torch.float64)
        return float(off.abs().max())


CHAINS = 4000


class Dice:
    """Random numbers for chains."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def normal(self) -> Tensor:
        return torch.randn(CHAINS, 2, generator=self.generator, dtype=torch.float64)

    def uniform(self) -> Tensor:
        return torch.rand(CHAINS, generator=self.generator, dtype=torch.float64)


def test_langevin_with_metropolis_draws_from_exp_minus_e() -> None:
    energy, dice = Normal(), Dice()
    start = torch.zeros(CHAINS, 2, dtype=torch.float64)
    end = sample.langevin(energy, start, dice.normal, steps=150, step=0.3, chance=dice.uniform)
    assert energy.error_of(end) < 0.2
    torch.testing.assert_close(end.mean(0), energy.mean, atol=0.1, rtol=0)


def test_metropolis_undoes_what_large_steps_do() -> None:
    """Without it a step of 1 has a covariance that is a quarter too large along the short axis."""
    energy, start = Normal(), torch.zeros(CHAINS, 2, dtype=torch.float64)
    step = 1.0
    dice = Dice()
    with_it = sample.langevin(energy, start, dice.normal, steps=150, step=step, chance=dice.uniform)
    without = sample.langevin(energy, start, dice.normal, steps=150, step=step)
    # of x - step / 2 P x + sqrt(step) z: the variance along each axis of P
    values, axes = torch.linalg.eigh(energy.precision)
    wanted = axes @ torch.diag(1 / (values * (1 - step * values / 4))) @ axes.T
    torch.testing.assert_close(torch.cov(without.T), wanted, atol=0.15, rtol=0.15)
    assert energy.error_of(with_it) < 0.2 < energy.error_of(without)


def test_hamiltonian_monte_carlo_draws_from_exp_minus_e() -> None:
    energy, dice = Normal(), Dice()
    start = torch.zeros(CHAINS, 2, dtype=torch.float64)
    end, accepted = sample.hmc(
        energy, start, dice.normal, dice.uniform, rounds=30, leapfrogs=8, step=0.2
    )
    assert energy.error_of(end) < 0.2
    torch.testing.assert_close(end.mean(0), energy.mean, atol=0.1, rtol=0)
    assert accepted > 0.6


def test_hamiltonian_monte_carlo_refuses_what_gains_energy() -> None:
    """Steps too large for the energy: all are refused, and the chains stay where they are."""
    energy, dice = Normal(), Dice()
    start = dice.normal()
    end, accepted = sample.hmc(
        energy, start, dice.normal, dice.uniform, rounds=2, leapfrogs=20, step=3.0
    )
    assert accepted < 0.01
    assert float((end == start).all(1).double().mean()) > 0.98


def quartic(x: Tensor) -> Tensor:
    """No normal distribution: a leapfrog of one turns its energy about."""
    return (0.25 * x.square().square() + 0.5 * x.square()).sum(1) + 0.3 * x[:, 0] * x[:, 1]


def test_leapfrogs_with_the_momentum_reversed_lead_back() -> None:
    dice = Dice()
    x, momentum = dice.normal(), dice.normal()
    there, end = sample.leapfrog(quartic, x, momentum, steps=20, step=0.1)
    assert float((there - x).abs().max()) > 0.5
    back, turned = sample.leapfrog(quartic, there, -end, steps=20, step=0.1)
    torch.testing.assert_close(back, x, atol=1e-6, rtol=0)
    torch.testing.assert_close(-turned, momentum, atol=1e-6, rtol=0)


def test_the_energy_error_of_leapfrogs_falls_with_the_square_of_the_step() -> None:
    dice = Dice()
    x, momentum = dice.normal(), dice.normal()
    errors = []
    for steps in (20, 40, 80):
        there, end = sample.leapfrog(quartic, x, momentum, steps=steps, step=1 / steps)
        risen = quartic(there) + 0.5 * end.square().sum(1)
        risen -= quartic(x) + 0.5 * momentum.square().sum(1)
        errors.append(float(risen.abs().mean()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def test_a_chain_that_leaves_the_finite_numbers_stays_there() -> None:
    """The loop sees it in the loss, on all processes."""
    x = torch.tensor([[0.5, 0.5], [torch.inf, 0.0]], dtype=torch.float64)

    def run(limits: tuple[float, float] | None) -> torch.Tensor:
        noise = lambda: torch.zeros_like(x)  # noqa: E731
        energy = lambda a: a.square().sum(1) - a.square().sum(1)  # noqa: E731
        return sample.langevin(energy, x, noise, steps=3, step=0.1, limits=limits)

    assert run(None)[0].isfinite().all() and not run(None)[1].isfinite().all()


def test_chains_stay_within_their_limits_and_obey_the_clip() -> None:
    x = torch.full((3, 2), 0.5)
    end = sample.langevin(
        lambda a: 100 * a.sum(1),
        x,
        lambda: torch.zeros(3, 2),
        steps=1,
        step=2.0,
        deviation=0.0,
        clip=0.25,
        limits=(0.0, 1.0),
    )
    torch.testing.assert_close(end, torch.full((3, 2), 0.25))
    end = sample.langevin(
        lambda a: 100 * a.sum(1),
        x,
        lambda: torch.zeros(3, 2),
        steps=1,
        step=2.0,
        limits=(0.0, 1.0),
    )
    assert not end.any()


def quantiles(count: int) -> Tensor:
    """As many points of the standard normal distribution, equally likely."""
    at = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    x = math.sqrt(2) * torch.erfinv(2 * at - 1)
    return x / x.square().mean().sqrt()


def test_an_adversary_with_entropy_ends_at_the_data_and_its_energy() -> None:
    """E(a) + max(0, m - E(a')) against E(a') - w log spread, for a quadratic E and a generator
    middle + spread z.

    Without the entropy E would end flat (Zhao et al., 2016, theorem 2), and tell nothing. With it
    the generator ends at exp(-E / w) (Grathwohl et al., 2020), and E's slope vanishes where both
    have the same moments: E / w is -log p of the data, and the generator draws them.
    """
    mean, spread, margin, entropy = 1.5, 0.6, 20.0, 0.5
    z = quantiles(64)
    data = mean + spread * z
    e = torch.tensor([0.1, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    g = torch.tensor([0.0, 0.0], dtype=torch.float64, requires_grad=True)

    def energy(x: Tensor, w: Tensor) -> Tensor:
        return w[0] * x.square() + w[1] * x + w[2]

    for _ in range(800):
        made = g[0] + g[1].exp() * z
        critic = (energy(data, e) + (margin - energy(made.detach(), e)).relu()).mean()
        maker = energy(made, e.detach()).mean() - entropy * g[1]
        slopes = torch.autograd.grad(critic, e) + torch.autograd.grad(maker, g)
        with torch.no_grad():
            e -= 0.1 * slopes[0]
            g -= 0.1 * slopes[1]
    assert float(g[0].detach()) == pytest.approx(mean, rel=0.1)
    assert float(g[1].detach().exp()) == pytest.approx(spread, rel=0.1)
    precision = 2 * float(e[0].detach()) / entropy
    assert precision == pytest.approx(1 / spread**2, rel=0.1)


def test_the_best_similarity_is_the_log_of_how_much_likelier_a_map_is_in_its_image() -> None:
    """InfoNCE against negatives drawn from p(a), over a table p(x, a) summed exactly:
    log p(a given x) / p(a), and for each x a constant."""
    g = torch.Generator().manual_seed(0)
    images, maps, temperature = 3, 4, 0.5
    table = torch.softmax(torch.randn(images * maps, generator=g, dtype=torch.float64), 0).view(
        images, maps
    )
    among = table.sum(0)
    # all ways to draw an image, its map and two negatives; the queue holds all maps twice
    x, a, first, second = torch.cartesian_prod(
        torch.arange(images), *(torch.arange(maps) for _ in range(3))
    ).T
    weight = table[x, a] * among[first] * among[second]
    negative = torch.cat([F.one_hot(first, maps), F.one_hot(second, maps)], 1).bool()
    query = F.one_hot(x, images).double()

    def loss(flat: Tensor) -> Tensor:
        code = flat.view(images, maps).T
        each = info_nce(
            query, code[a], torch.cat([code, code]), temperature=temperature, negative=negative
        )
        return (weight * each).sum()

    found = least(loss, torch.zeros(images * maps, dtype=torch.float64)).view(images, maps)
    wanted = (table / table.sum(1, keepdim=True) / among).log()
    off = found / temperature - wanted
    torch.testing.assert_close(off, off.mean(1, keepdim=True).expand_as(off), atol=1e-4, rtol=0)
