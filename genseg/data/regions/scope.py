"""How much of images is looked at, and how closely: from a file's windows to a scene."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from genseg.data.images.decode import reason_of
from genseg.data.images.depth import Ranges, Summary, as_pixels, finite
from genseg.data.images.source import ImageError
from genseg.data.images.values import absent
from genseg.data.regions.area import MOST, Pixels
from genseg.data.regions.image import RegionImage
from genseg.data.regions.interest import Interest, read_interest
from genseg.data.regions.scene import Scene, remembering


@dataclass(frozen=True)
class Scope:
    """How much of each image is looked at, and how closely.

    region: a file of the region of interest: polygons as GeoJSON, or a mask; None: all of it
    level: of the file's pyramid, 0 is the largest; um_per_pixel: or micrometres of a pixel's side.
        None: as the model says
    every_tile: tiles of background are looked at, too, where an image is read by windows
    """

    region: Path | None = None
    level: int | None = None
    um_per_pixel: float | None = None
    every_tile: bool = False

    def __post_init__(self) -> None:
        if self.level is not None and self.um_per_pixel is not None:
            raise ValueError("--level and --um-per-pixel both say how closely to look; give one")
        if self.level is not None and self.level < 0:
            raise ValueError(f"--level {self.level}: the whole image is level 0")
        if self.um_per_pixel is not None and not 0 < self.um_per_pixel < math.inf:
            raise ValueError(f"--um-per-pixel {self.um_per_pixel}: give micrometres, above 0")
        if self.region is not None and not self.region.is_file():
            raise ValueError(f"--region {self.region}: there is no such file")

    @property
    def said(self) -> bool:
        """Whether it asks for windows of small images, too."""
        return self != Scope(every_tile=self.every_tile)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides a result: each is None where it is not asked for."""
        region = self.region
        return {
            "region": region and hashlib.blake2b(region.read_bytes(), digest_size=8).hexdigest(),
            "level": self.level,
            "um_per_pixel": self.um_per_pixel,
            "every_tile": self.every_tile or None,
        }

    def interest(self, image: RegionImage) -> Interest | None:
        """The region in an image. Raises ValueError where it is not of this one."""
        if self.region is None:
            return None
        return read_interest(self.region, image.levels[0], image.on_map)


WHOLE = Scope()


def scene_of(
    image: RegionImage, scope: Scope, ranges: Ranges = (), folder: Path | None = None
) -> Scene:
    """An image of a file as a scene of its own size.

    ranges: values that become 0 and 255, as `as_pixels` takes them. Without them all values of an
        image of more than 8 bits are read once, to find those of the decoded image

    Raises ValueError for a level that there is not, for micrometres of an image that does not say
    how large its pixels are, and for a region that is not of this image.
    """
    told = ranges or _ranges(image)
    interest = scope.interest(image)
    may_lack = image.held.nodata is not None or image.held.dtype.startswith("float")

    def level(n: int) -> Scene:
        channels = 3 if image.choice.plain else len(image.choice.channels)
        return Scene(
            remembering(partial(_in_8_bits, image, told, n)),
            (*image.levels[n], channels),
            interest=interest,
            every_tile=scope.every_tile,
            folder=folder,
            absent=partial(_gone, image) if may_lack else None,
        )

    if scope.level is None and scope.um_per_pixel is None:
        return level(0)
    n, size = _seen_at(image, scope)
    return replace(level(0), chosen=level(n).resized(size))


def _together(image: RegionImage) -> bool:
    """Whether one range is for all channels, as `source.decode` has it."""
    return "S" in image.held.axes and not image.choice.stacked


def _absent(image: RegionImage, x: Shaped[np.ndarray, "h w c"]) -> Bool[np.ndarray, "h w"] | None:
    """Pixels without a value; in a picture NaN is the darkest, as everywhere."""
    if image.choice.plain and image.pages == (0,) and image.held.nodata is None:
        return None
    return absent(x, image.held.nodata)


def _gone(
    image: RegionImage, top: int, left: int, height: int, width: int
) -> Bool[np.ndarray, "h w"] | None:
    """Pixels of a window without a value, as `source.absent_pixels` has them."""
    return absent(values_at(image, (top, left, height, width)), image.held.nodata)


def _values(image: RegionImage) -> Iterator[list[Shaped[np.ndarray, "n"]]]:
    """All finite values of an image from its first row to the last: one part for each range."""
    height, width = image.levels[0]
    count = len(image.choice.channels) - (image.choice.plain and image.held.alpha)
    parts = [slice(0, count)] if _together(image) else [slice(n, n + 1) for n in range(count)]
    rows = max(1, MOST // (width * len(image.choice.channels)))
    for top in range(0, height, rows):
        x = values_at(image, (top, 0, min(rows, height - top), width))
        gone = _absent(image, x)
        yield [finite(x[..., p] if gone is None else x[..., p][~gone]) for p in parts]


def _ranges(image: RegionImage) -> Ranges:
    """The values that become 0 and 255, for all channels or for each; none where 8 bits stay as
    they are."""
    dtype = np.dtype(image.held.dtype)
    if dtype.itemsize == 1 and dtype.kind in "ub":
        return image.held.whole_range
    if dtype.kind == "f" or image.held.nodata is not None:
        counts = np.sum([[v.size for v in parts] for parts in _values(image)], 0).tolist()
    else:  # known without a look
        h, w = image.levels[0]
        channels = len(image.choice.channels) - (image.choice.plain and image.held.alpha)
        counts = [h * w * channels] if _together(image) else [h * w] * channels
    summaries = [Summary(n) for n in counts]
    for parts in _values(image):
        for summary, values in zip(summaries, parts, strict=True):
            summary.add(values)
    return tuple(summary.span(dtype) for summary in summaries)


def _in_8_bits(
    image: RegionImage,
    ranges: Ranges,
    level: int,
    top: int,
    left: int,
    height: int,
    width: int,
) -> Pixels:
    """A window as it is in the decoded image."""
    x = values_at(image, (top, left, height, width), level)
    out = as_pixels(
        x,
        picture=image.choice.plain,
        together=_together(image),
        ranges=ranges,
        absent=_absent(image, x),
        whole=False,
    )
    return 255 - out if image.held.inverted else out


def values_at(
    image: RegionImage, window: tuple[int, int, int, int], level: int = 0
) -> Shaped[np.ndarray, "h w c"]:
    """The values of a window: top, left, height, width. Raises ImageError, with the file's name."""
    try:
        return image.read(*window, level)
    except (MemoryError, ImageError):
        raise
    except Exception as error:  # damaged data make codecs raise nearly anything
        raise ImageError(f"{image.path}: {reason_of(error)}") from error


def _seen_at(image: RegionImage, scope: Scope) -> tuple[int, tuple[int, int]]:
    """The level that is read, and the size to which it is shrunk."""
    levels = image.levels
    if scope.level is not None:
        if scope.level >= len(levels):
            raise ValueError(f"--level {scope.level}: it has {len(levels)}, 0 to {len(levels) - 1}")
        return scope.level, levels[scope.level]
    if image.pixel_size is None:
        raise ValueError(
            f"--um-per-pixel {scope.um_per_pixel}: the file does not say how large its pixels are; "
            "give --level, or leave it out"
        )
    assert scope.um_per_pixel is not None
    factors = [scope.um_per_pixel / size for size in image.pixel_size]
    h, w = (max(1, round(n / max(f, 1))) for n, f in zip(levels[0], factors, strict=True))
    fine = [n for n, (a, b) in enumerate(levels) if a >= h and b >= w]
    return fine[-1], (h, w)
