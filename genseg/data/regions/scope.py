"""How much of images is looked at, and how closely: from a file's windows to a scene."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from genseg.data.images.decode import reason_of
from genseg.data.images.depth import as_rgb, finite, span_of, to_8bit
from genseg.data.images.source import ImageError
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


def scene_of(image: RegionImage, scope: Scope, folder: Path | None = None) -> Scene:
    """An image of a file as a scene of its own size.

    Of more than 8 bits all values are read once, to find which become black and white, as of the
    decoded image. Raises ValueError for a level that there is not, for micrometres of an image that
    does not say how large its pixels are, and for a region that is not of this image.
    """
    span = _span(image)

    def level(n: int) -> Scene:
        channels = 3 if image.choice.plain else len(image.choice.channels)
        return Scene(
            remembering(partial(_in_8_bits, image, span, n)),
            (*image.levels[n], channels),
            interest=scope.interest(image),
            every_tile=scope.every_tile,
            folder=folder,
        )

    if scope.level is None and scope.um_per_pixel is None:
        return level(0)
    n, size = _seen_at(image, scope)
    return replace(level(0), chosen=level(n).resized(size))


def _span(image: RegionImage) -> tuple[float, float] | None:
    """The values that become black and white; None where 8 bits stay as they are."""
    dtype = np.dtype(image.held.dtype)
    if dtype.itemsize == 1 and dtype.kind in "ub":
        return None
    height, width = image.levels[0]
    colours = image.held.colours if image.choice.plain else len(image.choice.channels)

    def parts() -> Iterator[Shaped[np.ndarray, "n"]]:
        rows = max(1, MOST // (width * colours))
        for top in range(0, height, rows):
            x = image.read(top, 0, min(rows, height - top), width)
            yield finite(x[..., :colours])

    return span_of(parts, dtype, 0 if dtype.kind == "f" else height * width * colours)


def _in_8_bits(
    image: RegionImage,
    span: tuple[float, float] | None,
    level: int,
    top: int,
    left: int,
    height: int,
    width: int,
) -> Pixels:
    """A window as it is in the decoded image."""
    try:
        x = image.read(top, left, height, width, level)
    except (MemoryError, ImageError):
        raise
    except Exception as error:  # damaged data make codecs raise nearly anything
        raise ImageError(f"{image.path}: {reason_of(error)}") from error
    x = as_rgb(x, span or (0.0, 255.0)) if image.choice.plain else to_8bit(x, span)
    return 255 - x if image.inverted else x


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
