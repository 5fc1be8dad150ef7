"""Controls for proposals: regions that know nothing of objects. What a proposer is worth, it is
worth beyond these."""

import hashlib
from dataclasses import replace
from math import ceil, pi, sqrt

import numpy as np
from jaxtyping import Float, UInt8

from genseg.data.instances.instance import OPAQUE, Instance, cut_instance
from genseg.data.proposals.component_tree import MAX_PART, MIN_AREA
from genseg.data.scenes.outlines import OUTLINES, draw_alpha

Image = UInt8[np.ndarray, "h w 3"]
BLOB_SCORE = 0.5
APART = 2  # pixels from a blob to the border


def flat(image: Image) -> bool:
    """All pixels are of one colour: there is nothing to propose."""
    return bool((image == image[:1, :1]).all())


def propose_blobs(
    image: Image, *, count: int = 16, min_area: int = MIN_AREA, max_part: float = MAX_PART
) -> list[Instance]:
    """Random blobs at random places, textured by whatever lies there; the seed is the image's
    content. Half of them are joined with a second blob, bitten by one, or have one as their hole,
    since objects are not all convex.

    Areas are drawn log-uniformly from four times `min_area` to half of `max_part` of the image.
    None reaches the border, where it could not be pasted; what does not fit is left out. They may
    overlap. Scores are random and at most BLOB_SCORE, so that a threshold can tell them from what a
    model proposes later.
    """
    if flat(image):
        return []
    h, w = image.shape[:2]
    rng = np.random.default_rng(
        int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest(), "big")
    )
    found = []
    smallest = min(4 * min_area, max_part * h * w / 2)
    for score in np.sort(rng.uniform(0, BLOB_SCORE, count))[::-1]:
        area = np.exp(rng.uniform(np.log(smallest), np.log(max_part * h * w / 2)))
        drawn = cut_instance(
            (_figure(rng, ceil(4 * sqrt(area / pi))) * OPAQUE).round().astype(np.uint8),
            float(score),
        )
        if drawn is None:  # of few pixels, bitten: nothing of it is half there
            continue
        y, x = drawn.alpha.shape
        if y + 2 * APART <= h and x + 2 * APART <= w and min_area <= drawn.area <= max_part * h * w:
            top, left = (int(rng.integers(APART, n - m - APART + 1)) for n, m in ((h, y), (w, x)))
            found.append(replace(drawn, top=top, left=left))
    return found


def _figure(rng: np.random.Generator, side: int) -> Float[np.ndarray, "side side"]:
    """The alpha of a blob in the middle, by chance with another one added, taken from its side, or
    from its middle."""

    def blob(radius: float, offset: float = 0.0) -> Float[np.ndarray, "side side"]:
        angle = rng.uniform(0, 2 * pi)
        centre = (0.5 + offset * np.cos(angle), 0.5 + offset * np.sin(angle))
        return draw_alpha(OUTLINES["blob"](rng), rng, size=side, radius=radius, centre=centre)

    first = blob(0.25)
    match rng.choice(["alone", "joined", "bitten", "hollow"], p=[0.5, 0.2, 0.15, 0.15]):
        case "joined":
            return np.maximum(first, blob(rng.uniform(0.1, 0.2), 0.2))
        case "bitten":
            return first * (1 - blob(rng.uniform(0.15, 0.22), 0.2))
        case "hollow":
            return first * (1 - blob(rng.uniform(0.1, 0.15)))
    return first


def propose_centre(image: Image, *, min_area: int = MIN_AREA, part: float = 0.5) -> list[Instance]:
    """One ellipse in the middle, with the image's proportions and `part` of its area (at most pi /
    4)."""
    if flat(image):
        return []
    h, w = image.shape[:2]
    y, x = (2 * (np.arange(n) + 0.5) / n - 1 for n in (h, w))
    radius = sqrt(4 * part / pi)
    found = cut_instance(np.add.outer(y**2, x**2) <= radius**2)
    return [] if found is None or found.area < min_area else [found]
