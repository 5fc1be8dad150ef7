"""Which few vectors stand for all."""

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

NEAREST = 20  # neighbours by which a vector is typical of its cluster
MOST_CLUSTERS = 500  # as its authors have it
BLOCK = 256  # vectors whose distances to all of a cluster are in memory at once


def typical(vectors: Float[np.ndarray, "n d"], count: int, chosen: Sequence[int] = ()) -> list[int]:
    """The most typical vectors of clusters (Hacohen, Dekel and Weinshall, 2022, algorithm 1,
    TypiClust): `count` numbers, the one of the largest cluster first.

    k-means makes as many clusters as vectors are wanted and `chosen`, 500 at most; those that hold
    one of `chosen` are passed over. Typical is what lies nearest, on average, to its 20 nearest
    neighbours in the cluster. Where clusters are too few, `k_center` takes the rest.
    """
    x = vectors.astype(np.float64)
    count = min(count, len(x) - len(set(chosen)))
    if count <= 0:
        return []
    groups = _clusters(x, min(MOST_CLUSTERS, len(set(chosen)) + count))
    sizes = np.bincount(groups)
    sizes[groups[list(chosen)]] = 0
    order = np.argsort(-sizes, kind="stable")[:count]
    taken = [_most_typical(x, np.flatnonzero(groups == g)) for g in order if sizes[g]]
    return [*taken, *k_center(x, count - len(taken), [*chosen, *taken])]


def _clusters(x: Float[np.ndarray, "n d"], count: int) -> np.ndarray:
    """The cluster of each vector."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():  # of copies there are fewer clusters
        warnings.simplefilter("ignore", ConvergenceWarning)
        groups: np.ndarray = KMeans(count, n_init=10, random_state=0).fit_predict(x)
    return groups


def _most_typical(x: Float[np.ndarray, "n d"], members: np.ndarray) -> int:
    """The member that lies nearest to its nearest neighbours among them."""
    own = x[members]
    count = min(NEAREST + 1, len(own))  # one of them is itself
    sums = [
        np.partition(cdist(own[n : n + BLOCK], own), count - 1)[:, :count].sum(1)
        for n in range(0, len(own), BLOCK)
    ]
    return int(members[np.argmin(np.concatenate(sums))])


def k_center(
    vectors: Float[np.ndarray, "n d"], count: int, chosen: Sequence[int] = ()
) -> list[int]:
    """Greedy k-centre (Sener and Savarese, 2018, algorithm 1): `count` numbers, in the order in
    which they are taken. Each is the vector furthest from the nearest of those before it, and of
    `chosen`.

    Without any, the first is the one nearest to the mean, where the paper leaves it to chance. Of
    equal distances the first vector counts. Its largest distance is at most twice the best one.
    """
    x = vectors.astype(np.float64)
    count = min(count, len(x) - len(set(chosen)))
    nearest = np.full(len(x), np.inf)
    for i in chosen:
        nearest = np.minimum(nearest, _apart(x, i))
    taken = list[int]()
    while len(taken) < count:
        if not taken and not chosen:
            i = int(np.argmin(((x - x.mean(0)) ** 2).sum(1)))
        else:
            free = nearest.copy()
            free[[*chosen, *taken]] = -1  # a copy of one of them has a distance of 0
            i = int(np.argmax(free))
        taken.append(i)
        nearest = np.minimum(nearest, _apart(x, i))
    return taken


def _apart(x: Float[np.ndarray, "n d"], i: int) -> Float[np.ndarray, "n"]:
    """Squared distances to the i-th."""
    return ((x - x[i]) ** 2).sum(1)
