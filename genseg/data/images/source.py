"""Decoded images, read from files or from the cache; another one stands in for a broken one."""

import os
from collections.abc import Callable
from functools import cache, lru_cache
from io import BufferedIOBase
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from genseg.core.reading import Reading, current
from genseg.data.images.decode import (
    MOST_BYTES,
    TIFFS,
    reason_of,
    regular,
    resize,
    rgb_pixels,
    shrunk,
)
from genseg.data.images.depth import as_pixels
from genseg.data.images.files import ImageList
from genseg.data.images.held import ARRAYS, may_hold_more
from genseg.data.images.planes import Choice, Held, check_image, choose
from genseg.data.images.values import absent, held_in, values_in

MOST_ABSENT = 2**28  # bytes of masks that a source keeps
DEEP = (".npy", ".npz", *TIFFS)  # suffixes of files that may lack values


class ImageError(ValueError):
    """An image that cannot be read; the message says which and why."""


def decode(
    path: str | Path, *, short_side: int = 0, image: int = 0, reading: Reading | None = None
) -> UInt8[np.ndarray, "h w c"]:
    """The pixels of an image file, upright; do not write into them. They are RGB, as `rgb_pixels`
    makes them, or the channels that are chosen.

    short_side: shrink to this short side where it is longer; 0: never
    image: which one of the file, from 1, where several are chosen; 0: the only one
    reading: how it is read; None: as is said now

    Raises ImageError, with the reason, for a file that is missing, empty, truncated, no image,
    larger than PIL's limit against decompression bombs, or that holds more than is chosen.
    """
    wanted = current() if reading is None else reading
    try:
        with open(path, "rb", opener=regular) as file:
            return _pixels(file, wanted, image, short_side)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes PIL's plugins raise nearly anything
        raise ImageError(f"{path}: {reason_of(error)}") from error


def _pixels(
    file: BufferedIOBase, wanted: Reading, image: int, short_side: int
) -> UInt8[np.ndarray, "h w c"]:
    size = os.fstat(file.fileno()).st_size
    if not wanted.said and image <= 1 and not may_hold_more(file):
        if size > MOST_BYTES:
            raise ValueError(
                f"a file of {size / 2**30:.1f} GiB, which is not decoded whole: genseg generate, "
                "predict, evaluate and pretrain read a TIFF of more than 100 million pixels by "
                "windows; cut another one into tiles"
            )
        file.seek(0)
        return rgb_pixels(file.read(), short_side=short_side)
    held, choice = _chosen(file, wanted, image)
    n = max(image, 1) - 1
    file.seek(0)
    array = file.read(4) in ARRAYS
    first = choice.plain and choice.images[n] == (0,)
    lacking = held.nodata is not None and held.dtype != "uint8"
    if first and size <= MOST_BYTES and not (array or wanted.ranges or lacking):
        file.seek(0)
        return rgb_pixels(file.read(), short_side=short_side)
    x = values_in(file, held, choice, n)
    out = as_pixels(
        x,
        picture=choice.plain,
        together="S" in held.axes and not choice.stacked,
        ranges=wanted.ranges or held.whole_range,
        absent=absent(x, held.nodata),
    )
    return shrunk(255 - out if held.inverted else out, short_side)


def _chosen(file: BufferedIOBase, wanted: Reading, image: int) -> tuple[Held, Choice]:
    held = held_in(file)
    choice = choose(held, wanted.selection)
    check_image(held, choice, image)
    return held, choice


def absent_pixels(
    path: Path, *, image: int = 0, reading: Reading | None = None
) -> Bool[np.ndarray, "h w"] | None:
    """Where an image has no value (NaN, or the file's nodata); None where it has one everywhere.
    Raises ImageError as `decode` does."""
    wanted = current() if reading is None else reading
    try:
        with open(path, "rb", opener=regular) as file:
            held, choice = _chosen(file, wanted, image)
            if held.nodata is None and not held.dtype.startswith("float"):
                return None
            x = values_in(file, held, choice, max(image, 1) - 1)
            return absent(x, held.nodata)
    except MemoryError:
        raise
    except Exception as error:
        raise ImageError(f"{path}: {reason_of(error)}") from error


def absent_of(images: ImageList, i: int) -> Bool[np.ndarray, "h w"] | None:
    """Where the i-th image of a list has no value, in the pixels of its file or window; None where
    it has one everywhere, or cannot be read."""
    if images.path(i).suffix.lower() not in DEEP:
        return None
    try:
        found = absent_pixels(images.path(i), image=images.page(i), reading=images.reading)
    except ImageError:  # whoever reads it tells
        return None
    part = None if images.windows is None else images.windows[i]
    if found is None or part is None:
        return found
    top, left, height, width = part
    window = found[top : top + height, left : left + width]
    return window if window.any() else None


def decoded_size(path: Path, image: int = 0, reading: Reading | None = None) -> tuple[int, int]:
    """Height and width of an image that can be decoded to its end; image, reading: as for `decode`.
    Raises ValueError with the reason for another.

    A file that stays as it is is decoded once in a process: `genseg compare` reads the same labels
    for every cell.
    """
    try:
        wanted = current() if reading is None else reading
        return _decoded_size(path, image, wanted, state_of(path))
    except ImageError as error:
        raise ValueError(str(error).removeprefix(f"{path}: ")) from None


@cache
def _decoded_size(
    path: Path, image: int, wanted: Reading, state: tuple[int, int]
) -> tuple[int, int]:
    height, width, _ = decode(path, image=image, reading=wanted).shape
    return height, width


def state_of(path: Path) -> tuple[int, int]:
    """When a file was written, and its bytes: another state is another image. Raises ImageError for
    a missing file."""
    try:
        state = path.stat()
    except OSError as error:
        raise ImageError(f"{path}: {reason_of(error)}") from error
    return state.st_mtime_ns, state.st_size


def decode_image(images: ImageList, i: int, *, short_side: int = 0) -> UInt8[np.ndarray, "h w c"]:
    """The i-th image of a list, as `decode` gives it: its window of the file, where it has one."""
    told: dict[str, Any] = {"image": images.page(i), "reading": images.reading}
    window = None if images.windows is None else images.windows[i]
    if window is None:
        return decode(images.path(i), short_side=short_side, **told)
    top, left, height, width = window
    path = images.path(i)
    whole = _whole(path, images.page(i), images.reading, state_of(path))
    if top + height > whole.shape[0] or left + width > whole.shape[1]:
        raise ImageError(
            f"{images.path(i)}: it has {whole.shape[0]} x {whole.shape[1]} pixels, and a box lies "
            "outside of them"
        )
    part = whole[top : top + height, left : left + width]
    return np.ascontiguousarray(shrunk(part, short_side))


@lru_cache(maxsize=2)
def _whole(
    path: Path, image: int, wanted: Reading, state: tuple[int, int]
) -> UInt8[np.ndarray, "h w c"]:
    """A whole image, which neighbours in a list of windows share."""
    return decode(path, image=image, reading=wanted)


AbsentOf = Callable[[ImageList, int], Bool[np.ndarray, "h w"] | None]


@runtime_checkable
class ReadImage(Protocol):
    """Reads an image of a list, as `decode_image` does."""

    def __call__(
        self, images: ImageList, i: int, *, short_side: int = 0
    ) -> UInt8[np.ndarray, "h w c"]: ...


@runtime_checkable
class Decoded(Protocol):
    """What ImageSource asks of images that were decoded before."""

    broken: dict[int, str]  # index -> reason

    def image(self, i: int) -> UInt8[np.ndarray, "h w c"]:
        """The pixels of the i-th image, which is none of the broken."""
        ...


@runtime_checkable
class Readable(Protocol):
    """Pixels by index, as an ImageSource gives them."""

    def read(self, i: int) -> tuple[UInt8[np.ndarray, "h w c"], int]:
        """The i-th image, and the index of the image that it is."""
        ...


class _Packed(NamedTuple):
    """A mask, eight pixels to a byte."""

    bits: UInt8[np.ndarray, "n"]
    shape: tuple[int, ...]

    def mask(self) -> Bool[np.ndarray, "h w"]:
        return np.unpackbits(self.bits, count=int(np.prod(self.shape))).reshape(self.shape) > 0


class ImageSource:
    """Reads images by index, from their files or from `cached`; the next one stands in for a broken
    one.

    It may be pickled. What proved broken stays so for the life of the object: see `broken`.
    """

    def __init__(
        self,
        images: ImageList,
        cached: Decoded | None,
        read: ReadImage = decode_image,
        absent: AbsentOf = absent_of,
    ) -> None:
        self.images, self.cached = images, cached
        self.read_image, self.absent_of = read, absent
        known = cached.broken if cached is not None else {}
        # with path and reason
        self.broken = {i: f"{images.path(i)}: {reason}" for i, reason in known.items()}
        self._absent: dict[int, _Packed | None] = {}
        self._absent_bytes = 0

    def __len__(self) -> int:
        return len(self.images)

    @property
    def channels(self) -> int:
        """Of each image."""
        return self.images.reading.inputs

    def read(self, i: int) -> tuple[UInt8[np.ndarray, "h w c"], int]:
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

    def absent(self, i: int) -> Bool[np.ndarray, "h w"] | None:
        """Where the i-th image, as `read` gives it, has no value; None: it has one everywhere."""
        if i in self._absent:
            known = self._absent[i]
            return None if known is None else known.mask()
        found = self.absent_of(self.images, i)
        image = None if found is None else self._get(i)
        if found is not None and image is not None and found.shape != image.shape[:2]:
            size = image.shape[1::-1]
            found = resize(np.uint8(255) * found[..., None], size, cv2.INTER_AREA)[..., 0] > 0
        kept = None if found is None else _Packed(np.packbits(found), found.shape)
        size_of = 0 if kept is None else kept.bits.size
        if self._absent_bytes + size_of <= MOST_ABSENT:
            self._absent_bytes += size_of
            self._absent[i] = kept
        return found

    def reason(self, i: int) -> str:
        """Why the i-th image cannot be read, with its path."""
        self._get(i)
        return self.broken.get(i, f"{self.images.path(i)}: it could be read again later")

    def _get(self, i: int) -> UInt8[np.ndarray, "h w c"] | None:
        if i in self.broken:
            return None
        if self.cached is not None:
            return self.cached.image(i)
        try:
            return self.read_image(self.images, i)
        except ImageError as error:
            self.broken[i] = str(error)
            return None
