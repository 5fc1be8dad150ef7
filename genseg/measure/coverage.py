"""Which few vectors stand for all."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


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
