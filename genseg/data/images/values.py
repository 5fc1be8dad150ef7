"""The values of a file as it holds them: of one image of it, upright, every channel chosen."""

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from io import BufferedIOBase
from pathlib import Path
from typing import IO, cast

import numpy as np
import tifffile
from jaxtyping import Bool, Shaped
from PIL import Image, UnidentifiedImageError

from genseg.data.images.decode import (
    MOST_BYTES,
    ORIENTATION,
    TIFF_STARTS,
    bits_of,
    cv2_pixels,
    known_codec,
    orientation_of,
    refuse_large,
    upright,
)
from genseg.data.images.held import held_by_picture, held_by_shape, held_by_tiff
from genseg.data.images.planes import SHOWN, Choice, Held, combine, planes

NPY, NPZ = b"\x93NUMPY", b"PK\x03\x04"
PIXELS = ("MINISBLACK", "MINISWHITE", "RGB")  # kinds of TIFFs whose values are taken as they are
SEEN = 8  # tiles down and across that tell what a band is
PREMULTIPLIED = (
    "a TIFF whose alpha is multiplied into the colours, which is read neither by windows nor by "
    "pages or ranges; save it with one that is not, or without"
)
EXTREME = 0.5  # of an alpha's values at least so many are none or all


def held_in(file: BufferedIOBase) -> Held:
    """What a file holds. Raises ValueError for what is no image, and nearly any exception for
    damaged data."""
    start = _start(file)
    if start.startswith((NPY, NPZ)):
        x = _array(file, start)
        return held_by_shape(x.shape, x.dtype)
    if start in TIFF_STARTS:
        with tifffile.TiffFile(cast(IO[bytes], file), _multifile=False) as tiff:
            return held_by_bands(tiff)
    image = opened(file)
    return held_by_picture(image, bits_of(image))


def values_in(
    file: BufferedIOBase, held: Held, choice: Choice, image: int = 0
) -> Shaped[np.ndarray, "h w c"]:
    """The values of one image that a choice takes of a file."""
    pages, channels = list(choice.images[image]), list(choice.channels)
    start = _start(file)
    if start.startswith((NPY, NPZ)):
        x = planes(_array(file, start), held, stacked=choice.stacked)
        return combine(x[np.ix_(pages, channels)], choice.how)
    if start not in TIFF_STARTS:
        return combine(_frames(file, pages, channels), choice.how)
    with tifffile.TiffFile(cast(IO[bytes], file), _multifile=False) as tiff:
        first = tiff.pages.first
        kind = getattr(first.photometric, "name", "")
        if kind not in PIXELS and held.sizes.get("C", 1) == 1 and not choice.stacked:
            return combine(_frames(file, pages, channels), choice.how)
        if is_premultiplied(first, held, choice):
            raise ValueError(PREMULTIPLIED)
        x = _samples(tiff, held, channels if choice.stacked else pages)
        x = x.reshape(1, -1, *x.shape[-2:]) if choice.stacked else x[:, channels]
        return upright(combine(x, choice.how), first.tags.valueof(ORIENTATION, 1))


def is_premultiplied(page: tifffile.TiffPage, held: Held, choice: Choice) -> bool:
    """Whether a TIFF becomes a picture by an alpha that is multiplied into its colours."""
    return choice.plain and held.alpha and tuple(page.extrasamples[:1]) == (1,)


def absent(x: Shaped[np.ndarray, "h w c"], nodata: float | None) -> Bool[np.ndarray, "h w"] | None:
    """Pixels without a value in any channel: NaN, or the value that stands for none; None where
    there are none."""
    gone = np.zeros(x.shape, bool)
    if x.dtype.kind == "f":
        gone |= np.isnan(x)
    if nodata is not None and np.isfinite(nodata):
        gone |= x == nodata
    found = gone.all(2) if nodata is not None else gone.any(2)
    return np.asarray(found) if found.any() else None


def _start(file: BufferedIOBase) -> bytes:
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    return NPY if start == NPY[:4] else start


def _array(file: BufferedIOBase, start: bytes) -> Shaped[np.ndarray, "*shape"]:
    """The array of a .npy, mapped and not read; or the only one of a .npz. Raises ValueError."""
    if start == NPY:
        name = getattr(file, "name", None)
        if isinstance(name, str | Path):
            return np.asarray(np.load(name, mmap_mode="r", allow_pickle=False))
        return np.asarray(np.load(file, allow_pickle=False))
    try:
        with np.load(file, allow_pickle=False) as held:
            if len(held.files) == 1:
                return np.asarray(held[held.files[0]])
            names = ", ".join(held.files[:SHOWN])
            raise ValueError(f"it holds {len(held.files)} arrays ({names}): save the image alone")
    except zipfile.BadZipFile as error:
        raise ValueError(f"a damaged .npz: {error}") from None


def opened(file: BufferedIOBase) -> Image.Image:
    """What PIL makes of a file. Raises ValueError."""
    file.seek(0)
    try:
        return Image.open(cast(IO[bytes], file))
    except UnidentifiedImageError:
        file.seek(0)
        if not (start := file.read(8)):
            raise ValueError("the file is empty") from None
        raise ValueError(f"no image format that can be read; it starts with {start!r}") from None


def _frames(
    file: BufferedIOBase, pages: Sequence[int], channels: Sequence[int]
) -> Shaped[np.ndarray, "p c h w"]:
    return np.stack([np.moveaxis(_frame(file, page), -1, 0)[channels] for page in pages])


def _frame(file: BufferedIOBase, page: int) -> Shaped[np.ndarray, "h w c"]:
    """A frame of what PIL reads: its channels as `held_by_picture` counts them, upright."""
    image = opened(file)
    image.seek(page)
    refuse_large(image.width * image.height * 4)
    deep = image.mode in ("RGB", "RGBA", "LA") and bits_of(image) == 16 and image.format == "PNG"
    image.load()
    turn = orientation_of(image)
    if deep:
        file.seek(0)
        x = cv2_pixels(file.read())
        x = x[..., [0, 3]] if image.mode == "LA" else x
    elif image.mode == "1":
        x = np.asarray(image)
    elif image.mode.startswith(("I", "F")):
        x = np.asarray(image, np.uint16 if image.mode == "I" else None)
    else:
        grey, alpha = image.mode in ("L", "LA", "La"), image.has_transparency_data
        x = np.asarray(
            image.convert(("LA" if alpha else "L") if grey else ("RGBA" if alpha else "RGB"))
        )
    return upright(x.reshape(*x.shape[:2], -1), turn)


def _samples(
    tiff: tifffile.TiffFile, held: Held, pages: list[int]
) -> Shaped[np.ndarray, "p c h w"]:
    """All channels of some pages of a TIFF; only these are decoded where each is stored apart."""
    series, first = tiff.series[0], tiff.pages.first
    names = str(getattr(first.compression, "name", first.compression))
    each = held.sizes.get("C", 1)
    outer = [a for a in held.axes if a not in "YXS"]
    apart = len(series.pages) == held.pages * each and ("C" not in outer or outer[-1] == "C")
    bytes_of_page = np.dtype(held.dtype).itemsize * int(np.prod(held.shape)) // held.pages
    refuse_large(bytes_of_page * (len(pages) if apart else held.pages))
    _refuse_truncated(tiff)
    if not apart:
        with known_codec(names):
            return planes(series.asarray(), held)[pages]
    with known_codec(names):
        wanted = [series.pages[p * each + c] for p in pages for c in range(each)]
        x = np.stack([page.asarray() for page in wanted if page is not None])
    inner = [a for a in held.axes if a in "YXS"]
    x = np.moveaxis(x, [1 + inner.index("Y"), 1 + inner.index("X")], [-2, -1])
    return x.reshape(len(pages), -1, *x.shape[-2:])


def _refuse_truncated(tiff: tifffile.TiffFile) -> None:
    """Raise ValueError where the file ends before its last pixels: tifffile would fill up with
    zeros."""
    series, end = tiff.series[0], tiff.filehandle.size
    if series.dataoffset is not None:
        ends = [series.dataoffset + series.nbytes]
    else:
        ends = [
            at + size
            for page in series.pages
            if page is not None
            for at, size in zip(page.dataoffsets, page.databytecounts, strict=True)
            if size
        ]
    if max(ends, default=0) > end:
        raise ValueError("the file is truncated: it ends before its last pixels")


def held_by_bands(tiff: tifffile.TiffFile) -> Held:
    """What a TIFF holds. GDAL and others declare a fourth band, such as near infrared, to be
    transparency. It is none where most of its values are neither nothing nor all; some of it is
    looked at, all over the image."""
    held = held_by_tiff(tiff)
    if not held.alpha or not tiff.is_geotiff or held.page_axes:
        return held
    band = _some_of_last_band(tiff.pages.first)
    top = 1 if band.dtype.kind == "f" else np.iinfo(band.dtype).max
    if np.isin(band, (0, top)).mean() >= EXTREME:
        return held
    return replace(held, alpha=False, colours=0)


def _some_of_last_band(page: tifffile.TiffPage) -> Shaped[np.ndarray, "n"]:
    """Values of the last channel of a page: of some rows, tiles or strips."""
    planar = page.planarconfig == 2 and page.samplesperpixel > 1
    down, across, _, _ = grid_of(page)
    if page.is_memmappable:
        h, w, samples = page.imagelength, page.imagewidth, page.samplesperpixel
        dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
        row = w * dtype.itemsize * (1 if planar else samples)
        begin = page.dataoffsets[0] + (h * row * (samples - 1) if planar else 0)
        found, handle = list[Shaped[np.ndarray, "_"]](), page.parent.filehandle
        for y in _spread(h, SEEN**2):
            with handle.lock:
                handle.seek(begin + y * row)
                found.append(np.frombuffer(handle.read(row), dtype))
        values = np.concatenate(found)
        return values if planar else values[samples - 1 :: samples]
    first = (page.samplesperpixel - 1) * down * across if planar else 0
    places = [
        (y, x)
        for y in _spread(down, SEEN if across > 1 else SEEN**2)
        for x in _spread(across, SEEN)
    ]
    parts = [segment_of(page, first + y * across + x)[..., -1].ravel() for y, x in places]
    return np.concatenate(parts)


def _spread(count: int, most: int) -> list[int]:
    """At most so many of some places, evenly, both ends among them."""
    return sorted(set(np.linspace(0, count - 1, min(count, most)).astype(int).tolist()))


def frame_of(page: tifffile.TiffPage | tifffile.TiffFrame) -> tifffile.TiffPage:
    """The page that says how a page is stored."""
    assert page.keyframe is not None
    return page.keyframe


def grid_of(frame: tifffile.TiffPage) -> tuple[int, int, int, int]:
    """How many tiles or strips lie below and beside each other in a plane; their rows and
    columns."""
    h, w = frame.imagelength, frame.imagewidth
    if frame.is_tiled:
        return (
            -(-h // frame.tilelength),
            -(-w // frame.tilewidth),
            frame.tilelength,
            frame.tilewidth,
        )
    rows = min(frame.rowsperstrip, h)
    size = rows * w * frame.samplesperpixel * np.dtype(frame.dtype).itemsize
    if size > MOST_BYTES and not frame.is_memmappable:
        raise ValueError(
            f"a TIFF of strips of {size / 2**30:.1f} GiB, which are decoded whole; save it with "
            "tiles"
        )
    return -(-h // rows), 1, rows, w


def segment_of(
    page: tifffile.TiffPage | tifffile.TiffFrame, number: int
) -> Shaped[np.ndarray, "h w s"]:
    """A tile or strip of a page. Raises ValueError for a file that ends before it, and where
    nothing decodes it."""
    frame, handle = frame_of(page), page.parent.filehandle
    offset, size = page.dataoffsets[number], page.databytecounts[number]
    if offset + size > handle.size:
        raise ValueError("the file is truncated: it ends before its last pixels")
    data = None
    if size:
        with handle.lock:  # threads share the place in the file
            handle.seek(offset)
            data = handle.read(size)
    more = {"jpegtables": page.jpegtables, "jpegheader": frame.jpegheader}
    jpeg = frame.compression in (6, 7, 34892, 33007)
    try:
        values, _, shape = frame.decode(data, number, **(more if jpeg else {}))
    except ImportError as error:
        raise ValueError(f"nothing here decodes it ({error}): pip install imagecodecs") from None
    if values is None:
        return np.full(shape[1:], frame.nodata, frame.dtype)
    assert values.shape[0] == 1, "a page of volumes"
    return np.asarray(values[0])
