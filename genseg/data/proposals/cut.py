"""Proposals by normalised cuts of what a frozen teacher sees: large objects of photographs.

After MaskCut of CutLER (Wang et al., Cut and Learn for Unsupervised Object Detection and Instance
Segmentation, 2023). Other than there: cuts are made in the whole image at two scales and in
overlapping crops, each at several thresholds of what is alike; what many of these looks agree on
scores high. A segment that holds two corners of the image is background. Masks come to the edges of
the image by a guided filter in place of a conditional random field.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from genseg.data.images.teacher_features import look
from genseg.data.instances.instance import OPAQUE, Instance, cut_instance
from genseg.data.proposals.component_tree import MIN_AREA
from genseg.data.proposals.controls import flat
from genseg.data.proposals.normalised_cut import cosines, successive_cuts
from genseg.data.proposals.sharpen import GuidedFilter
from genseg.nn.teacher import Teacher

Image = UInt8[np.ndarray, "h w 3"]
Mask = Bool[np.ndarray, "CANVAS CANVAS"]
WHOLE = (32, 16)  # places to a side of the whole image, at its two scales
CROP = 24  # and of a crop
PART = 0.6  # of the image's sides that a crop has; four of them, one at each corner, overlap
THRESHOLDS = (0.2, 0.35, 0.5)  # cosines above which places are alike
COUNT = 4  # cuts, one after another, at each threshold
CANVAS = 128  # pixels to a side of the masks that are compared
CORNERS = 2  # of the image; what holds so many is background
CUT_OFF = 0.5  # places at a crop's inner edges, by the root of all; what has more goes on beyond it
SAME = 0.5  # IoU from which on two segments are one
MAX_PART = 0.8  # of the image
STEEP = 2.0  # of an alpha's slope at the edge, by that of the filter


@dataclass(frozen=True)
class View:
    """What a teacher has seen of an image: all of it, or a crop.

    top, left, side: of the window, as parts of the image's sides
    """

    features: Float[np.ndarray, "c n n"]
    top: float = 0.0
    left: float = 0.0
    side: float = 1.0


@dataclass(frozen=True)
class Segment:
    """A part of the image that a cut has found, on the canvas. value: of the cut; view and
    threshold: the look that it comes from; cut_off: it goes on beyond its crop"""

    mask: Mask
    value: float
    view: int
    threshold: float
    cut_off: bool

    @property
    def background(self) -> bool:
        """Whether it holds two corners of the image."""
        return int(self.mask[:: CANVAS - 1, :: CANVAS - 1].sum()) >= CORNERS

    @property
    def inside(self) -> float:
        """Part of the image's border that it leaves free."""
        rim = (self.mask[0], self.mask[-1], self.mask[1:-1, 0], self.mask[1:-1, -1])
        return 1 - float(np.concatenate(rim).mean())


def propose_cut(
    image: Image, teacher: Teacher, *, min_area: int = MIN_AREA, max_part: float = MAX_PART
) -> list[Instance]:
    """Objects by normalised cuts of the teacher's features, best first. An image of one colour has
    none, nor has one whose places are all alike."""
    if flat(image):
        return []
    found = scored_segments(segments(views(image, teacher)))
    if not found:
        return []
    h, w = image.shape[:2]
    sharpen = GuidedFilter(image, reach=1 / WHOLE[0])
    instances = []
    for mask, score in found:
        soft = np.clip(0.5 + STEEP * (sharpen(mask.astype(np.float32)) - 0.5), 0, 1)
        instance = cut_instance((_largest(soft) * OPAQUE).round().astype(np.uint8), score)
        if instance is not None and min_area <= instance.area <= max_part * h * w:
            instances.append(instance)
    return instances


def views(image: Image, teacher: Teacher) -> list[View]:
    """The whole image at two scales, then four overlapping crops."""
    h, w = image.shape[:2]
    y, x = round(h * PART), round(w * PART)
    found = [
        View(look(teacher, [image], side=places * teacher.stride)[0].numpy()) for places in WHOLE
    ]
    corners = [(top, left) for top in (0, h - y) for left in (0, w - x)]
    crops = [np.ascontiguousarray(image[t : t + y, s : s + x]) for t, s in corners]
    features = look(teacher, crops, side=CROP * teacher.stride).numpy()
    return found + [
        View(f, t / h, s / w, PART) for f, (t, s) in zip(features, corners, strict=True)
    ]


def segments(seen: Sequence[View]) -> list[Segment]:
    """What the cuts of all views part, at all thresholds."""
    found = []
    for number, view in enumerate(seen):
        likeness, n = cosines(view.features), view.features.shape[1]
        for threshold in THRESHOLDS:
            for mask, value in successive_cuts(likeness > threshold, n, n, count=COUNT):
                over = view.side < 1 and _cut_off(mask, view)
                found.append(Segment(_placed(mask, view), value, number, threshold, over))
    return [s for s in found if s.mask.any()]


def scored_segments(found: Sequence[Segment]) -> list[tuple[Mask, float]]:
    """Masks and scores in [0, 1] of the objects among them, best first, without doubles.

    score = agreement x (1 - value / 2) x part of the border that it leaves free, where agreement is
    the mean of the best IoU at each scale of the whole image and, half as heavy, in any crop, over
    the thresholds
    """
    if not found:
        return []
    overlap = _overlaps([s.mask for s in found])
    crop = np.array([s.view >= len(WHOLE) for s in found])
    scores = np.zeros(len(found))
    for threshold in THRESHOLDS:
        mine = np.array([s.threshold == threshold for s in found])
        for scale in range(len(WHOLE)):
            at = mine & np.array([s.view == scale for s in found])
            scores += overlap[:, at].max(1, initial=0) / len(WHOLE)
        scores += overlap[:, mine & crop].max(1, initial=0) / 2
    scores /= 1.5 * len(THRESHOLDS)
    scores *= [(1 - s.value / 2) * s.inside for s in found]
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if not (found[i].background or found[i].cut_off) and (overlap[i, kept] < SAME).all():
            kept.append(int(i))
    return [(found[i].mask, float(scores[i])) for i in kept]


def _placed(mask: Bool[np.ndarray, "n n"], view: View) -> Mask:
    """The mask of a view on the canvas of the whole image."""
    canvas = np.zeros((CANVAS, CANVAS), bool)
    top, left, side = (round(CANVAS * part) for part in (view.top, view.left, view.side))
    soft = cv2.resize(mask.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    window = canvas[top : top + side, left : left + side]
    window[:] = soft[: window.shape[0], : window.shape[1]] > 0.5
    return canvas


def _cut_off(mask: Bool[np.ndarray, "n n"], view: View) -> bool:
    """Whether a mask lies along the edges of its crop that are none of the image."""
    rims = (
        mask[0] if view.top > 0 else mask[-1],
        mask[:, 0] if view.left > 0 else mask[:, -1],
    )
    return bool(sum(int(rim.sum()) for rim in rims) > CUT_OFF * mask.sum() ** 0.5)


def _overlaps(masks: Sequence[Mask]) -> Float[np.ndarray, "k k"]:
    """IoU of each pair."""
    flats = np.stack(masks).reshape(len(masks), -1).astype(np.float32)
    shared, area = flats @ flats.T, flats.sum(1)
    return shared / (area[:, None] + area - shared)


def _largest(soft: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """An alpha map with the largest of its pieces alone, and what is faint around it."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats((soft >= 0.5).astype(np.uint8))
    if count <= 2:
        return soft
    best = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return np.where((pieces == best) | (pieces == 0), soft, 0)
