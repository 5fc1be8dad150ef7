"""Proposals from segmentations of the whole image, at several scales: Felzenszwalb's, and
superpixels that merge."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Integer, UInt8

from genseg.data.instances.instance import OPAQUE, Instance
from genseg.data.proposals import component_tree as ct

Image = UInt8[np.ndarray, "h w 3"]
Labels = Integer[np.ndarray, "h w"]
SAME = 0.8  # IoU from which on two regions are one


def propose_felzenszwalb(
    image: Image,
    *,
    scales: tuple[int, ...] = (50, 150, 450),
    min_area: int = ct.MIN_AREA,
    max_part: float = ct.MAX_PART,
) -> list[Instance]:
    """Regions of Felzenszwalb and Huttenlocher's graph cut (2004); a larger scale gives larger
    regions."""
    from skimage.segmentation import felzenszwalb

    maps = [felzenszwalb(image, scale=scale, sigma=0.8, min_size=min_area) + 1 for scale in scales]
    return scored(maps, image, min_area=min_area, max_part=max_part)


def propose_slic(
    image: Image,
    *,
    pieces: int = 250,
    distances: tuple[int, ...] = (4, 8, 12, 18),
    min_area: int = ct.MIN_AREA,
    max_part: float = ct.MAX_PART,
) -> list[Instance]:
    """SLIC superpixels, joined where neighbours' mean colours in CIE Lab are nearer than each of
    the distances."""
    from skimage.graph import cut_threshold, rag_mean_color
    from skimage.segmentation import slic

    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    fine = slic(image, n_segments=pieces, compactness=10, start_label=1)
    graph = rag_mean_color(lab, fine)
    maps = [
        fine,
        *(cut_threshold(fine, graph, distance, in_place=False) + 1 for distance in distances),
    ]
    return scored(maps, image, min_area=min_area, max_part=max_part)


def scored(
    maps: Sequence[Labels], image: Image, *, min_area: int, max_part: float
) -> list[Instance]:
    """The distinct regions of several label maps (0 is none), best first, with the score of the
    component tree."""
    h, w = image.shape[:2]
    edges = ct.slope(ct.stretch(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)))
    masks, outlines = [], []
    for k, labels in enumerate(maps):
        old = _repeated(maps[:k], labels)
        for label, (mask, top, left) in _windows(labels).items():
            area = np.count_nonzero(mask)
            if label in old or not min_area <= area <= max_part * h * w:
                continue
            found = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
            outlines.append(ct.region(max(found, key=len)[:, 0] + np.array((left, top), np.int32)))
            masks.append(Instance(mask * np.uint8(OPAQUE), top, left))
    scores = ct.worth(outlines, edges)
    order = np.argsort(-scores, kind="stable")
    return [replace(masks[i], score=float(scores[i])) for i in order if scores[i] > 0]


def _windows(labels: Labels) -> dict[int, tuple[UInt8[np.ndarray, "_ _"], int, int]]:
    """Mask (0 and 1), top and left of each label in its box."""
    from skimage.measure import regionprops

    cut = {int(r.label): r.bbox for r in regionprops(labels)}
    return {k: ((labels[t:b, s:e] == k).astype(np.uint8), t, s) for k, (t, s, b, e) in cut.items()}


def _repeated(before: Sequence[Labels], labels: Labels) -> set[int]:
    """Labels whose region has an IoU over SAME with one of a map before."""
    size = np.bincount(labels.ravel())
    repeated: set[int] = set()
    for other in before:
        width = int(other.max()) + 1
        pairs, shared = np.unique(
            labels.ravel().astype(np.int64) * width + other.ravel(), return_counts=True
        )
        mine, theirs = pairs // width, pairs % width
        union = size[mine] + np.bincount(other.ravel())[theirs] - shared
        repeated |= {int(k) for k in mine[(shared > SAME * union) & (mine > 0) & (theirs > 0)]}
    return repeated
