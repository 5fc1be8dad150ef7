"""Priors where the answer is known: closed forms, scipy, scikit-learn, and integrals that are 1."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from least import least
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.decomposition import sparse_encode
from torch import Tensor

from genseg.energies import fitted, priors

GRID = torch.linspace(-14, 14, 561, dtype=torch.float64)
PLANE = torch.cartesian_prod(GRID, GRID)
CELL = float((GRID[1] - GRID[0]) ** 2)


def normal(*shape: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def volume(prior: fitted.Fitted) -> float:
    """The integral of exp(-E) over the plane."""
    return float((-prior.density(PLANE)).exp().sum()) * CELL


# fitted


def test_pca_is_the_density_of_probabilistic_pca() -> None:
    """Of Tipping & Bishop's covariance: W W^T + s^2, s^2 the mean variance that is left."""
    h = normal(500, 5) * torch.tensor([3.0, 2.0, 0.5, 0.4, 0.3]) @ normal(5, 5, seed=1)
    prior = fitted.PCA(5, components=2).double()
    prior.fit(h)
    values, axes = np.linalg.eigh(np.cov(h.numpy().T))
    left = values[:3].mean()
    root = axes[:, 3:] * np.sqrt(values[3:] - left)
    covariance = root @ root.T + left * np.eye(5)
    x = normal(50, 5, seed=2)
    wanted = -multivariate_normal(h.mean(0).numpy(), covariance).logpdf(x.numpy())
    torch.testing.assert_close(prior.density(x), torch.from_numpy(wanted))


def test_what_pca_calls_likely_has_a_volume_of_one() -> None:
    prior = fitted.PCA(2, components=1).double()
    prior.fit(normal(500, 2) @ torch.tensor([[1.5, 0.4], [0.0, 0.5]], dtype=torch.float64))
    assert volume(prior) == pytest.approx(1, abs=1e-3)


MANY = 40_000  # samples: a mean of them is right to a hundredth of a deviation or so


@pytest.mark.parametrize("kind", ["pca", "mixture", "square ica"])
def test_samples_of_a_fit_have_the_probability_that_it_says(kind: str) -> None:
    """As many as exp(-E) sums to, on each of the 16 pieces of the plane."""
    g = torch.Generator().manual_seed(3)
    h = normal(400, 2) @ torch.tensor([[1.5, 0.4], [0.0, 0.5]], dtype=torch.float64)
    h[::4] += torch.tensor([4.0, -1.0])
    made: dict[str, fitted.Fitted] = {
        "pca": fitted.PCA(2, components=1),
        "mixture": fitted.Mixture(2, components=3),
        "square ica": fitted.SquareICA(2),
    }
    prior = made[kind].double()
    prior.fit(h)

    def piece(x: Tensor) -> Tensor:
        """In which of 4 x 4 pieces, parted at -1, 1 and 3."""
        return torch.bucketize(
            x.contiguous(), torch.tensor([-1.0, 1.0, 3.0]).double()
        ) @ torch.tensor([4, 1])

    wanted = torch.zeros(16).double()
    wanted.index_add_(0, piece(PLANE), (-prior.density(PLANE)).exp() * CELL)
    found = torch.bincount(piece(prior.sampled(h, MANY, g)), minlength=16) / MANY
    torch.testing.assert_close(found.double(), wanted, atol=0.012, rtol=0)


def test_without_a_distribution_of_its_own_samples_are_as_what_is_known() -> None:
    """Mean and covariance of the vectors; of one alone it is that one."""
    g = torch.Generator().manual_seed(0)
    known = normal(5, 3) @ normal(3, 3, seed=1) + 2
    for prior in (priors.NoPrior(), fitted.PCA(3, components=1).double()):  # not fitted yet
        x = prior.sampled(known, MANY, g)
        torch.testing.assert_close(x.mean(0), known.mean(0), atol=0.05, rtol=0)
        torch.testing.assert_close(torch.cov(x.T), torch.cov(known.T), atol=0.1, rtol=0.03)
    assert (priors.NoPrior().sampled(known[:1], 4, g) == known[:1]).all()


def test_a_variational_code_is_standard_normal_and_a_quantised_one_is_a_centre() -> None:
    g = torch.Generator().manual_seed(0)
    x = priors.Normal(0.0).sampled(normal(2, 3) + 9, MANY, g)
    torch.testing.assert_close(torch.cov(x.T), torch.eye(3).double(), atol=0.03, rtol=0)
    quantised = priors.Quantised(3, centres=4, commitment=0.25).double()
    means = fitted.KMeans(3, centres=4).double()
    means.fit(normal(60, 3))
    for prior in (quantised, means):
        drawn = prior.sampled(normal(2, 3), 100, g)
        same = (drawn[:, None] == prior.centres).all(2)
        assert same.any(1).all() and same.any(0).all()


def plane(left: float) -> tuple[fitted.PCA, Tensor, Tensor]:
    """A fit to points around a plane in space, with a deviation of `left` from it; the centred
    points; and the two directions of most variance."""
    turned = torch.linalg.qr(normal(4, 4, seed=1))[0]
    h = normal(400, 4) * torch.tensor([1.5, 1.0, left, left]) @ turned.T
    h = h - h.mean(0)
    prior = fitted.PCA(4, components=2).double()
    prior.fit(h)
    return prior, h, torch.linalg.svd(h, full_matrices=False)[2][:2]


def test_pca_asks_for_the_distance_from_a_plane_where_little_variance_is_left() -> None:
    """-log p is |h - P P^T h|^2 / (2 s^2) and a constant, as s falls."""
    prior, h, axes = plane(1e-3)
    spread = float(torch.linalg.eigvalsh(torch.cov(h.T))[:2].mean())
    x = normal(50, 4, seed=2)
    apart = (x - x @ axes.T @ axes).square().sum(1)
    found = 2 * spread * (prior.density(x) - prior.constant)
    torch.testing.assert_close(found, apart, atol=1e-4, rtol=1e-4)


def test_that_plane_is_what_a_linear_autoencoder_learns() -> None:
    """Baldi & Hornik, 1989."""
    prior, h, axes = plane(0.3)

    def error(at: Tensor, x: Tensor) -> Tensor:
        """Of the autoencoder x A B."""
        return (x - x @ at[:8].view(4, 2) @ at[8:].view(2, 4)).square().sum(1)

    learnt = least(lambda at: error(at, h).mean(), 0.5 * normal(16, seed=3), steps=200)
    x = normal(50, 4, seed=2)
    apart = (x - x @ axes.T @ axes).square().sum(1)
    torch.testing.assert_close(error(learnt, x), apart, atol=1e-4, rtol=1e-4)
    # and beyond it the prior's precision is one number, that of what is left
    away = x - x @ axes.T @ axes
    both = torch.linalg.eigvalsh(torch.cov(h.T))[:2].mean()
    torch.testing.assert_close(away @ prior.precision, away / both)


def test_kmeans_finds_blobs_and_a_centre_costs_nothing() -> None:
    centres = torch.tensor([[5.0, 0.0], [-5.0, 0.0], [0.0, 6.0]], dtype=torch.float64)
    h = centres.repeat_interleave(50, 0) + 0.3 * normal(150, 2)
    prior = fitted.KMeans(2, centres=3).double()
    prior.fit(h)
    means = h.view(3, 50, 2).mean(1)
    nearest = torch.cdist(means, prior.centres).argmin(1)
    assert sorted(nearest.tolist()) == [0, 1, 2]
    torch.testing.assert_close(prior.centres[nearest], means)
    assert not prior.density(prior.centres).any()
    x = normal(20, 2, seed=1)
    wanted = [min(float(((a - c) ** 2).sum()) for c in prior.centres) for a in x]
    assert prior.density(x).tolist() == pytest.approx(wanted, abs=1e-12)


def mixture() -> fitted.Mixture:
    h = torch.cat([0.5 * normal(200, 2) + 2.0, normal(200, 2, seed=1) * torch.tensor([1.0, 0.2])])
    prior = fitted.Mixture(2, components=2).double()
    prior.fit(h)
    return prior


def test_a_mixture_is_the_sum_of_its_normal_distributions() -> None:
    prior, x = mixture(), normal(50, 2, seed=2)
    parts = []
    for mean, root, constant in zip(prior.means, prior.roots, prior.constants, strict=True):
        covariance = torch.linalg.inv(root @ root.T)
        # the weight is what the constant has beside that of the density
        weight = constant - torch.logdet(root) + math.log(2 * math.pi)
        density = multivariate_normal(mean.numpy(), covariance.numpy())
        parts.append(float(weight) + density.logpdf(x.numpy()))
    torch.testing.assert_close(prior.density(x), torch.from_numpy(-logsumexp(parts, axis=0)))
    assert volume(prior) == pytest.approx(1, abs=1e-3)


def test_a_mixture_of_one_is_a_normal_distribution_with_a_ridge() -> None:
    h = normal(300, 3) @ normal(3, 3, seed=1)
    prior = fitted.Mixture(3, components=1).double()
    prior.fit(h)
    ridge = prior.RIDGE * float(h.var(0, correction=0).mean())
    covariance = torch.cov(h.T, correction=0) + ridge * torch.eye(3)
    x = normal(20, 3, seed=2)
    wanted = -multivariate_normal(h.mean(0).numpy(), covariance.numpy()).logpdf(x.numpy())
    torch.testing.assert_close(prior.density(x), torch.from_numpy(wanted))


def test_square_ica_finds_two_laplace_sources() -> None:
    """Amari distance of the unmixing from the true one: 0 where each source is one of the true
    ones, scaled."""
    g = np.random.default_rng(0)
    mixing = torch.tensor([[1.0, 0.6], [-0.4, 0.8]], dtype=torch.float64)
    sources = torch.from_numpy(g.laplace(size=(4000, 2)))
    prior = fitted.SquareICA(2).double()
    prior.fit(sources @ mixing.T)
    product = (prior.unmixing @ mixing).abs()
    rows, columns = (product / product.amax(d, keepdim=True) for d in (1, 0))
    amari = ((rows.sum(1) - 1).sum() + (columns.sum(0) - 1).sum()) / 4
    assert float(amari) < 0.05
    assert volume(prior) == pytest.approx(1, abs=1e-3)
    # sources have the deviation of the density that they are given, 1 / (pi cosh s)
    found = (sources @ mixing.T - prior.mean) @ prior.unmixing.T
    torch.testing.assert_close(
        found.std(0), torch.full((2,), math.pi / 2, dtype=torch.float64), atol=1e-2, rtol=0
    )


def test_square_ica_is_finite_far_from_everything() -> None:
    prior = fitted.SquareICA(3)
    far = prior.density(torch.full((1, 3), 1e4))
    # log cosh s of each, where the exponential of s is no number any more
    assert float(far) == pytest.approx(3 * (1e4 - math.log(2)), rel=1e-6)


PRIORS: dict[str, Callable[[], fitted.Fitted]] = {
    "pca": lambda: fitted.PCA(4, components=2),
    "kmeans": lambda: fitted.KMeans(4, centres=5),
    "mixture": lambda: fitted.Mixture(4, components=2),
    "square_ica": lambda: fitted.SquareICA(4),
}


@pytest.mark.parametrize("name", PRIORS)
def test_codes_are_free_until_a_prior_is_fitted(name: str) -> None:
    prior, h = PRIORS[name](), normal(60, 4).pow(3).float()
    image = torch.zeros(60, dtype=torch.long)
    with pytest.raises(ValueError, match="maps are too few to fit"):
        prior.fit(h[: prior.least - 1])
    with pytest.raises(ValueError, match="not finite"):
        prior.fit(torch.where(h == h[3, 2], torch.nan, h))
    free = prior(h, image)
    assert free.vector is h and not free.cost.any() and not bool(prior.ready)
    prior.fit(h, seed=3)
    coded = prior(h, image)
    assert coded.vector is h
    torch.testing.assert_close(coded.cost, prior.density(h))
    assert coded.cost.dtype == torch.float32 and coded.cost.isfinite().all()
    assert prior(h[:0], image[:0]).cost.shape == (0,)
    # all that a fit has found is in its tensors, and a seed decides it
    other = PRIORS[name]()
    other.load_state_dict(prior.state_dict())
    assert other(h, image).cost.equal(coded.cost)
    other.fit(h, seed=3)
    assert other(h, image).cost.equal(coded.cost)


# sparse


def test_fista_over_orthonormal_atoms_is_a_soft_threshold() -> None:
    atoms, c = torch.linalg.qr(normal(8, 8))[0], normal(20, 8, seed=1)
    found = priors.fista(c, atoms, weight=0.3, steps=60)
    wanted = priors.soft_threshold(c @ atoms.T, 0.3)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)
    assert 0 < float((found == 0).double().mean()) < 1


@pytest.mark.parametrize("algorithm", ["lasso_cd", "lasso_lars"])
def test_fista_finds_the_code_of_scikit_learn(algorithm: str) -> None:
    """Which writes the same objective: |c - z D|^2 / 2 + weight |z|_1."""
    atoms, c = F.normalize(normal(12, 6), dim=1), normal(10, 6, seed=1)
    found = priors.fista(c, atoms, weight=0.2, steps=3000)
    wanted = torch.from_numpy(
        sparse_encode(c.numpy(), atoms.numpy(), algorithm=algorithm, alpha=0.2, max_iter=10000)
    )
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)
    ours, theirs = (priors.sparse_cost(c, z, atoms, 0.2) for z in (found, wanted))
    assert (ours <= theirs + 1e-9).all()


def ista(c: Tensor, atoms: Tensor, *, weight: float, steps: int) -> Tensor:
    z = c.new_zeros(len(c), len(atoms))
    size = 1 / torch.linalg.matrix_norm(atoms, 2) ** 2
    for _ in range(steps):
        z = priors.soft_threshold(z - size * (z @ atoms - c) @ atoms.T, size * weight)
    return z


def lista(steps: int) -> priors.Lista:
    """In float64 from the start."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        return priors.Lista(6, atoms=12, weight=0.2, steps=steps)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("steps", [1, 5])
def test_lista_begins_as_exactly_ista(steps: int) -> None:
    network, c = lista(steps), normal(20, 6)
    wanted = ista(c, network.atoms.detach(), weight=0.2, steps=steps)
    torch.testing.assert_close(network.codes(c).detach(), wanted, atol=1e-12, rtol=0)


def test_lista_that_is_trained_is_better_than_ista_of_as_many_steps() -> None:
    network = lista(3)
    network.raw.requires_grad_(False)
    image = torch.zeros(256, dtype=torch.long)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 3e-3)
    for step in range(200):
        loss = network(normal(256, 6, seed=1000 + step), image).cost.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    c, atoms = normal(256, 6), network.atoms
    with torch.no_grad():
        best = priors.sparse_cost(c, priors.fista(c, atoms, weight=0.2, steps=500), atoms, 0.2)
        plain = priors.sparse_cost(c, ista(c, atoms, weight=0.2, steps=3), atoms, 0.2)
        trained = network(c, image).cost
    # a third of the way from ISTA to the best, at least
    assert float((trained - best).mean()) < 0.67 * float((plain - best).mean())
    assert (trained >= best - 1e-6).all()


def test_what_sparse_coding_decodes_is_the_sum_of_its_atoms() -> None:
    torch.manual_seed(0)
    prior = priors.SparseCoding(6, atoms=12, weight=0.2, steps=50)
    torch.testing.assert_close(prior.atoms.norm(dim=1), torch.ones(12))
    c = normal(5, 6).float()
    coded = prior(c, torch.zeros(5, dtype=torch.long))
    z = priors.fista(c, prior.atoms, weight=0.2, steps=50)
    torch.testing.assert_close(coded.vector, z @ prior.atoms)
    torch.testing.assert_close(
        coded.cost, 0.5 * (c - coded.vector).square().sum(1) + 0.2 * z.abs().sum(1)
    )


def test_a_laplace_prior_on_a_tied_linear_autoencoder_is_a_soft_threshold() -> None:
    """The best h of |a - h W|^2 / 2 + weight |h|_1 with orthonormal rows of W, of all on a fine
    grid for each number."""
    weight, rows = 0.4, torch.linalg.qr(normal(3, 3))[0]
    a = normal(6, 3, seed=1)
    prior, steps = priors.Laplace(weight), torch.linspace(-5, 5, 10001, dtype=torch.float64)
    best = []
    for point in a:
        numbers = rows @ point
        for index in range(3):
            h = numbers.expand(len(steps), -1).clone()
            h[:, index] = steps
            cost = prior(h, torch.zeros(len(h), dtype=torch.long)).cost
            best.append(float(steps[(0.5 * (point - h @ rows).square().sum(1) + cost).argmin()]))
    wanted = priors.soft_threshold(a @ rows.T, weight).flatten()
    assert best == pytest.approx(wanted.tolist(), abs=1e-3)


# normal


def test_the_cost_of_a_normal_code_is_the_divergence_of_torch() -> None:
    numbers = normal(7, 10)
    numbers[0, 5:] = -50.0  # a variance of almost nothing is held
    mean, log_variance = numbers.chunk(2, 1)
    spread = (0.5 * log_variance.clamp(-priors.LONGEST, priors.LONGEST)).exp()
    wanted = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, spread), torch.distributions.Normal(0.0, 1.0)
    ).sum(1)
    coded = priors.Normal(0.0)(numbers, torch.zeros(7, dtype=torch.long))
    torch.testing.assert_close(coded.cost, wanted)
    torch.testing.assert_close(coded.vector, mean)


def test_the_bound_of_a_linear_variational_autoencoder_is_the_evidence_of_pca() -> None:
    """With PCA's decoder and its posterior: -log N(x; B h + mean, s^2) in the mean over the
    posterior, and the cost of the code (Lucas et al., 2019)."""
    x = normal(200, 4) @ normal(4, 4, seed=1) + 1.0
    prior = fitted.PCA(4, components=2).double()
    prior.fit(x)
    covariance = torch.linalg.inv(prior.precision)
    values, axes = torch.linalg.eigh(covariance)
    left = values[0]
    decoder = axes[:, 2:] * (values[2:] - left).sqrt()
    # the posterior has independent numbers, since the columns are orthogonal
    gain = decoder.square().sum(0) + left
    mean, variance = (x - prior.mean) @ decoder / gain, left / gain
    numbers = torch.cat([mean, variance.log().expand_as(mean)], 1)
    cost = priors.Normal(0.1)(numbers, torch.zeros(len(x), dtype=torch.long)).cost
    error = (x - prior.mean - mean @ decoder.T).square().sum(1)
    error = error + (variance * decoder.square().sum(0)).sum()
    bound = 0.5 * error / left + 2 * math.log(2 * math.pi * float(left)) + cost
    torch.testing.assert_close(bound, prior.density(x), atol=1e-8, rtol=0)


# saturating


def test_saturation_is_the_distance_from_where_the_activation_is_flat() -> None:
    x = torch.linspace(-3, 3, 601, dtype=torch.float64)
    flat = torch.cat([torch.linspace(-4, -1, 3001), torch.linspace(1, 4, 3001)]).double()
    wanted = (x[:, None] - flat).abs().amin(1)
    torch.testing.assert_close(priors.saturation(x), wanted, atol=1e-3, rtol=0)
    coded = priors.Saturating(0.5)(
        torch.tensor([[1.0, -1.0, 4.0], [0.0, 0.5, -0.5]]), torch.zeros(2, dtype=torch.long)
    )
    torch.testing.assert_close(coded.cost, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(coded.vector, torch.tensor([[1.0, -1.0, 1.0], [0.0, 0.5, -0.5]]))


def test_saturation_is_the_sparse_cost_of_a_rectified_unit_where_hardtanh_is_one() -> None:
    """Below 0 hardtanh(x) is relu(x + 1) - 1, which is flat where that unit is 0 (Goroshin & LeCun,
    2013, section 3.1)."""
    x = torch.linspace(-3, 0, 301, dtype=torch.float64)
    unit = (x + 1).relu()
    torch.testing.assert_close(F.hardtanh(x), unit - 1)
    torch.testing.assert_close(priors.saturation(x), unit.abs())
    image = torch.zeros(1, dtype=torch.long)
    torch.testing.assert_close(
        priors.Saturating(0.3)(x[None], image).cost, priors.Laplace(0.3)(unit[None], image).cost
    )
