"""Whether embeddings fall into groups, and whether these are the classes."""

import warnings

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genseg.measure.representation.bootstrap import Estimate, bootstrap

PAIRS = 10  # pairs of halves, for stability


def silhouettes(features: Float[Tensor, "n d"], labels: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """(b - a) / max(a, b) of each image (Rousseeuw, 1987): a is its mean distance to its own class,
    b that to the nearest other one. In [-1, 1]; 0 on the border of two classes. Time and memory
    grow with n^2."""
    from sklearn.metrics import silhouette_samples

    return torch.from_numpy(silhouette_samples(features.numpy(), labels.numpy())).double()


def fisher_ratio(features: Float[Tensor, "n d"], labels: Int[Tensor, "n"]) -> float:
    """tr S_b / tr S_w (Fisher, 1936; Fukunaga, 1990, 10.2): the variance between the means of
    classes over that around them. At least 0, without a limit; n images of c classes that do not
    differ have about (c - 1) / (n - c)."""
    x = features.double()
    places = labels.unique(return_inverse=True)[1]
    counts = torch.bincount(places).double()
    means = torch.zeros(len(counts), x.shape[1], dtype=x.dtype).index_add_(0, places, x)
    means = means / counts[:, None]
    between = (counts[:, None] * (means - x.mean(0)).square()).sum()
    within = (x - means[places]).square().sum()
    return float(between / within) if within > 0 else float("inf")


def clusters_of(features: Float[Tensor, "n d"], count: int, *, seed: int = 0) -> Int[Tensor, "n"]:
    """The cluster of each image by k-means, the best of three starts."""
    return torch.from_numpy(_kmeans(features, count, seed, starts=3).labels_).long()


def contingency(first: Int[Tensor, "n"], second: Int[Tensor, "n"]) -> Float[Tensor, "a b"]:
    """How many images are in each group of one partition and each of another."""
    a, b = int(first.max()) + 1, int(second.max()) + 1
    return torch.bincount(first * b + second, minlength=a * b).reshape(a, b).double()


def mutual_information(table: Float[Tensor, "a b"]) -> float:
    """The mutual information of two partitions over the mean of their entropies (Strehl and Ghosh,
    2002), in [0, 1]; 1 for two of one group."""
    p = table / table.sum()
    rows, columns = torch.special.entr(p.sum(1)).sum(), torch.special.entr(p.sum(0)).sum()
    both = torch.special.entr(p).sum()
    whole = rows + columns
    return float((2 * (whole - both) / whole).clamp(0, 1)) if whole > 0 else 1.0


def adjusted_rand(table: Float[Tensor, "a b"]) -> float:
    """The adjusted Rand index of two partitions (Hubert and Arabie, 1985, eq. 5): at most 1, and 0
    by chance."""
    together, rows, columns = (
        float((t * (t - 1) / 2).sum()) for t in (table, table.sum(1), table.sum(0))
    )
    n = float(table.sum())
    chance = rows * columns / (n * (n - 1) / 2)
    most = (rows + columns) / 2
    return (together - chance) / (most - chance) if most > chance else 1.0


def cluster_agreement(
    clusters: Int[Tensor, "n"], labels: Int[Tensor, "n"], *, seed: int = 0
) -> dict[str, Estimate]:
    """How far clusters are the classes: `nmi` and `ari`. Their errors are over images, whose
    clusters stay."""

    def of(i: Int[Tensor, "n"]) -> dict[str, float]:
        table = contingency(clusters[i], labels[i])
        return {"nmi": mutual_information(table), "ari": adjusted_rand(table)}

    return bootstrap(of, len(labels), seed=seed)


def stability(features: Float[Tensor, "n d"], count: int, *, seed: int = 0) -> Estimate:
    """Whether k-means finds the same clusters in other images of the same kind (Ben-Hur et al.,
    2002; von Luxburg, 2010): the adjusted Rand index of the clusters that the centres of two
    disjoint halves make of all images, over 10 such pairs.

    At most 1, 0 by chance. It needs no labels. The error is over the pairs.
    """
    g = torch.Generator().manual_seed(seed)
    x, agreed = features.float(), []
    for pair in range(PAIRS):
        made = [
            _kmeans(x[half], count, seed + 2 * pair + n).predict(x.numpy())
            for n, half in enumerate(torch.randperm(len(x), generator=g).tensor_split(2))
        ]
        first, second = (torch.from_numpy(m).long() for m in made)
        agreed.append(adjusted_rand(contingency(first, second)))
    values = torch.tensor(agreed, dtype=torch.float64)
    return bootstrap(lambda i: {"ari": float(values[i].mean())}, PAIRS, seed=seed)["ari"]


def _kmeans(x: Float[Tensor, "n d"], count: int, seed: int, starts: int = 1):  # type: ignore[no-untyped-def]
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    model = KMeans(count, n_init=starts, random_state=seed)
    with warnings.catch_warnings():  # of images that are alike there are fewer clusters
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(np.ascontiguousarray(x.float().numpy()))
