"""Decoded images, read from files or from the cache; another one stands in for a broken one."""

from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from genseg.data.images.decode import read_file, reason_of, rgb_pixels, shrunk
from genseg.data.images.files import ImageList


class ImageError(ValueError):
    """An image that cannot be read; the message says which and why."""


def decode(path: str | Path, *, short_side: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """The RGB pixels of an image file, as `rgb_pixels` makes them; do not write into them.

    short_side: shrink to this short side where it is longer; 0: never

    Raises ImageError, with the reason, for a file that is missing, empty, truncated, no image, or
    larger than PIL's limit against decompression bombs.
    """
    try:
        return rgb_pixels(read_file(path), short_side=short_side)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes PIL's plugins raise nearly anything
        raise ImageError(f"{path}: {reason_of(error)}") from error


def decode_image(images: ImageList, i: int, *, short_side: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """The i-th image of a list, as `decode` gives it: its window of the file, where it has one."""
    if images.windows is None:
        return decode(images.path(i), short_side=short_side)
    top, left, height, width = images.windows[i]
    whole = _whole(images.path(i))
    if top + height > whole.shape[0] or left + width > whole.shape[1]:
        raise ImageError(
            f"{images.path(i)}: it has {whole.shape[0]} x {whole.shape[1]} pixels, and a box lies "
            "outside of them"
        )
    window = whole[top : top + height, left : left + width]
    return np.ascontiguousarray(shrunk(window, short_side))


@lru_cache(maxsize=2)
def _whole(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """A whole image, which neighbours in a list of windows share."""
    return decode(path)


@runtime_checkable
class Decoded(Protocol):
    """What ImageSource asks of images that were decoded before."""

    broken: dict[int, str]  # index -> reason

    def image(self, i: int) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels of the i-th image, which is none of the broken."""
        ...


@runtime_checkable
class Readable(Protocol):
    """Pixels by index, as an ImageSource gives them."""

    def read(self, i: int) -> tuple[UInt8[np.ndarray, "h w 3"], int]:
        """The i-th image, and the index of the image that it is."""
        ...


class ImageSource:
    """Reads images by index, from their files or from `cached`; the next one stands in for a broken
    one.

    It may be pickled. What proved broken stays so for the life of the object: see `broken`.
    """

    def __init__(self, images: ImageList, cached: Decoded | None) -> None:
        self.images, self.cached = images, cached
        known = cached.broken if cached is not None else {}
        # with path and reason
        self.broken = {i: f"{images.path(i)}: {reason}" for i, reason in known.items()}

    def __len__(self) -> int:
        return len(self.images)

    def read(self, i: int) -> tuple[UInt8[np.ndarray, "h w 3"], int]:
        """The i-th image and its index: i, or that of the next readable one (after the last comes
        the first).

        Do not write into the pixels. Raises ImageError when no image can be read, IndexError for a
        bad index.
        """
        n = len(self.images)
        if not 0 <= i < n:
            raise IndexError(f"image {i} of {n}")
        for k in range(i, i + n):
            if (image := self._get(k % n)) is not None:
                return image, k % n
        raise ImageError(
            f"none of {n} images can be read; genseg scan says why of each; the first: "
            f"{self.broken[0]}"
        )

    def reason(self, i: int) -> str:
        """Why the i-th image cannot be read, with its path."""
        self._get(i)
        return self.broken.get(i, f"{self.images.path(i)}: it could be read again later")

    def _get(self, i: int) -> UInt8[np.ndarray, "h w 3"] | None:
        if i in self.broken:
            return None
        if self.cached is not None:
            return self.cached.image(i)
        try:
            return decode_image(self.images, i)
        except ImageError as error:
            self.broken[i] = str(error)
            return None
