"""Whether embeddings fall into groups, and whether these are the classes."""

from itertools import pairwise

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


def cluster_agreement(
    clusters: Int[Tensor, "n"], labels: Int[Tensor, "n"], *, seed: int = 0
) -> dict[str, Estimate]:
    """How far clusters are the classes: `nmi`, the normalised mutual information, in [0, 1] (by the
    mean of entropies; Strehl and Ghosh, 2002), and `ari`, the adjusted Rand index, at most 1 and 0
    by chance (Hubert and Arabie, 1985)."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    a, b = clusters.numpy(), labels.numpy()

    def of(i: Int[Tensor, "n"]) -> dict[str, float]:
        first, second = a[i.numpy()], b[i.numpy()]
        return {
            "nmi": float(normalized_mutual_info_score(first, second)),
            "ari": float(adjusted_rand_score(first, second)),
        }

    return bootstrap(of, len(a), seed=seed)


def stability(features: Float[Tensor, "n d"], count: int, *, seed: int = 0) -> Estimate:
    """Whether k-means finds the same clusters in other images of the same kind (Ben-Hur et al.,
    2002; von Luxburg, 2010): the adjusted Rand index of the clusters that the centres of two
    disjoint halves make of all images, over 10 such pairs.

    At most 1, 0 by chance. It needs no labels. The error is over the pairs.
    """
    from sklearn.metrics import adjusted_rand_score

    g = torch.Generator().manual_seed(seed)
    x, agreed = features.float(), []
    for pair in range(PAIRS):
        halves = torch.randperm(len(x), generator=g).tensor_split(2)
        made = [
            _kmeans(x[half], count, seed + 2 * pair + n).predict(x.numpy())
            for n, half in enumerate(halves)
        ]
        agreed += [adjusted_rand_score(a, b) for a, b in pairwise(made)]
    values = torch.tensor(agreed, dtype=torch.float64)
    return bootstrap(lambda i: {"ari": float(values[i].mean())}, PAIRS, seed=seed)["ari"]


def _kmeans(x: Float[Tensor, "n d"], count: int, seed: int, starts: int = 1):  # type: ignore[no-untyped-def]
    from sklearn.cluster import KMeans

    model = KMeans(count, n_init=starts, random_state=seed)
    return model.fit(np.ascontiguousarray(x.float().numpy()))
