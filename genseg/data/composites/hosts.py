"""The images that composites are made of."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, UInt8

from genseg.data.composites.affine import Window
from genseg.data.composites.appearance import Pixels
from genseg.data.images.pixels import mapped, stretching

Absent = Callable[[int], Bool[np.ndarray, "h w"] | None]


class Images:
    """The images of a bank by number, with the values stretched where that is wanted.

    absent: where an image has no value, None: it has one everywhere
    """

    def __init__(
        self,
        read: Callable[[int], Pixels],
        *,
        stretched: bool,
        absent: Absent = lambda i: None,
    ) -> None:
        self.read, self.stretched, self.absent = read, stretched, absent
        self.tables: dict[int, UInt8[np.ndarray, 256 * c]] = {}  # a few hundred bytes an image

    def pixels(self, i: int, window: Window = (slice(None), slice(None))) -> Pixels:
        """A window of an image."""
        image = self.read(i)
        if not self.stretched:
            return image[window]
        if i not in self.tables:
            self.tables[i] = stretching(image)
        return mapped(image[window], self.tables[i])
