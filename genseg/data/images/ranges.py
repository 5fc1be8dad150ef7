"""The values of a whole set that become black and white, so that its images keep their brightness
among each other."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Shaped

from genseg.data.images.depth import Ranges
from genseg.data.images.files import ImageList
from genseg.data.images.original import read_original
from genseg.data.images.source import ImageError

ASKED, TAKEN = 64, 20_000  # images, evenly from all, and values of a channel of each
Values = tuple[Shaped[np.ndarray, "h w c"], Bool[np.ndarray, "h w"] | None]
ReadValues = Callable[[ImageList, int], Values]
SHARE = (0.1, 99.9)  # percentiles, as of a single image


def values_of(images: ImageList, i: int) -> Values:
    """The values of the i-th image of a list, which is decoded. Raises ImageError."""
    found = read_original(images.path(i), image=images.page(i), reading=images.reading)
    return found.pixels, found.absent


def fitted_ranges(images: ImageList, read: ReadValues = values_of) -> Ranges:
    """The percentiles SHARE over the images of a list: of each channel that is chosen, or of all
    colours together where none is. Values that are no numbers, or absent, do not count.

    read: the values of an image of the list, and where it has none; it may raise ImageError

    Raises ValueError where no image has values.
    """
    parts = [_values(images, i, read) for i in _spread(len(images))]
    counts = {part.shape[1] for part in parts if part is not None}
    if len(counts) != 1:
        raise ValueError(
            f"data.range=set: of {len(images)} images "
            + (
                f"some have {min(counts)} and some {max(counts)} channels"
                if counts
                else "none can be read"
            )
        )
    values = np.concatenate([part for part in parts if part is not None])
    pairs = np.nanpercentile(values, SHARE, axis=0).T
    return tuple((float(low), float(high if high > low else low + 1)) for low, high in pairs)


def _spread(count: int) -> list[int]:
    asked = min(count, ASKED)
    return [n * count // asked for n in range(asked)]


def _values(images: ImageList, i: int, read: ReadValues) -> Float[np.ndarray, "n c"] | None:
    """Some values of an image, evenly from all of its pixels; None where it cannot be read."""
    try:
        pixels, absent = read(images, i)
    except ImageError:  # the reader tells
        return None
    x = pixels if absent is None else pixels[~absent][None]
    x = x.reshape(-1, x.shape[2])
    x = x[:: max(1, len(x) // TAKEN)].astype(np.float64)
    x[~np.isfinite(x)] = np.nan
    return x if images.reading.channels else x.reshape(-1, 1)
