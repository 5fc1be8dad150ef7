"""Proposals: regions of a real image that may be objects, found without labels. Several proposers,
one interface.

A proposer gives instances by falling score, the same ones every time; none for a flat image. Scores
are comparable within a proposer.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from genseg.core.reading import RGB
from genseg.data.images.inputs import rgb_of
from genseg.data.instances.instance import Instance
from genseg.data.proposals import component_tree as ct
from genseg.data.proposals.controls import propose_blobs, propose_centre
from genseg.data.proposals.cut import propose_cut
from genseg.data.proposals.inpainting import propose_iem
from genseg.data.proposals.superpixels import propose_felzenszwalb, propose_slic, scored
from genseg.nn.teacher import Teacher

Image = UInt8[np.ndarray, "h w c"]
Scored = tuple[float, ct.Region]
LEAST = 8  # pixels of the shorter side of an image in which something is looked for
OVERLAP = 0.2  # part of a region that may be taken by better ones; it loses that part


def propose_tree(
    image: Image,
    *,
    levels: int = ct.LEVELS,
    min_area: int = ct.MIN_AREA,
    max_part: float = ct.MAX_PART,
    min_score: float = 0.3,
) -> list[Instance]:
    """The best regions of the component trees of each channel, bright and dark. No two share a
    pixel.

    The side (bright or dark objects) with the larger total of score x sqrt(area) in one channel
    keeps its scores; those
    of the other side are lowered in the proportion of the totals: on dark ground the gaps between
    objects are few, in a photograph both sides count. The square root stands between counting
    objects and counting pixels. A score of `min_score` before that becomes 0.5: from there on a
    composite takes a proposal for an instance.
    """
    h, w = image.shape[:2]
    sides: list[list[list[Scored]]] = [[], []]
    for channel in _channels(image):
        grey = ct.stretch(channel)
        edges = ct.slope(grey)
        bright = grey.round().astype(np.uint8)
        for side, values in zip(sides, (bright, 255 - bright), strict=True):
            steps = ct.levels_at_edges(values, edges, levels)
            regions = ct.grow(values, steps, min_area=min_area, max_area=max_part * h * w)
            regions += ct.lobes(regions, ct.worth(regions, edges), min_area=min_area)
            scores = ct.worth(regions, edges)
            # Half of what is asked for at the end: a weak part shall not keep its neighbours from
            # being split off.
            chosen = ct.choose(regions, scores, min_score=min_score / 2)
            side.append([(float(scores[i]), regions[i]) for i in chosen])
    totals = [max(sum(s * r.area**0.5 for s, r in found) for found in side) for side in sides]
    best = max(totals)
    pool = [
        (s * t / best, r)
        for side, t in zip(sides, totals, strict=True)
        for found in side
        for s, r in found
    ]
    return _apart([(s / (s + min_score), r) for s, r in pool if s >= min_score], h, w, min_area)


def propose_otsu(
    image: Image, *, min_area: int = ct.MIN_AREA, max_part: float = ct.MAX_PART
) -> list[Instance]:
    """The classical baseline: Otsu's threshold on luma, lobes cut at the watershed of the distance
    to the ground.

    The ground is the side that holds more of the image's border.
    """
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    luma = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 1)
    if luma.min() == luma.max():
        return []
    mask = cv2.threshold(luma, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[1]
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    if border.mean() > 0.5:
        mask = 1 - mask
    depth = cv2.GaussianBlur(cv2.distanceTransform(mask, cv2.DIST_L2, 5), (0, 0), 1)
    seeds = np.zeros(luma.shape, np.int32)
    peaks = peak_local_max(depth, min_distance=5, labels=cv2.connectedComponents(mask)[1])
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return scored(
        [watershed(-depth, seeds, mask=mask > 0)], image, min_area=min_area, max_part=max_part
    )


def _channels(image: Image) -> list[Float[np.ndarray, "h w"]]:
    """Luma; for an image with colour also the line in CIE Lab along which pixels differ most,
    turned to the light. Each channel where they are no colours."""
    if image.shape[2] != RGB:
        return list(np.moveaxis(image, -1, 0).astype(np.float32))
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    if np.array_equal(image[..., 0], image[..., 1]) and np.array_equal(
        image[..., 0], image[..., 2]
    ):
        return [luma]
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3)
    lab -= lab.mean(0)
    # Rounded: the order of the pixels, as in a mirror, changes the last digits of a sum.
    line = np.linalg.eigh(lab.T @ lab)[1][:, 2].round(4).astype(np.float32)
    along = (lab @ line).reshape(luma.shape) * np.float32(2.55)  # L goes to 100, grey levels to 255
    return [luma, along if float((along * (luma - luma.mean())).sum()) > 0 else -along]


def _apart(found: Sequence[Scored], h: int, w: int, min_area: int) -> list[Instance]:
    """Best first, each without the pixels of those before it."""
    taken = np.zeros((h, w), bool)
    kept = []
    for score, region in sorted(found, key=lambda pair: -pair[0]):
        alpha, top, left = ct.paint(region.outline)
        window = taken[top : top + alpha.shape[0], left : left + alpha.shape[1]]
        inside = alpha > 0
        if window[inside].mean() <= OVERLAP:
            alpha[window] = 0
            window |= inside
            if np.count_nonzero(alpha) >= min_area:
                kept.append(Instance(alpha, top, left, score))
    return kept


class Proposer(Protocol):
    """Instances of an image of LEAST x LEAST pixels or more, none of less than `min_area`
    pixels."""

    def __call__(self, image: Image, *, min_area: int = ct.MIN_AREA) -> list[Instance]: ...


class TaughtProposer(Protocol):
    """The same, by what a frozen teacher sees."""

    def __call__(
        self, image: Image, teacher: Teacher, *, min_area: int = ct.MIN_AREA
    ) -> list[Instance]: ...


Proposals = Literal["tree", "otsu", "felzenszwalb", "slic", "iem", "blobs", "centre", "cut"]
PROPOSERS: dict[str, Proposer] = {
    "tree": propose_tree,
    "otsu": propose_otsu,
    "felzenszwalb": propose_felzenszwalb,
    "slic": propose_slic,
    "iem": propose_iem,
    "blobs": propose_blobs,
    "centre": propose_centre,
}
TAUGHT: dict[str, TaughtProposer] = {"cut": propose_cut}


def propose(
    name: str, image: Image, *, min_area: int = ct.MIN_AREA, teacher: Teacher | None = None
) -> list[Instance]:
    """What the proposer of that name finds in an image of any size. teacher: for those of
    TAUGHT."""
    if min(image.shape[:2]) < LEAST:
        return []
    if name != "tree":
        image = rgb_of(image)
    if teacher is not None:
        return TAUGHT[name](image, teacher, min_area=min_area)
    return PROPOSERS[name](image, min_area=min_area)


def check_teacher(name: str, teacher: str | None, *, key: str) -> None:
    """Raise ValueError where a proposer that needs a teacher has none, or another one has one.
    key: by which a user gives it"""
    if name in TAUGHT and teacher is None:
        raise ValueError(
            f"{name} proposes by what a frozen teacher sees, and there is none; give the weights "
            f"of a ViT or a ConvNeXt by {key}: a .safetensors file, a tag of timm that is on this "
            "machine, or a run with an encoder"
        )
    if name not in TAUGHT and teacher is not None:
        raise ValueError(f"{key}: {name} asks no teacher; leave it out, or use {', '.join(TAUGHT)}")
