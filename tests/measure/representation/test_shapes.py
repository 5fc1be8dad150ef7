"""Smoothness, clusters and dimensions of embeddings whose answers are known."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

from genseg.measure.representation.clusters import (
    adjusted_rand,
    cluster_agreement,
    clusters_of,
    contingency,
    fisher_ratio,
    mutual_information,
    silhouettes,
    stability,
)
from genseg.measure.representation.dimension import lidar, neighbour_ratios, two_nn
from genseg.measure.representation.perturb import cropped, noisy, perturbed, shifted
from genseg.measure.representation.smoothness import (
    alignment,
    interpolated_right,
    relative_change,
    uniformity,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def groups(each: int, d: int = 4, apart: float = 10.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three groups of images far from each other, and their numbers."""
    labels = torch.arange(3).repeat_interleave(each)
    return torch.eye(3, d)[labels] * apart + normal(3 * each, d), labels


def test_relative_change_is_the_ratio_of_two_means() -> None:
    x = normal(30, 5)
    views = x[:, None] + 0.1 * F.normalize(normal(30, 4, 5, seed=1), dim=2)
    apart = [float((x[i] - x[j]).norm()) for i in range(30) for j in range(30) if i != j]
    found = relative_change(views, x)
    assert found.value == pytest.approx(0.1 / np.mean(apart), rel=1e-4)
    assert relative_change(7 * views, 7 * x).value == pytest.approx(found.value, rel=1e-4)
    assert relative_change(x[:, None], x).value == 0
    assert math.isnan(relative_change(torch.ones(5, 1, 2), torch.ones(5, 2)).value)


def test_relative_change_is_right_where_all_images_are_nearly_one() -> None:
    """Products of single precision have no digit left there."""
    x = F.normalize(1 + 1e-4 * normal(40, 64), dim=1)
    views = F.normalize(1 + 1e-4 * normal(40, 2, 64, seed=1), dim=2)
    apart = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    wanted = float((views - x[:, None]).norm(dim=2).mean() / (apart.sum() / (40 * 39)))
    assert relative_change(views, x).value == pytest.approx(wanted, rel=0.01)


def test_alignment_and_uniformity_are_those_of_wang_and_isola() -> None:
    views, x = normal(6, 3, 4), normal(40, 4, seed=1)
    z = F.normalize(views, dim=2)
    pairs = [
        float((z[n, a] - z[n, b]).square().sum())
        for n in range(6)
        for a in range(3)
        for b in range(a)
    ]
    assert alignment(views).value == pytest.approx(np.mean(pairs), rel=1e-5)
    near = torch.pdist(F.normalize(x, dim=1)).square().mul(-2).exp().mean().log()
    assert uniformity(x).value == pytest.approx(float(near), rel=1e-5)
    assert uniformity(torch.ones(9, 3)).value == pytest.approx(0, abs=1e-6)
    assert uniformity(normal(500, 400)).value == pytest.approx(-4, abs=0.05)


def test_the_label_holds_between_neighbours_where_classes_are_in_one_piece() -> None:
    x, labels = groups(20)
    every = torch.arange(60)
    assert interpolated_right(x, labels, every, k=5).mean() == 1
    # a class in two opposite places: its middle is where the other class lies
    angles = torch.tensor([-1.0, 1.0, -0.05, 0.0, 0.05])
    split = torch.stack([angles.cos(), angles.sin()], 1)
    right = interpolated_right(split, torch.tensor([0, 0, 1, 1, 1]), torch.arange(5), k=1)
    assert right.tolist() == [0, 0, 1, 1, 1]


def test_silhouettes_are_those_of_scikit_learn_and_of_the_definition() -> None:
    x, labels = groups(10, apart=1.0)
    found = silhouettes(x, labels)
    assert float(found.mean()) == pytest.approx(silhouette_score(x, labels), rel=1e-6)
    own = float((x[0] - x[1:10]).norm(dim=1).mean())
    other = min(float((x[0] - x[labels == c]).norm(dim=1).mean()) for c in (1, 2))
    assert float(found[0]) == pytest.approx((other - own) / max(own, other), rel=1e-5)


def test_the_fisher_ratio_of_two_classes() -> None:
    """Means at +-3, deviations of 1 in two dimensions: 9 / 2."""
    x = torch.tensor([[4.0, 1], [2, -1], [-4, 1], [-2, -1]])
    labels = torch.tensor([5, 5, 1, 1])
    assert fisher_ratio(x, labels) == pytest.approx(9 / 2)
    assert fisher_ratio(x, torch.tensor([0, 1, 0, 1])) == pytest.approx(4 / 40)
    assert math.isinf(fisher_ratio(torch.tensor([[0.0], [0], [1]]), torch.tensor([0, 0, 1])))


@pytest.mark.parametrize(("a", "b"), [(2, 2), (3, 7), (1, 4), (1, 1)])
def test_agreement_of_partitions_is_that_of_scikit_learn(a: int, b: int) -> None:
    g = torch.Generator().manual_seed(a)
    first = torch.randint(0, a, (50,), generator=g)
    second = (first + torch.randint(0, 2, (50,), generator=g)) % b
    table = contingency(first, second)
    assert table.sum() == 50 and table[0, 0] == ((first == 0) & (second == 0)).sum()
    wanted = normalized_mutual_info_score(first, second), adjusted_rand_score(first, second)
    assert (mutual_information(table), adjusted_rand(table)) == pytest.approx(wanted, abs=1e-9)


def test_clusters_that_are_the_classes_and_clusters_that_are_not() -> None:
    x, labels = groups(30)
    clusters = clusters_of(x, 3)
    found = cluster_agreement(clusters, labels)
    assert found["nmi"].value == pytest.approx(1) and found["ari"].value == pytest.approx(1)
    assert stability(x, 3).value == pytest.approx(1)
    chance = cluster_agreement(clusters, torch.arange(90) % 2)
    assert abs(chance["ari"].value) < 0.03 and chance["ari"].error < 0.05
    cloud = stability(normal(300, 20), 10)
    assert cloud.value < 0.3 and 0 < cloud.error < 0.1
    assert stability(x, 3, seed=4) == stability(x, 3, seed=4)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_intrinsic_dimension_of_a_plane_in_many_dimensions(k: int) -> None:
    flat = torch.rand(2500, k, generator=torch.Generator().manual_seed(k)) @ normal(k, 40)
    assert two_nn(neighbour_ratios(flat + 100)) == pytest.approx(k, rel=0.12)


def test_two_nn_finds_the_exponent_of_a_pareto_law_and_leaves_out_equal_images() -> None:
    """Facco et al.: the ratios have the distribution 1 - r^-d."""
    ratios = (1 - (torch.arange(4000).double() + 0.5) / 4000) ** (-1 / 7)
    assert two_nn(ratios) == pytest.approx(7, rel=0.01)
    x = normal(40, 3)
    near = torch.cdist(x, x).fill_diagonal_(torch.inf).sort(1).values
    got = neighbour_ratios(x)
    assert torch.allclose(got, (near[:, 1] / near[:, 0]).double(), rtol=1e-4)
    assert len(neighbour_ratios(torch.cat([x, x[:5]]))) == 35
    assert math.isnan(two_nn(ratios[:5]))
    assert not len(neighbour_ratios(x[:2])), "there is no second neighbour"


def test_lidar_counts_the_directions_that_tell_images_apart() -> None:
    """Views scatter evenly, images along k axes of equal size: k."""
    axes = torch.eye(6)[:4] * 100
    images = torch.cat([axes, -axes])
    scatter = torch.cat([torch.eye(6), -torch.eye(6)])
    views = images[:, None] + scatter
    assert lidar(views) == pytest.approx(4, rel=1e-3)
    assert lidar(1e-3 * views + 5) == pytest.approx(4, rel=1e-3)
    # eigenvalues of S_w^-1/2 S_b S_w^-1/2, as the paper writes them
    v = normal(50, 5, 3, seed=2) + 2 * normal(50, 1, 3, seed=3)
    means = v.double().mean(1)
    s_b = np.cov(means.numpy().T, bias=True)
    s_w = sum(np.cov(one.numpy().T, bias=True) for one in v.double()) / 50
    values, vectors = np.linalg.eigh(s_w + 1e-4 * np.trace(s_w) / 3 * np.eye(3))
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    p = np.linalg.eigvalsh(root @ s_b @ root)
    p = p / p.sum()
    assert lidar(v) == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-4)
    assert math.isnan(lidar(torch.ones(3, 2, 4)))


def test_perturbations_are_small_and_a_function_of_image_and_seed() -> None:
    pixels = np.random.default_rng(0).integers(60, 190, (32, 32, 3), dtype=np.uint8)
    rng = np.random.default_rng(1)
    noise = noisy(pixels, rng).astype(float) - pixels
    assert noise.std() == pytest.approx(8, rel=0.05) and abs(noise.mean()) < 0.5
    moved = shifted(pixels, rng)
    assert any(
        np.array_equal(moved[4:-4, 4:-4], np.roll(pixels, (y, x), (0, 1))[4:-4, 4:-4])
        for y in range(-2, 3)
        for x in range(-2, 3)
    )
    assert (
        cropped(np.full((32, 32, 3), 7, np.uint8), rng).tolist() == np.full((32, 32, 3), 7).tolist()
    )
    views = perturbed(pixels, 3, count=2)
    assert views.shape == (6, 32, 32, 3) and np.array_equal(views, perturbed(pixels, 3, count=2))
    assert not np.array_equal(views[0], views[1])
    assert not np.array_equal(views, perturbed(pixels, 4, count=2))
