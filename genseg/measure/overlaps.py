"""Instances against the labels of one image: overlaps, one-to-one matches, and what is made of
them.

The overlap of found and labelled is their IoU; that of found and a crowd is, as in COCO, the share
of the found that lies in the crowd.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int
from pycocotools import mask as rle
from scipy.sparse import csr_array

from genseg.data.instances.instance import OPAQUE, Instance

DENSE = 2**22  # pairs of found and labelled whose overlaps are held as a matrix
BAND = 2**24  # pixels whose classes are compared at once
Overlap: TypeAlias = Float[np.ndarray, "n m"] | csr_array


def intersections(found: Sequence[Instance], truth: Sequence[Instance]) -> Int[np.ndarray, "n m"]:
    """Pixels that two masks share, for each pair.

    Only pairs whose windows meet are looked at, and only where they meet: 375 by 375 nuclei take
    some 20 ms.
    """
    shared = np.zeros((len(found), len(truth)), int)
    (top, left, bottom, right), (above, before, below, behind) = (
        _edges(found)[..., None],
        _edges(truth),
    )
    top, left = np.maximum(top, above), np.maximum(left, before)
    bottom, right = np.minimum(bottom, below), np.minimum(right, behind)
    a, b = [f.mask for f in found], [t.mask for t in truth]
    for i, j in np.argwhere((bottom > top) & (right > left)):
        rows, columns = slice(top[i, j], bottom[i, j]), slice(left[i, j], right[i, j])
        shared[i, j] = np.count_nonzero(
            _part(a[i], found[i], rows, columns) & _part(b[j], truth[j], rows, columns)
        )
    return shared


def _edges(instances: Sequence[Instance]) -> Int[np.ndarray, "4 n"]:
    """Top, left, bottom and right of the windows; the last two are the first row and column behind
    them."""
    edges = [
        (i.top, i.left, i.top + i.alpha.shape[0], i.left + i.alpha.shape[1]) for i in instances
    ]
    return np.array(edges, int).reshape(-1, 4).T


def _part(
    mask: Bool[np.ndarray, "h w"], of: Instance, rows: slice, columns: slice
) -> Bool[np.ndarray, "y x"]:
    """A mask, known in its window, at rows and columns of the image."""
    return mask[
        rows.start - of.top : rows.stop - of.top, columns.start - of.left : columns.stop - of.left
    ]


def sparse_overlap(
    found: Sequence[Instance], truth: Sequence[Instance], crowd: Bool[np.ndarray, "m"]
) -> csr_array:
    """`mask_overlap` of so many that the matrix is nearly all zeros, and does not fit."""
    rows, columns, values = list[int](), list[int](), list[float]()
    edges, others = _edges(found), _edges(truth)
    areas = [t.area for t in truth]
    some = max(1, DENSE // max(1, len(truth)))
    for first in range(0, len(found), some):
        (top, left, bottom, right) = edges[:, first : first + some, None]
        near = np.minimum(bottom, others[2]) > np.maximum(top, others[0])
        near &= np.minimum(right, others[3]) > np.maximum(left, others[1])
        for n, j in np.argwhere(near).tolist():
            i = first + n
            if both := int(intersections([found[i]], [truth[j]])[0, 0]):
                area = found[i].area
                rows.append(i)
                columns.append(j)
                values.append(both / max(area if crowd[j] else area + areas[j] - both, 1))
    return csr_array((values, (rows, columns)), shape=(len(found), len(truth)))


def overlaps_of(
    found: Sequence[Instance], truth: Sequence[Instance], crowd: Bool[np.ndarray, "m"]
) -> Overlap:
    """`mask_overlap`, or `sparse_overlap` where there are many of both."""
    dense = len(found) * len(truth) <= DENSE
    return (mask_overlap if dense else sparse_overlap)(found, truth, crowd)


def pairs_of(
    overlap: Overlap, threshold: float
) -> tuple[Int[np.ndarray, "k 2"], Float[np.ndarray, "k"]]:
    """Which pairs overlap by a threshold above 0 or more, row by row, and by how much."""
    if isinstance(overlap, np.ndarray):
        pairs = np.argwhere(overlap >= threshold)
        return pairs, overlap[tuple(pairs.T)]
    overlap.sort_indices()
    known = overlap.tocoo()
    enough = known.data >= threshold
    return np.stack([known.row, known.col], 1)[enough].astype(int), known.data[enough]


def mask_overlap(
    found: Sequence[Instance], truth: Sequence[Instance], crowd: Bool[np.ndarray, "m"]
) -> Float[np.ndarray, "n m"]:
    """Overlap of each found mask with each labelled one; 0 where both are empty."""
    shared = intersections(found, truth)
    area = np.array([f.area for f in found], int)[:, None]
    both = np.where(crowd, area, area + np.array([t.area for t in truth], int) - shared)
    return shared / np.maximum(both, 1)


def box_overlap(
    found: Float[np.ndarray, "n 4"], truth: Float[np.ndarray, "m 4"], crowd: Bool[np.ndarray, "m"]
) -> Float[np.ndarray, "n m"]:
    """Overlap of each found box with each labelled one. Boxes: left, top, width, height in pixels,
    not rounded."""
    if not len(found) or not len(truth):  # pycocotools returns a list then
        return np.zeros((len(found), len(truth)))
    return rle.iou(
        np.ascontiguousarray(found, float), np.ascontiguousarray(truth, float), crowd.tolist()
    )


def match(overlap: Overlap, threshold: float) -> list[tuple[int, int]]:
    """Pairs (found, labelled) that overlap by `threshold` or more, each in one pair at most: the
    best overlap first.

    Scores play no part. When labels do not overlap each other and the threshold is over 0.5, no
    other matching has
    more pairs: each found mask can then belong to one label only. Of equal overlaps the first found
    is taken.
    """
    candidates, values = pairs_of(overlap, threshold)
    best_first = np.argsort(-values, kind="stable")
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for i, j in candidates[best_first].tolist():
        if i not in pairs and j not in taken:
            pairs[i] = j
            taken.add(j)
    return sorted(pairs.items())


def tp_ratio(overlap: Overlap, crowd: Bool[np.ndarray, "m"], threshold: float) -> float:
    """TP / (TP + FP + FN) at an overlap (2018 Data Science Bowl). Nothing found where nothing is: 1
    by definition.

    A crowd is no label to find, and what overlaps it by `threshold` or more is not wrong.
    """
    right = match(overlap[:, ~crowd], threshold)
    excused, _ = pairs_of(overlap[:, crowd], threshold)
    wrong = set(range(overlap.shape[0])) - set(excused[:, 0].tolist()) - {i for i, _ in right}
    counted = int((~crowd).sum()) + len(wrong)  # TP + FN are the labels
    return len(right) / counted if counted else 1.0


def best_overlaps(overlap: Overlap) -> Float[np.ndarray, "m"]:
    """The best overlap that each label gets, 0 when nothing is found; their mean is mBO (Pont-Tuset
    et al., 2017)."""
    if isinstance(overlap, np.ndarray):
        return overlap.max(0, initial=0.0)
    best = np.zeros(overlap.shape[1])
    pairs, values = pairs_of(overlap, 0)
    np.maximum.at(best, pairs[:, 1], values)
    return best


def located(
    boxes: Float[np.ndarray, "n 4"], scores: Float[np.ndarray, "n"], truth: Float[np.ndarray, "m 4"]
) -> bool:
    """Whether the box with the best score has an IoU of 0.5 or more with a labelled one (Deselaers
    et al., 2010).

    The part of all images where it has is CorLoc. Of equal scores the first counts.
    """
    best = boxes[np.argmax(scores)][None] if len(scores) else boxes
    return bool((box_overlap(best, truth, np.zeros(len(truth), bool)) >= 0.5).any())


def calibration_error(scores: Float[np.ndarray, "n"], right: Bool[np.ndarray, "n"]) -> float:
    """How far scores are from being probabilities; nan for none, and where one is not in [0, 1]
    (expected calibration error, Guo et al., 2017).

    The mean over all, in ten bins of equal width, of the distance between a bin's mean score and
    its share of right.
    """
    if not len(scores) or scores.min() < 0 or scores.max() > 1:
        return float("nan")
    each = np.minimum((scores * 10).astype(int), 9)
    apart = np.bincount(each, scores - right)
    return float(np.abs(apart).sum() / len(scores))


def partition(
    instances: Sequence[Instance], height: int, width: int
) -> Int[np.ndarray, "height width"]:
    """One number a pixel: 0 for none, n + 1 for instance n. Where instances overlap the one with
    the best score wins.

    Of equal scores the smaller wins, which keeps a part that lies on a whole; of equal areas the
    first.
    """
    return _painted(instances, _last_first(instances), 0, height, width)


def _last_first(instances: Sequence[Instance]) -> list[int]:
    """The order in which they are painted, so that the one that wins comes last."""
    order = sorted(range(len(instances)), key=lambda n: (-instances[n].score, instances[n].area, n))
    return order[::-1]


def _painted(
    instances: Sequence[Instance], order: Sequence[int], top: int, height: int, width: int
) -> Int[np.ndarray, "height width"]:
    """The rows from `top` on of a partition."""
    numbers = np.zeros((height, width), int)
    for n in order:
        rows, columns = instances[n].window
        first, last = max(rows.start, top), min(rows.stop, top + height)
        if first < last:
            part = instances[n].mask[first - rows.start : last - rows.start]
            numbers[first - top : last - top, columns][part] = n + 1
    return numbers


def foreground_ari(
    found: Sequence[Instance], truth: Sequence[Instance], height: int, width: int
) -> float:
    """FG-ARI: adjusted Rand index over the pixels that a label covers; nan when there are none
    (Greff et al., 2019).

    Both sides are made into partitions. Labelled pixels that no instance covers are one class of
    their own.
    """
    rows, pairs = max(1, BAND // width), list[Int[np.ndarray, "k 3"]]()
    orders = [_last_first(side) for side in (found, truth)]
    for top in range(0, height, rows):
        count = min(rows, height - top)
        a, b = (
            _painted(side, order, top, count, width)
            for side, order in zip((found, truth), orders, strict=True)
        )
        both = np.stack([a[b > 0], b[b > 0]])
        classes, times = np.unique(both, axis=1, return_counts=True)
        pairs.append(np.stack([*classes, times], 1))
    every = np.concatenate(pairs)
    if len(pairs) == 1:
        return _rand(every)
    classes, place = np.unique(every[:, :2], axis=0, return_inverse=True)
    times = np.bincount(place.ravel(), every[:, 2]).astype(int)
    return _rand(np.column_stack([classes, times]))


def adjusted_rand(a: Int[np.ndarray, "n"], b: Int[np.ndarray, "n"]) -> float:
    """Adjusted Rand index of two partitions (Hubert and Arabie, 1985, eq. 5), 1 for equal ones; nan
    for n = 0.

    Class numbers are 0 or more.
    """
    classes, times = np.unique(np.stack([a, b]), axis=1, return_counts=True)
    return _rand(np.stack([*classes, times], 1))


def _rand(pairs: Int[np.ndarray, "k 3"]) -> float:
    """`adjusted_rand` by how often each pair of classes is met: rows of (a, b, times)."""
    if not len(pairs):
        return float("nan")
    a, b, times = pairs.T
    in_a, in_b = (_pairs(np.bincount(side, times).astype(np.int64)) for side in (a, b))
    n, pairs_of_both = int(times.sum()), _pairs(times)
    expected = in_a * in_b / max(n * (n - 1) / 2, 1)
    most = (in_a + in_b) / 2
    # Both have one class only, or both have n: they are equal, and the quotient would be 0 / 0.
    return 1.0 if most == expected else (pairs_of_both - expected) / (most - expected)


def _pairs(counts: Int[np.ndarray, "k"]) -> float:
    """Pairs of elements in one class; as a float, since products of two such numbers leave 64
    bits."""
    return float((counts * (counts - 1) // 2).sum())


def alpha_errors(found: Instance, truth: Instance) -> tuple[float, float]:
    """Mean absolute and mean squared difference of two alpha maps, in [0, 1], where at least one of
    them is not 0."""
    edges = np.hstack([_edges([found]), _edges([truth])])
    (top, left), (bottom, right) = edges[:2].min(1).tolist(), edges[2:].max(1).tolist()
    a, b = (
        Instance(i.alpha, i.top - top, i.left - left)
        .paint(bottom - top, right - left)
        .astype(float)
        / OPAQUE
        for i in (found, truth)
    )
    difference = (a - b)[(a > 0) | (b > 0)]
    assert difference.size, "an alpha map that is 0 everywhere is no instance"
    return float(np.abs(difference).mean()), float(np.square(difference).mean())
