"""R(h): what a code costs, and how a code is limited. Each prior takes the numbers that the encoder
gives and says which vector the decoder gets, and what that costs.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from genseg.core import dist
from genseg.energies.draws import Draws

LONGEST = 8.0  # |log variance| of the variational code


@dataclass(frozen=True)
class Coded:
    """What a prior makes of the encoder's numbers."""

    vector: Float[Tensor, "n d"]  # what the decoder gets
    cost: Float[Tensor, "n"]  # R(h)


class Prior(nn.Module, ABC):
    """d: how long the decoder's vector is."""

    outputs = 1  # numbers that the encoder gives, for each of the vector

    @abstractmethod
    def forward(
        self, numbers: Float[Tensor, "n k"], image: Int[Tensor, "n"], draws: Draws | None = None
    ) -> Coded:
        """draws: in training; without them nothing is random."""

    def sampled(
        self, near: Float[Tensor, "n d"], count: int, generator: torch.Generator
    ) -> Float[Tensor, "{count} d"]:
        """Vectors drawn from what the prior says of them; where it has no distribution of its own,
        from the normal one fitted to some known vectors."""
        return normal_around(near, count, generator)


def normal_around(
    x: Float[Tensor, "n d"], count: int, generator: torch.Generator
) -> Float[Tensor, "{count} d"]:
    """Of a normal distribution with the mean and the covariance (over n - 1) of some vectors:
    mean + sum_i z_i (x_i - mean) / sqrt(n - 1), z_i standard normal. Of a single one that
    itself."""
    mean = x.mean(0)
    z = torch.randn(count, len(x), generator=generator).to(x)
    return mean + z @ (x - mean) / math.sqrt(max(len(x) - 1, 1))


def centres_drawn(
    centres: Float[Tensor, "k d"], count: int, generator: torch.Generator
) -> Float[Tensor, "{count} d"]:
    """Some of the centres, each as likely as any other."""
    which = torch.randint(len(centres), (count,), generator=generator)
    return centres[which.to(centres.device)]


class NoPrior(Prior):
    """Codes are free."""

    def forward(
        self, numbers: Float[Tensor, "n k"], image: Int[Tensor, "n"], draws: Draws | None = None
    ) -> Coded:
        return Coded(numbers, torch.zeros_like(numbers[:, 0]))


class Laplace(Prior):
    """weight |h|_1: a sparse code (Ranzato et al., Efficient Learning of Sparse Representations
    with an Energy-Based Model, 2006). The decoder's weights need a norm, or h shrinks and they
    grow."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(
        self, numbers: Float[Tensor, "n k"], image: Int[Tensor, "n"], draws: Draws | None = None
    ) -> Coded:
        return Coded(numbers, self.weight * numbers.abs().sum(1))


class Normal(Prior):
    """KL(N(mean, variance) | N(0, I)), and in training a code drawn from it (Kingma & Welling,
    Auto-Encoding Variational Bayes, 2013, appendix B).

    free: nats of each number that cost nothing in training (Kingma et al., 2016, appendix C.8)
    """

    outputs = 2

    def __init__(self, free: float) -> None:
        super().__init__()
        self.free = free

    def forward(
        self, numbers: Float[Tensor, "n k"], image: Int[Tensor, "n"], draws: Draws | None = None
    ) -> Coded:
        mean, log_variance = numbers.chunk(2, 1)
        log_variance = log_variance.clamp(-LONGEST, LONGEST)
        nats = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
        if draws is None:
            return Coded(mean, nats.sum(1))
        noise = draws.normal(image, mean.shape[1])
        vector = mean + (0.5 * log_variance).exp() * noise
        return Coded(vector, nats.clamp_min(self.free).sum(1))

    def sampled(
        self, near: Float[Tensor, "n d"], count: int, generator: torch.Generator
    ) -> Float[Tensor, "{count} d"]:
        return torch.randn(count, near.shape[1], generator=generator).to(near)


class Saturating(Prior):
    """weight times the distance of each number from the flat part of the activation, here hardtanh,
    which is flat from -1 down and from 1 up (Goroshin & LeCun, Saturating Auto-Encoders, 2013)."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(
        self, numbers: Float[Tensor, "n k"], image: Int[Tensor, "n"], draws: Draws | None = None
    ) -> Coded:
        return Coded(F.hardtanh(numbers), self.weight * saturation(numbers).sum(1))


def saturation(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """How far each number is from where hardtanh is flat."""
    return (1 - x.abs()).relu()


def soft_threshold(x: Float[Tensor, "*n"], least: Tensor | float) -> Float[Tensor, "*n"]:
    """sign(x) max(|x| - least, 0)."""
    return x.sign() * (x.abs() - least).relu()


def fista(
    c: Float[Tensor, "n d"], atoms: Float[Tensor, "k d"], *, weight: float, steps: int
) -> Float[Tensor, "n k"]:
    """z of least |c - z atoms|^2 / 2 + weight |z|_1, by so many steps (Beck & Teboulle, A Fast
    Iterative Shrinkage-Thresholding Algorithm, 2009)."""
    size = 1 / torch.linalg.matrix_norm(atoms, 2).square()
    z = before = c.new_zeros(len(c), len(atoms))
    at, t = z, 1.0
    for _ in range(steps):
        z = soft_threshold(at - size * (at @ atoms - c) @ atoms.T, size * weight)
        t_next = (1 + math.sqrt(1 + 4 * t * t)) / 2
        at, before, t = z + (t - 1) / t_next * (z - before), z, t_next
    return z


def sparse_cost(
    c: Float[Tensor, "n d"],
    z: Float[Tensor, "n k"],
    atoms: Float[Tensor, "k d"],
    weight: float,
) -> Float[Tensor, "n"]:
    """|c - z atoms|^2 / 2 + weight |z|_1."""
    return 0.5 * (c - z @ atoms).square().sum(1) + weight * z.abs().sum(1)


class SparseCoding(Prior):
    """The code is written with few of many atoms of length one; the decoder gets what they add up
    to (Olshausen & Field, 1996)."""

    def __init__(self, code: int, *, atoms: int, weight: float, steps: int) -> None:
        super().__init__()
        self.weight, self.steps = weight, steps
        self.raw = nn.Parameter(torch.randn(atoms, code))

    @property
    def atoms(self) -> Float[Tensor, "k d"]:
        return F.normalize(self.raw, dim=1)

    def forward(
        self, numbers: Float[Tensor, "n k"], image: Int[Tensor, "n"], draws: Draws | None = None
    ) -> Coded:
        z = fista(numbers, self.atoms, weight=self.weight, steps=self.steps)
        return Coded(z @ self.atoms, sparse_cost(numbers, z, self.atoms, self.weight))


class Lista(SparseCoding):
    """The same by a network of a few steps z = soft(c W + z S, t), which begins as ISTA and is
    trained with the rest (Gregor & LeCun, Learning Fast Approximations of Sparse Coding, 2010)."""

    def __init__(self, code: int, *, atoms: int, weight: float, steps: int) -> None:
        super().__init__(code, atoms=atoms, weight=weight, steps=steps)
        with torch.no_grad():
            d = self.atoms
            size = 1 / torch.linalg.matrix_norm(d, 2).square()
            self.inputs = nn.Parameter(size * d.T)
            self.between = nn.Parameter(torch.eye(atoms) - size * d @ d.T)
            # not a float of Python: a file is read into a model that has no numbers yet
            self.least = nn.Parameter((size.double() * weight).to(size).expand(atoms).clone())

    def codes(self, c: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """z after the steps."""
        driven = c @ self.inputs
        z = soft_threshold(driven, self.least)
        for _ in range(self.steps - 1):
            z = soft_threshold(driven + z @ self.between, self.least)
        return z

    def forward(
        self, numbers: Float[Tensor, "n k"], image: Int[Tensor, "n"], draws: Draws | None = None
    ) -> Coded:
        z = self.codes(numbers)
        return Coded(z @ self.atoms, sparse_cost(numbers, z, self.atoms, self.weight))


class Quantised(Prior):
    """The nearest of k centres is the code; its squared distance is the cost. Centres are moving
    averages of what is near them, and one that nobody needs begins anew at a code of the batch
    (van den Oord et al., Neural Discrete Representation Learning, 2017, appendix A.1).

    commitment: weight of that distance for the encoder
    """

    DECAY, NEEDED = 0.99, 0.01  # of the averages; codes a step, below which a centre begins anew

    centres: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, code: int, *, centres: int, commitment: float) -> None:
        super().__init__()
        self.commitment = commitment
        self.register_buffer("centres", torch.randn(centres, code))
        self.register_buffer("counts", torch.zeros(centres))
        self.register_buffer("sums", torch.zeros(centres, code))

    def forward(
        self, numbers: Float[Tensor, "n k"], image: Int[Tensor, "n"], draws: Draws | None = None
    ) -> Coded:
        squared = squared_distances(numbers.detach(), self.centres)
        which = squared.argmin(1)
        centre = self.centres[which]
        if draws is not None:
            self._move(numbers.detach(), which)
        # the gradient passes the choice by
        vector = numbers + (centre - numbers).detach()
        return Coded(vector, self.commitment * (numbers - centre).square().sum(1))

    def sampled(
        self, near: Float[Tensor, "n d"], count: int, generator: torch.Generator
    ) -> Float[Tensor, "{count} d"]:
        return centres_drawn(self.centres, count, generator)

    @torch.no_grad()
    def _move(self, numbers: Float[Tensor, "n d"], which: Int[Tensor, "n"]) -> None:
        chosen = F.one_hot(which, len(self.centres)).to(numbers)
        # in place: the centres that this forward has used stay what they were for its backward
        self.counts.lerp_(dist.total(chosen.sum(0)), 1 - self.DECAY)
        self.sums.lerp_(dist.total(chosen.T @ numbers), 1 - self.DECAY)
        centres = self.sums / self.counts.clamp_min(1e-6)[:, None]
        unused = self.counts < self.NEEDED
        if bool(unused.any()) and len(everyone := _of_all(numbers)):
            new = everyone[torch.arange(len(centres), device=numbers.device) % len(everyone)]
            centres[unused] = new[unused]
            self.counts[unused], self.sums[unused] = 1.0, new[unused]
        self.centres = centres


def _of_all(x: Float[Tensor, "n d"]) -> Float[Tensor, "m d"]:
    """The rows of all processes, of which each may have another number."""
    rows = torch.zeros(dist.world(), dtype=torch.long, device=x.device)
    rows[dist.rank()] = len(x)
    counts = dist.total(rows).tolist()
    padded = F.pad(x, (0, 0, 0, max(counts) - len(x)))
    parts = dist.gather_constant(padded).view(dist.world(), max(counts), x.shape[1])
    return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])


def squared_distances(a: Float[Tensor, "n d"], b: Float[Tensor, "k d"]) -> Float[Tensor, "n k"]:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
