"""An image that is read by windows: what each kind of file offers, with its own bits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

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
    pages: of this image of the file, from 0
    levels: height and width of each resolution, the whole image first
    pixel_size: micrometres, down and across, where the file says it
    on_map: where the image lies on a map, where the file says it
    """

    path: Path
    held: Held
    choice: Choice
    pages: tuple[int, ...]
    levels: Sizes
    pixel_size: tuple[float, float] | None
    on_map: OnMap | None

    def read(
        self, top: int, left: int, height: int, width: int, level: int = 0
    ) -> Shaped[np.ndarray, "height width c"]:
        """A window of a level, in pixels of that level, which has to lie in it."""
        ...


class Reduced:
    """A level of an image's pyramid as an image of its own, which lies on no map; the contract of
    `RegionImage`."""

    pixel_size: tuple[float, float] | None = None
    on_map: OnMap | None = None

    def __init__(self, image: RegionImage, level: int) -> None:
        self.path, self.held, self.choice = image.path, image.held, image.choice
        self.pages, self.levels = image.pages, image.levels[level:]
        self._image, self._level = image, level

    def read(
        self, top: int, left: int, height: int, width: int, level: int = 0
    ) -> Shaped[np.ndarray, "height width c"]:
        """A window."""
        return self._image.read(top, left, height, width, self._level + level)


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


def page_of(
    array: Any,
    held: Held,
    page: int,
    channels: Sequence[int],
    rows: slice,
    columns: slice,
) -> Shaped[np.ndarray, "c h w"]:
    """Some channels of a page at a window, of an array that is read where it is indexed. page: over
    all axes of pages, as `planes` counts them."""
    axes, sizes = held.axes, held.sizes
    pages = [a for a in axes if a not in "CYXS"]
    places = np.unravel_index(page, [sizes[a] for a in pages]) if pages else ()
    at: dict[str, slice | int] = {a: int(n) for a, n in zip(pages, places, strict=True)}
    at |= {"Y": rows, "X": columns}
    part = np.asarray(array[tuple(at.get(a, slice(None)) for a in axes)])
    left = [a for a in axes if a in "CYXS"]
    part = part.transpose([left.index(a) for a in "CSYX" if a in left])
    return part.reshape(-1, *part.shape[-2:])[list(channels)]
