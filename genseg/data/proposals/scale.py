"""Whether things in images are small and repeat, or large and few: it decides which proposals suit
them. No label is read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from genseg.core.words import amount
from genseg.data.proposals.controls import flat
from genseg.data.proposals.propose import LEAST, TAUGHT, propose_tree

Image = UInt8[np.ndarray, "h w 3"]
SIDE = 256  # pixels of the shorter side at which images are looked at
LOOKED = 96  # images, at most, spread evenly over the list
SEARCHED = 24  # of these, in which regions are looked for, which takes the time
SURE = 0.5  # score of a region that counts, as one that a composite pastes
TILES = 4  # to each side of an image
SMALL = 0.15  # of the shorter side; things that are smaller are small
ALIKE = 0.32  # of the variance between tiles; tiles that differ less hold the same things
NEAR = 0.04  # to ALIKE, where the answer is not sure
# what suits images of the other kind
OTHER = {
    True: "Where things are small and repeat, --config alpha needs no teacher",
    False: "Where things are large and few, as in everyday photographs, --config photos_alpha asks "
    "a frozen teacher",
}
FOR_LARGE = (*TAUGHT, "slic")  # proposals of large things
TELLS = "genseg scan FOLDER --scale tells which they are"


@dataclass(frozen=True)
class Scale:
    """What is measured, each the median over images.

    side: of the regions that the component tree finds, as a part of the image's shorter side: the
        root of their mean area over the pixels that they hold; NaN where there is no region
    between: part of the variance of the colours that lies between the image's tiles
    images: so many have been looked at
    """

    side: float
    between: float
    images: int

    @property
    def large(self) -> bool:
        """Whether things are large and few: regions are not small, and tiles differ."""
        return not self.side < SMALL and self.between >= ALIKE

    @property
    def sure(self) -> bool:
        return self.side < SMALL or abs(self.between - ALIKE) >= NEAR

    def __str__(self) -> str:
        kind, recipe = "small and repeat", "alpha"
        if self.large:
            kind, recipe = "large and few", "photos_alpha, or photos_slic_alpha without a teacher"
        doubt = "" if self.sure else " (near the limit: try both)"
        side = "no region found" if math.isnan(self.side) else f"regions {self.side:.2f}"
        return (
            f"things {kind}{doubt}: {side} of the shorter side (small below {SMALL}), "
            f"{self.between:.2f} of the variance between tiles (alike below {ALIKE}), in "
            f"{amount(self.images, 'image')}; recipe: {recipe}"
        )


def scale_of(images: Sequence[Image]) -> Scale | None:
    """The scale of some images of SIDE pixels; None where none has two colours."""
    usable = [x for x in images if min(x.shape[:2]) >= LEAST and not flat(x)]
    if not usable:
        return None
    sides = [region_side(usable[i]) for i in spread_over(len(usable), SEARCHED)]
    known = [s for s in sides if not math.isnan(s)]
    between = float(np.median([between_tiles(x) for x in usable]))
    return Scale(float(np.median(known)) if known else math.nan, between, len(usable))


def spread_over(count: int, most: int = LOOKED) -> list[int]:
    """Some, or all, of `count` images, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def region_side(image: Image) -> float:
    """sqrt(sum of a^2 / sum of a), of the areas a of the sure regions of the component tree, over
    the image's shorter side; NaN without one."""
    areas = np.array([a.area for a in propose_tree(image) if a.score >= SURE], float)
    if not len(areas):
        return math.nan
    return float((areas @ areas / areas.sum()) ** 0.5 / min(image.shape[:2]))


def between_tiles(image: Image) -> float:
    """The variance of the tiles' mean colours over that of all pixels, summed over channels: the
    share between groups of an analysis of variance. One of pixels alone has 0, one of tiles of one
    colour 1."""
    pixels = image.astype(np.float64)
    pixels -= pixels.mean((0, 1))
    means = cv2.resize(pixels, (TILES, TILES), interpolation=cv2.INTER_AREA)
    return float((means**2).mean((0, 1)).sum() / (pixels**2).mean((0, 1)).sum())


def other_recipe(proposals: str) -> str:
    """Two sentences for one whose images these proposals do not suit."""
    return f"{OTHER[proposals in FOR_LARGE]}; {TELLS}"
