"""The values that a file holds, of every channel, window by window: for measuring."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from genseg.core.reading import Reading, current
from genseg.data.images.counted import held_by_file
from genseg.data.images.decode import TIFFS, reason_of
from genseg.data.images.files import SLIDES
from genseg.data.images.original import Original, all_channels, channel_names, read_original
from genseg.data.images.source import ImageError
from genseg.data.images.values import absent
from genseg.data.regions.georeference import pixel_size
from genseg.data.regions.image import RegionImage
from genseg.data.regions.opened import by_windows, open_regions
from genseg.data.regions.scope import values_at
from genseg.data.regions.tiff import NoWindows, TiffRegions

MOST_WHOLE = 2**28  # bytes of all values of a TIFF; one that holds more is read by windows
Window = tuple[int, int, int, int]  # top, left, height, width


@dataclass(frozen=True)
class Originals:
    """size: height and width; pixel_size: micrometres, down and across, where the file says it
    window: top, left, height and width to the values there; raises ImageError"""

    size: tuple[int, int]
    pixel_size: tuple[float, float] | None
    window: Callable[[Window], Original]


def open_originals(path: Path, *, image: int = 0, every: bool = False) -> Originals:
    """The values of an image, as `read_original` gives them of the whole. Large TIFFs, zarrs and
    slides are not decoded whole, but TIFFs that have no windows. Raises ImageError."""
    if by_windows(path) or _is_much(path):
        opened = _windows_of(path, _reading(path, every=every), image)
        if opened is not None:
            return Originals(opened.levels[0], opened.pixel_size, partial(_window, opened))
    whole = read_original(path, image=image, every=every)
    height, width = whole.pixels.shape[:2]
    return Originals((height, width), pixel_size(path), partial(_part, whole))


def _windows_of(path: Path, reading: Reading, image: int) -> RegionImage | None:
    """The windows of a file; None: a TIFF that has none."""
    if path.suffix.lower() not in TIFFS:
        return open_regions(path, reading, image)
    try:
        return TiffRegions(path, reading.selection, image)
    except NoWindows:
        return None
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes tifffile raise nearly anything
        raise ImageError(f"{path}: {reason_of(error)}") from error


def _is_much(path: Path) -> bool:
    held = held_by_file(path, plain=True) if path.suffix.lower() in TIFFS else None
    if held is None:
        return False
    return np.dtype(held.dtype).itemsize * math.prod(held.shape) > MOST_WHOLE


def _reading(path: Path, *, every: bool) -> Reading:
    """The words that take what `read_original` takes."""
    words = current()
    if path.suffix.lower() in SLIDES:  # red, green and blue
        return Reading("" if every else words.channels, words.pages)
    held = held_by_file(path, plain=True)
    wanted = words.selection
    if held is not None:
        wanted = all_channels(held, wanted, every=every)
    return Reading(",".join(map(str, wanted.channels)), wanted.pages)


def _window(image: RegionImage, window: Window) -> Original:
    x = values_at(image, window)
    names = channel_names(image.held, image.choice)
    return Original(x, names, absent(x, image.held.nodata))


def _part(whole: Original, window: Window) -> Original:
    top, left, height, width = window
    place = slice(top, top + height), slice(left, left + width)
    gone = None if whole.absent is None else whole.absent[place]
    return Original(whole.pixels[place], whole.channels, gone)
