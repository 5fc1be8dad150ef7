"""From a file to its windows: which reader knows it, and which files are read by windows."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import tifffile
from jaxtyping import Bool, UInt8

from genseg.core.reading import Reading, current
from genseg.data.images.decode import LARGE, TIFFS, ZARR, reason_of, shrunk
from genseg.data.images.files import SLIDES, ImageList, Window
from genseg.data.images.planes import Choice, Held
from genseg.data.images.ranges import Values, values_of
from genseg.data.images.source import (
    Decoded,
    ImageError,
    ImageSource,
    absent_of,
    decode,
    decode_image,
    state_of,
)
from genseg.data.images.values import absent
from genseg.data.regions.area import Pixels
from genseg.data.regions.georeference import mapping_in, pixel_size_on
from genseg.data.regions.image import Reduced, RegionImage, Sizes, checked_window
from genseg.data.regions.scene import Scene
from genseg.data.regions.scope import Scope, scene_of, values_at
from genseg.data.regions.slide import SlideRegions
from genseg.data.regions.tiff import NoWindows, TiffRegions
from genseg.data.regions.zarr import ZarrRegions

WINDOW = 512  # pixels: what is trained on is as large as what generation shrinks images to


def is_large(height: int, width: int) -> bool:
    """Whether an image of that size is not held whole."""
    return height * width > LARGE


def by_windows(path: Path) -> bool:
    """Whether a file is read by windows: a TIFF of more than LARGE pixels, a zarr, a slide."""
    if path.suffix.lower() in TIFFS:
        try:
            with tifffile.TiffFile(path) as file:
                page = file.pages.first
                return is_large(page.imagelength, page.imagewidth)
        except Exception:  # a damaged file makes tifffile raise nearly anything
            return False
    return path.suffix.lower() in (*SLIDES, ZARR)


def refuse_whole(paths: Sequence[Path], why: str) -> None:
    """Raise ValueError for the first image that is read by windows, for what needs it whole."""
    if (large := next((p for p in paths if by_windows(p)), None)) is not None:
        raise ValueError(f"{large} is read by windows, and {why}; leave it out")


def open_regions(
    path: Path, reading: Reading | None = None, image: int = 0, *, whole: bool = False
) -> RegionImage:
    """The windows of a file; one that no reader of windows knows is decoded.

    reading: which channels and pages; None: as is said now
    image: which one of the file, from 1, where several are chosen; 0: the only one
    whole: a large TIFF that has no windows is decoded, too, and not refused

    Raises ImageError, with the reason, for a file that cannot be read.
    """
    wanted = current() if reading is None else reading
    suffix = path.suffix.lower()
    try:
        if suffix == ZARR:
            return ZarrRegions(path, wanted.selection, image)
        if suffix in SLIDES:
            return SlideRegions(path, wanted.selection, image)
        if suffix in TIFFS:
            try:
                return TiffRegions(path, wanted.selection, image)
            except NoWindows:
                if by_windows(path) and not whole:
                    raise
        return ArrayRegions(decode(path, image=image, reading=wanted), path)
    except (MemoryError, ImageError):
        raise
    except Exception as error:  # a damaged file makes the readers raise nearly anything
        raise ImageError(f"{path}: {reason_of(error)}") from error


class ArrayRegions:
    """Windows of a picture in memory, of its one size; the contract of `RegionImage`."""

    levels: Sizes
    pages: tuple[int, ...] = (0,)

    def __init__(self, pixels: UInt8[np.ndarray, "h w c"], path: Path) -> None:
        self.path, self.pixels = path, pixels
        colours = pixels.shape[2] if pixels.shape[2] in (1, 3) else 0
        self.held = Held("YXS", pixels.shape, colours=colours)
        self.choice = Choice(tuple(range(pixels.shape[2])), plain=False)
        self.levels = ((pixels.shape[0], pixels.shape[1]),)
        self.on_map = mapping_in(path)
        self.pixel_size = pixel_size_on(self.on_map, path)

    def read(
        self, top: int, left: int, height: int, width: int, level: int = 0
    ) -> UInt8[np.ndarray, "height width c"]:
        """A window."""
        return self.pixels[checked_window(self.levels[level], top, left, height, width)]


def open_scene(
    path: Path,
    scope: Scope,
    folder: Path | None = None,
    *,
    reading: Reading | None = None,
    image: int = 0,
    whole: bool = False,
) -> Scene:
    """The image of a file as a scene; `reading`, `image` and `whole` as `open_regions` takes them.
    Raises ImageError for a file that cannot be read, and where the scope does not fit it."""
    wanted = current() if reading is None else reading
    windows = open_regions(path, wanted, image, whole=whole)
    # what is decoded has its ranges already
    ranges = () if isinstance(windows, ArrayRegions) else wanted.ranges
    try:
        return scene_of(windows, scope, ranges, folder)
    except (MemoryError, ImageError):
        raise
    except Exception as error:
        raise ImageError(f"{path}: {reason_of(error)}") from error


def open_small(
    path: Path, side: int, *, reading: Reading | None = None, image: int = 0
) -> tuple[Scene, tuple[int, int]]:
    """The smallest resolution of a file whose short side is `side` or more, as a scene; and height
    and width of the whole image.

    What becomes black and white is found in that resolution, so no larger one is read. `reading`
    and `image` as `open_regions` takes them. Raises ImageError for a file that cannot be read.
    """
    wanted = current() if reading is None else reading
    windows = open_regions(path, wanted, image, whole=True)
    level = max((n for n, size in enumerate(windows.levels) if min(size) >= side), default=0)
    ranges = () if isinstance(windows, ArrayRegions) else wanted.ranges
    return scene_of(Reduced(windows, level), Scope(), ranges), windows.levels[0]


def pixels_of(path: Path, image: int = 0) -> Pixels | Scene:
    """The pixels of a file; a scene where it is read by windows. Raises ImageError."""
    if by_windows(path):
        return open_scene(path, Scope(), image=image, whole=True)
    return decode(path, image=image)


def read_image(images: ImageList, i: int, *, short_side: int = 0) -> Pixels:
    """The i-th image of a list, as `decode_image` gives it; a window of a file that is read by
    windows is read alone. Raises ImageError."""
    window = None if images.windows is None else images.windows[i]
    if window is None or not by_windows(images.path(i)):
        return decode_image(images, i, short_side=short_side)
    top, left, height, width = window
    scene = _scene_of(images, i)
    part = scene[top : top + height, left : left + width]
    return np.ascontiguousarray(shrunk(part, short_side))


def absent_in(images: ImageList, i: int) -> Bool[np.ndarray, "h w"] | None:
    """Where the i-th image has no value, as `source.absent_of` says; of a file that is read by
    windows the window alone is read."""
    window = None if images.windows is None else images.windows[i]
    if window is None or not by_windows(images.path(i)):
        return absent_of(images, i)
    try:
        scene = _scene_of(images, i)
        return scene.absent(*window) if scene.absent else None
    except ImageError:  # whoever reads it tells
        return None


def window_values(images: ImageList, i: int) -> Values:
    """The values of the i-th image of a list, as `ranges.values_of` gives them; of a file that is
    read by windows the window alone is read. Raises ImageError."""
    window = None if images.windows is None else images.windows[i]
    if window is None or not by_windows(images.path(i)):
        return values_of(images, i)
    image = open_regions(images.path(i), images.reading, images.page(i))
    x = values_at(image, window)
    colours = x.shape[2] - (image.choice.plain and image.held.alpha)
    return x[..., :colours], absent(x[..., :colours], image.held.nodata)


def source_of(images: ImageList, cached: Decoded | None) -> ImageSource:
    """A source of images of which some may be windows."""
    return ImageSource(images, cached, read_image, absent_in)


def _scene_of(images: ImageList, i: int) -> Scene:
    path = images.path(i)
    return _scene(path, images.page(i), images.reading, state_of(path))


@lru_cache(maxsize=2)
def _scene(path: Path, image: int, wanted: Reading, state: tuple[int, int]) -> Scene:
    """The scene of a file in a state, which neighbours in a list of windows share."""
    return open_scene(path, Scope(), reading=wanted, image=image)


def in_windows(images: ImageList) -> ImageList:
    """The same list; each image that is read by windows is the squares of WINDOW pixels that it is
    made of, as many images. Raises ImageError where one cannot be read.

    Ordinary images beside them stay whole.
    """
    large = [by_windows(path) for path in images.paths]
    if images.windows is not None or not any(large):
        return images
    which, windows = list[int](), list[Window | None]()
    for i, cut in enumerate(large):
        if not cut:
            which.append(i)
            windows.append(None)
            continue
        height, width = open_regions(images.path(i), images.reading, images.page(i)).levels[0]
        for t in (y * WINDOW for y in range(max(1, height // WINDOW))):
            for a in (x * WINDOW for x in range(max(1, width // WINDOW))):
                which.append(i)
                windows.append((t, a, min(WINDOW, height - t), min(WINDOW, width - a)))
    return replace(
        images,
        files=tuple(images.files[i] for i in which),
        labels=None if images.labels is None else tuple(images.labels[i] for i in which),
        numbers=None,
        pages=None if images.pages is None else tuple(images.pages[i] for i in which),
        windows=tuple(windows),
    )


def looked_at(
    images: ImageList, i: int, scope: Scope, folder: Path | None = None
) -> Pixels | Scene:
    """The pixels of the i-th image; a scene where it is read by windows, or the scope asks for one.
    Raises ImageError."""
    path = images.path(i)
    if not (scope.said or by_windows(path)):
        return decode_image(images, i)
    return open_scene(path, scope, folder, reading=images.reading, image=images.page(i))
