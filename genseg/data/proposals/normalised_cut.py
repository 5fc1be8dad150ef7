"""Normalised cuts of the places of a feature map, one after another.

After TokenCut (Wang et al., Self-Supervised Transformers for Unsupervised Object Discovery Using
Normalized Cut, 2022) and MaskCut of CutLER (Wang et al., Cut and Learn, 2023).
"""

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

WEAK = 1e-5  # the affinity of places that are not alike, so that the graph is connected
LEFT = 0.05  # part of the places below which nothing more is cut
FEWEST = 32  # places that can be cut
VECTORS = 20  # of Lanczos' basis
TOLERANCE = (
    1e-3  # of the eigenvalue: the sign of a vector's entries is known long before its digits
)


class Cut(NamedTuple):
    """A segment that a cut has parted from the rest.

    mask: its places
    value: cut / association of both sides; 0: they are not connected, 1 and more: no cut
    """

    mask: Bool[np.ndarray, "h w"]
    value: float


def cosines(features: Float[np.ndarray, "c h w"]) -> Float[np.ndarray, "n n"]:
    """The cosine of each place's features with each other's, row by row; 0 for features that
    are 0."""
    rows = features.reshape(len(features), -1).T.astype(np.float32)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return rows @ rows.T


def successive_cuts(alike: Bool[np.ndarray, "n n"], h: int, w: int, *, count: int) -> Iterator[Cut]:
    """At most `count` segments of the h x w places, each cut from what the ones before have left.

    alike: which places are, as `cosines(features) > threshold`; symmetric, with itself each

    The side that holds the largest entry of the eigenvector is the segment, as in TokenCut, and of
    it the part that is connected with that entry. It may be an object or the sky: see `cut.py`.
    """
    left = np.ones(h * w, bool)
    for _ in range(count):
        places = np.flatnonzero(left)
        if len(places) < max(FEWEST, LEFT * h * w):
            return
        graph = alike[np.ix_(places, places)].astype(np.float32)
        if graph.all() or (vector := second_vector(graph)) is None:
            return
        high = vector > vector.mean()
        seed = np.abs(vector - vector.mean()).argmax()
        side = np.zeros(h * w, np.uint8)
        side[places] = high == high[seed]
        pieces = cv2.connectedComponents(side.reshape(h, w), connectivity=4)[1].ravel()
        mask = pieces == pieces[places[seed]]
        yield Cut(mask.reshape(h, w), cut_value(graph, high))
        left &= ~mask


def second_vector(graph: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n"] | None:
    """The second smallest generalised eigenvector of (D - W) x = l D x, but for its sign and scale;
    None where it does not converge.

    graph: ones and zeros; W is 1 and WEAK in their place

    Lanczos' method on D^-1/2 W D^-1/2, whose largest eigenvector, the square root of the degrees,
    is known and taken out: some 20 products with W, where the dense solution takes all n vectors.
    W is `graph` and a matrix of rank one; sparse it is not: half of all patches of a photograph are
    alike.
    """
    n = len(graph)
    degree = graph.sum(1) * (1 - WEAK) + WEAK * n
    root = 1 / np.sqrt(degree)
    known = np.sqrt(degree / degree.sum())

    def product(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "n"]:
        x = x.ravel()
        y = root * x
        return root * (graph @ y * (1 - WEAK) + WEAK * y.sum()) - known * (known @ x)

    start = np.linspace(-1, 1, n, dtype=np.float32)  # not by chance: the same image, the same cut
    try:
        operator = LinearOperator((n, n), matvec=product, dtype=np.float32)
        _, vectors = eigsh(operator, 1, which="LA", v0=start, tol=TOLERANCE, ncv=min(VECTORS, n))
    except ArpackNoConvergence:
        return None
    return vectors[:, 0] * root


def cut_value(graph: Float[np.ndarray, "n n"], side: Bool[np.ndarray, "n"]) -> float:
    """Ncut(A, B) = cut(A, B) / assoc(A, V) + cut(A, B) / assoc(B, V) (Shi and Malik, 2000, equation
    2), by ones and zeros alone."""
    to_side, degree = graph @ side.astype(np.float32), graph.sum(1)
    between = float(to_side[~side].sum())
    both = (float(degree[side].sum()), float(degree[~side].sum()))
    return sum(between / total if total else 1.0 for total in both)
