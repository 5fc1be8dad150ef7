"""An image that is read by windows: what each kind of file offers, with its own bits."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from genseg.data.images.planes import Choice, Held
from genseg.data.regions.georeference import OnMap

Sizes = tuple[tuple[int, int], ...]


@runtime_checkable
class RegionImage(Protocol):
    """An image of a file. It may be read from several threads.

    held: axes, type and names of channels, as the file has them
    choice: which of its channels and pages are read
    levels: height and width of each resolution, the whole image first
    inverted: 0 is white
    pixel_size: micrometres, down and across, where the file says it
    on_map: where the image lies on a map, where the file says it
    """

    path: Path
    held: Held
    choice: Choice
    levels: Sizes
    inverted: bool
    pixel_size: tuple[float, float] | None
    on_map: OnMap | None

    def read(
        self, top: int, left: int, height: int, width: int, level: int = 0
    ) -> Shaped[np.ndarray, "height width c"]:
        """A window of a level, in pixels of that level, which has to lie in it."""
        ...


def checked_window(
    size: tuple[int, int], top: int, left: int, height: int, width: int
) -> tuple[slice, slice]:
    """The rows and columns of a window. Raises ValueError where it leaves the image."""
    if (
        min(top, left, height, width) < 0
        or top + height > size[0]
        or left + width > size[1]
        or not height * width
    ):
        raise ValueError(
            f"rows {top} to {top + height}, columns {left} to {left + width} are no window of an "
            f"image of {size[0]} x {size[1]} pixels"
        )
    return slice(top, top + height), slice(left, left + width)
