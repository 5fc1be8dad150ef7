"""Samplers of exp(-E): chains by Langevin's and Hamilton's equations."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Energy = Callable[[Tensor], Tensor]  # "n *d" -> "n"
Noise = Callable[[], Tensor]  # standard normal, as the state is shaped
Chance = Callable[[], Tensor]  # in [0, 1), one for each chain


def gradient(energy: Energy, x: Float[Tensor, "n *d"]) -> Float[Tensor, "n *d"]:
    """dE/dx of each chain; without gradient itself. What is not finite stays so to the end of the
    chain, and the loop stops on it, on all processes."""
    with torch.enable_grad():
        at = x.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(energy(at).sum(), at)
    return slope


def langevin(
    energy: Energy,
    x: Float[Tensor, "n *d"],
    noise: Noise,
    *,
    steps: int,
    step: float,
    deviation: float | None = None,
    clip: float | None = None,
    limits: tuple[float, float] | None = None,
    chance: Chance | None = None,
) -> Float[Tensor, "n *d"]:
    """x - step / 2 dE/dx + noise, so many times (Welling & Teh, Bayesian Learning via Stochastic
    Gradient Langevin Dynamics, 2011).

    deviation: of the noise; by default sqrt(step), with which exp(-E) is what long chains of small
        steps have. Less is usual where chains are short (Du & Mordatch, 2019)
    clip: largest part of a gradient that counts
    limits: what the state is kept within
    chance: accept or refuse each step so that exp(-E) is exact (Metropolis: MALA), for the default
        deviation without clip and limits
    """
    spread = step**0.5 if deviation is None else deviation
    for _ in range(steps):
        slope = gradient(energy, x)
        used = slope if clip is None else slope.clamp(-clip, clip)
        new = x - step / 2 * used + spread * noise()
        new = new if limits is None else new.clamp(*limits)
        if chance is not None:
            back = gradient(energy, new)
            there = _squared(new - x + step / 2 * slope) / (2 * step)
            again = _squared(x - new + step / 2 * back) / (2 * step)
            with torch.no_grad():
                risen = energy(new) - energy(x) + again - there
            new = _kept(new, x, chance().log() < -risen)
        x = new
    return x.detach()


def leapfrog(
    energy: Energy,
    x: Float[Tensor, "n *d"],
    momentum: Float[Tensor, "n *d"],
    *,
    steps: int,
    step: float,
) -> tuple[Float[Tensor, "n *d"], Float[Tensor, "n *d"]]:
    """Hamilton's equations of E + |momentum|^2 / 2, by leapfrogs (Neal, MCMC Using Hamiltonian
    Dynamics, 2011, eq. 2.28): where they end, and with which momentum. Reversible: from there with
    the momentum reversed they lead back."""
    momentum = momentum - step / 2 * gradient(energy, x)
    for i in range(steps):
        x = x + step * momentum
        momentum = momentum - (step if i < steps - 1 else step / 2) * gradient(energy, x)
    return x, momentum


def hmc(
    energy: Energy,
    x: Float[Tensor, "n *d"],
    noise: Noise,
    chance: Chance,
    *,
    rounds: int,
    leapfrogs: int,
    step: float,
) -> tuple[Float[Tensor, "n *d"], float]:
    """Hamiltonian Monte Carlo: the states after so many rounds, and the share of rounds that was
    accepted."""
    accepted, asked = 0, 0
    for _ in range(rounds):
        momentum = noise()
        with torch.no_grad():
            before = energy(x) + 0.5 * _squared(momentum)
        new, end = leapfrog(energy, x, momentum, steps=leapfrogs, step=step)
        with torch.no_grad():
            risen = energy(new) + 0.5 * _squared(end) - before
        good = chance().log() < -risen
        x = _kept(new, x, good)
        accepted, asked = accepted + int(good.sum()), asked + len(good)
    return x.detach(), accepted / max(asked, 1)


def _squared(x: Float[Tensor, "n *d"]) -> Float[Tensor, "n"]:
    return x.square().flatten(1).sum(1)


def _kept(
    new: Float[Tensor, "n *d"], old: Float[Tensor, "n *d"], good: Bool[Tensor, "n"]
) -> Float[Tensor, "n *d"]:
    return torch.where(good.view(-1, *(1 for _ in new.shape[1:])), new, old)
