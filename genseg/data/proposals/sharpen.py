"""Coarse masks moved to the edges of the image, by the guided filter.

He, Sun and Tang, Guided Image Filtering (2013), with the colours as the guide: in each window the
mask is the linear function of the colours that fits it best (equations 19 to 21). The functions are
found in a smaller image (He and Sun, Fast Guided Filter, 2015) and applied to all pixels.
"""

from math import ceil

import cv2
import numpy as np
from jaxtyping import Float, UInt8

SMOOTH = 1e-3  # epsilon: the variance of colours in [0, 1] that counts as an edge
FITTED = 256  # pixels of the shorter side at which the functions are found


class GuidedFilter:
    """The filter of one image, for any number of masks.

    reach: of a window to each side, as a part of the image's mean side
    """

    def __init__(
        self, image: UInt8[np.ndarray, "h w 3"], *, reach: float, smooth: float = SMOOTH
    ) -> None:
        h, w = image.shape[:2]
        part = min(1.0, FITTED / min(h, w))
        self.guide = image.astype(np.float32) / 255
        self.small = cv2.resize(
            self.guide, (ceil(w * part), ceil(h * part)), interpolation=cv2.INTER_AREA
        )
        self.window = 2 * max(1, round(reach * part * (h * w) ** 0.5)) + 1
        self.mean = self._mean(self.small)
        red, green, blue = (self.small[..., i] for i in range(3))
        products = np.stack(
            [red * red, red * green, red * blue, green * green, green * blue, blue * blue], -1
        )
        r, g, b = (self.mean[..., i] for i in range(3))
        means = np.stack([r * r, r * g, r * b, g * g, g * b, b * b], -1)
        spread = self._mean(products) - means
        spread[..., (0, 3, 5)] += smooth
        self.inverse = _inverse(spread)

    def __call__(self, mask: Float[np.ndarray, "_ _"]) -> Float[np.ndarray, "h w"]:
        """A mask of any size with the edges of the image, near its range."""
        size = self.small.shape[1::-1]
        mask = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        mean = self._mean(mask)
        shared = self._mean(self.small * mask[..., None]) - self.mean * mean[..., None]
        slope = np.einsum("hwij,hwj->hwi", self.inverse, shared)
        offset = mean - (slope * self.mean).sum(-1)
        linear = self._mean(np.dstack([slope, offset]))
        linear = cv2.resize(linear, self.guide.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return (linear[..., :3] * self.guide).sum(-1) + linear[..., 3]

    def _mean(self, values: Float[np.ndarray, "y x *c"]) -> Float[np.ndarray, "y x *c"]:
        """Of a window around each pixel; the image is mirrored beyond its border."""
        return cv2.blur(values, (self.window, self.window), borderType=cv2.BORDER_REFLECT)


def _inverse(upper: Float[np.ndarray, "h w 6"]) -> Float[np.ndarray, "h w 3 3"]:
    """Of symmetric matrices, given by the six entries from the diagonal on."""
    a, b, c, d, e, f = (upper[..., i] for i in range(6))
    rows = (
        (d * f - e * e, c * e - b * f, b * e - c * d),
        (c * e - b * f, a * f - c * c, b * c - a * e),
        (b * e - c * d, b * c - a * e, a * d - b * b),
    )
    adjugate = np.stack([np.stack(row, -1) for row in rows], -2)
    determinant = a * rows[0][0] + b * rows[0][1] + c * rows[0][2]
    return adjugate / determinant[..., None, None]
