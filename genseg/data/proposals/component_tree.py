"""The tree of an image's bright components over rising levels, and the best ones that do not
overlap.

After maximally stable extremal regions (Matas et al. 2002) and the choice of nested regions for
cells (Arteta et al. 2012), without learning: a region is worth the edge along its outline times its
convexity.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int32, UInt8

Grey = Float[np.ndarray, "h w"]  # grey levels, 0 to 255 over the image's own range
Outline = Int32[np.ndarray, "_ 2"]  # (x, y) of the outermost pixels of a region, in order
LEVELS = 20
MIN_AREA = 20  # pixels
MAX_PART = 0.5  # of the image
SHARE = 0.3  # of an outline that has to lie off the image's border: the border is no edge
# a region may score this power of the ratio of areas less than those inside it; more: larger
# regions
GAIN = 0.05


@dataclass(frozen=True)
class Region:
    """A component without its holes, or a part of one. `parent`: index of the region that holds it,
    -1 for none."""

    outline: Outline
    area: float  # pixels, with the outline's
    solidity: float  # its part of its convex hull
    parent: int = -1
    # it was cut out of its parent by shape, and is no component of a higher level
    cut: bool = False


def stretch(channel: Float[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"]) -> Grey:
    """Blurred against noise, then 0.1 % of the darkest pixels at 0 and of the brightest at 255."""
    smooth = cv2.GaussianBlur(channel.astype(np.float32), (0, 0), 0.8)
    low, high = np.percentile(smooth, (0.1, 99.9))
    return (255 * np.clip((smooth - low) / max(high - low, 1), 0, 1)).astype(np.float32)


def slope(grey: Grey) -> Float[np.ndarray, "h w"]:
    """Length of the gradient, in grey levels per pixel."""
    x, y = (cv2.Sobel(grey, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    # cv2.magnitude's last digits depend on where its input lies in memory
    return np.sqrt(x * x + y * y)


def region(outline: Outline, parent: int = -1, cut: bool = False) -> Region:
    """Measures an outline. Pick's theorem: the pixels of a polygon through n pixel centres are its
    area + n / 2 + 1."""
    hull = cv2.convexHull(outline)
    area = cv2.contourArea(outline) + len(outline) / 2 + 1
    # at a slant that is a little too much
    around = cv2.contourArea(hull) + cv2.arcLength(hull, True) / 2 + 1
    return Region(outline, area, min(area / around, 1.0), parent, cut)


def worth(regions: Sequence[Region], edges: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "n"]:
    """Score of each region, 0 to 1: edge along its outline x convexity x size.

    edges: slope of the image. The first factor is half where the slope is 8 grey levels per pixel,
    on top of what is usual in the image; the last takes a quarter from a region of 21 pixels, and
    nothing from a large one. The slope is that of the region's own outermost pixels, so the best
    outline lies half a pixel outside the steepest line: that suits hand-drawn masks, and a
    one-sided difference, which does not, split nuclei worse.
    """
    if not regions:
        return np.zeros(0)
    h, w = edges.shape
    count = np.array([len(r.outline) for r in regions])
    start = np.cumsum(count) - count
    x, y = np.concatenate([r.outline for r in regions]).T
    inner = (x > 0) & (y > 0) & (x < w - 1) & (y < h - 1)
    inside = np.add.reduceat(inner.astype(np.float64), start)
    steep = np.add.reduceat(edges[y, x] * inner.astype(np.float64), start) / np.maximum(inside, 1)
    usual = 8 + float(np.sqrt(np.mean(edges**2, dtype=np.float64)))
    area = np.array([r.area for r in regions])
    convexity = np.clip(2 * np.array([r.solidity for r in regions]) - 1, 0, 1) ** 2
    return (
        np.where(inside > SHARE * count, steep / (steep + usual), 0) * convexity * area / (area + 7)
    )


def levels_at_edges(
    values: UInt8[np.ndarray, "h w"], edges: Float[np.ndarray, "h w"], count: int
) -> list[int]:
    """Up to `count` levels, as many between two greys as there is slope at these greys: flat ground
    needs few."""
    total = np.cumsum(np.bincount(values.ravel(), weights=edges.ravel(), minlength=256))
    if total[-1] == 0:
        return []
    return [
        int(v) + 1
        for v in np.unique(np.searchsorted(total / total[-1], (np.arange(count) + 0.5) / count))
    ]


def grow(
    values: UInt8[np.ndarray, "h w"], levels: list[int], *, min_area: int, max_area: float
) -> list[Region]:
    """Components of the pixels at or above each level, lowest level first; a parent comes before
    its children."""
    holder = np.full(values.shape, -1, np.int32)  # at each pixel the smallest region so far
    regions: list[Region] = []
    for level in levels:
        above = (values >= level).astype(np.uint8)
        count, label = cv2.connectedComponents(above, connectivity=8, ltype=cv2.CV_32S)
        outlines, tree = cv2.findContours(above, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        number = np.full(count, -1, np.int32)
        for k, outline in enumerate(outlines):
            if len(outline) < 8 or tree[0, k, 3] >= 0:  # a speck, or the outline of a hole
                continue
            x, y = outline[0, 0]
            found = region(outline[:, 0], int(holder[y, x]))
            if min_area <= found.area <= max_area:
                number[label[y, x]] = len(regions)
                regions.append(found)
        here = number[label]
        holder = np.where(here >= 0, here, holder)
    return regions


def paint(outline: Outline) -> tuple[UInt8[np.ndarray, "h w"], int, int]:
    """Mask (255 inside, 0 outside) of an outline in its box, and the box's top and left."""
    left, top, w, h = cv2.boundingRect(outline)
    mask = np.zeros((h, w), np.uint8)
    cv2.drawContours(mask, [(outline - (left, top)).astype(np.int32)], -1, 255, -1)
    return mask, top, left


def cut(outline: Outline) -> list[Outline]:
    """A region's lobes: every pixel goes to the nearest core, cores lie deeper than a part of the
    largest depth.

    Of three parts the one that gives the most cores counts; fewer than two cores are no cut.
    """
    mask, top, left = paint(outline)
    mask = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
    cores = [(depth > part * depth.max()).astype(np.uint8) for part in (0.4, 0.55, 0.7)]
    sizes = [cv2.connectedComponentsWithStats(core)[2][1:, cv2.CC_STAT_AREA] for core in cores]
    lobes = [int((s >= 3).sum()) for s in sizes]
    if max(lobes) < 2:
        return []
    core = cores[int(np.argmax(lobes))]
    nearest = cv2.distanceTransformWithLabels(
        1 - core, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP
    )[1]
    nearest[mask == 0] = 0
    pieces = []
    for k in range(1, int(nearest.max()) + 1):
        found = cv2.findContours(
            (nearest == k).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )[0]
        if found:
            pieces.append(max(found, key=len)[:, 0] + np.array((left - 1, top - 1), np.int32))
    return pieces


def lobes(
    regions: Sequence[Region], scores: Float[np.ndarray, "n"], *, min_area: int
) -> list[Region]:
    """The pieces of regions that are not convex. Those with next to no edge are left whole, to save
    time."""
    pieces = []
    for i, r in enumerate(regions):
        if 0.6 < r.solidity < 0.9 and scores[i] > 0.02 and r.area > 2 * min_area:
            found = [region(o, i, True) for o in cut(r.outline) if len(o) >= 8]
            pieces += [p for p in found if p.area >= min_area]
    return pieces


def choose(
    regions: Sequence[Region], scores: Float[np.ndarray, "n"], *, min_score: float
) -> list[int]:
    """The best regions of which none holds another, by dynamic programming from the leaves to the
    roots.

    A region stands against the best of what is inside it, and against the pieces that it can be cut
    into. A set is worth its mean score, weighted by area, times (its area / the region's) ** GAIN.
    Parents come before children.
    """
    inside: list[list[int]] = [[] for _ in regions]
    pieces: list[list[int]] = [[] for _ in regions]
    for i, r in enumerate(regions):
        if r.parent >= 0:
            (pieces if r.cut else inside)[r.parent].append(i)
    best: list[list[int]] = [[] for _ in regions]
    area = [r.area for r in regions]
    score = scores.tolist()

    def value(chosen: list[int], whole: float) -> float:
        covered = sum(area[k] for k in chosen)
        return (
            sum(score[k] * area[k] for k in chosen) / covered * (covered / whole) ** GAIN
            if chosen
            else 0.0
        )

    for i in reversed(range(len(regions))):
        if not regions[i].cut:
            nested = [k for j in inside[i] for k in best[j]]
            sets = [[k for k in s if score[k] >= min_score] for s in ([i], nested, pieces[i])]
            best[i] = max(sets, key=lambda s: value(s, area[i]))
    return [k for i, r in enumerate(regions) if r.parent < 0 for k in best[i]]
