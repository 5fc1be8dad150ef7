"""From the bytes of an image file, whatever its kind, to upright RGB pixels of 8 bits."""

import errno
import io
import os
import stat
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import tifffile
from jaxtyping import Shaped, UInt8
from PIL import Image, UnidentifiedImageError

ORIENTATION, BITS_PER_SAMPLE, SAMPLE_FORMAT = 0x0112, 258, 339  # numbers of tags in EXIF and TIFF
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SIDEWAYS = (5, 6, 7, 8)  # orientations in which the file's rows are the scene's columns
COLOURS = {
    **{"1": "black and white", "L": "grey", "I": "grey", "F": "grey", "P": "palette", "PA": "palette + alpha"},
    **{"LA": "grey + alpha", "La": "grey + alpha", "RGBA": "RGB + alpha", "RGBa": "RGB + alpha", "RGBX": "RGB"},
}  # of PIL's modes; the others have telling names
REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def regular(path: str, flags: int) -> int:
    """An opener for `open`. Raises ValueError for a pipe or a device, which may never begin or have no end."""
    number = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(number).st_mode
    if stat.S_ISREG(mode):
        return number
    os.close(number)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise ValueError("no regular file")


def read_file(path: str | Path) -> bytes:
    """The bytes of a regular file. Raises OSError, and ValueError for another kind or a name that no file has."""
    with open(path, "rb", opener=regular) as file:
        return file.read()


def rgb_pixels(data: bytes, *, short_side: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """The RGB pixels of an image file's bytes, turned upright as its EXIF says; they may be read-only.

    Transparent pixels are laid over white, the ground that cut-outs and logos are drawn for. More than 8 bits
    become 8 as `to_8bit` says. CMYK is converted without its ink profile. Of several frames it is the first.

    short_side: a picture with a longer short side is shrunk to it, by the mean over areas; 0: none is. A JPEG
        is then decoded at 1/2, 1/4 or 1/8 where that leaves twice this side or more: up to 10 times as fast, and
        the same to the eye (COCO differs by 1 level of 255 in the mean; without the factor of two by 3).

    Raises ValueError for what is no image; nearly any exception, PIL's, for damaged data.
    """
    if not data:
        raise ValueError("the file is empty")
    if (size := _plain_jpeg(data)) and (x := _jpeg_rgb(data, size, short_side)) is not None:
        return x
    tiff = data[:4] in TIFF_STARTS
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        if not tiff:
            raise ValueError(f"no image format that can be read; it starts with {data[:8]!r}") from None
        return shrunk(_tiff_rgb(data), short_side)  # colours as floats, and others that PIL does not know
    if tiff and _is_deep_tiff(image):
        return shrunk(_tiff_rgb(data), short_side)
    deep_png = image.mode in ("RGB", "RGBA", "LA") and _bits(image) == 16 and image.format == "PNG"
    image.load()  # raises where the file is truncated
    turn = _orientation(image)  # after load(), in which PIL turns a TIFF itself
    x = _rgb(_cv2_pixels(data)) if deep_png else _pil_rgb(image)
    return shrunk(_upright(x, turn), short_side)


@dataclass(frozen=True)
class Kind:
    """What the header of an image file says; width and height as it stands upright."""

    format: str
    mode: str  # colours and bits per channel
    width: int
    height: int
    frames: int = 1  # or pages, of which `rgb_pixels` takes the first


def kind_of(data: bytes) -> Kind:
    """The kind of a file of which `rgb_pixels` makes pixels. Raises what that raises."""
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page, turned = file.pages.first, file.pages.first.tags.valueof(ORIENTATION, 1) in SIDEWAYS
            colours = {1: "grey", 3: "RGB", 4: "RGB + alpha"}[page.samplesperpixel]
            size = page.imagewidth, page.imagelength
            return Kind("TIFF", f"{colours} {page.dtype}", *(size[::-1] if turned else size), len(file.pages))
    bits, turned = _bits(image), False  # PIL turns a TIFF itself; its getexif() decodes a PNG: only where needed
    if image.format != "TIFF" and (image.format != "PNG" or any(w in data for w in (b"eXIf", b"exif", b"xmp"))):
        turned = _orientation(image) in SIDEWAYS
    colours = COLOURS.get(image.mode.split(";")[0], image.mode)
    if image.has_transparency_data and "alpha" not in colours:
        colours += " + alpha"
    size = image.size[::-1] if turned else image.size
    if image.format == "MPO":  # a camera's, whose other frames are previews
        return Kind("JPEG", f"{colours} {bits} bit", *size)
    return Kind(str(image.format), f"{colours} {bits} bit", *size, _frames(image))


def _frames(image: Image.Image) -> int:
    """How many frames or pages; 1 where a damaged file hides it."""
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # damaged files make PIL's plugins raise nearly anything
        return 1


def reason_of(error: Exception) -> str:
    """Why a file cannot be read, in the words of the error or of the system; never empty."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def decoded_size(path: Path) -> tuple[int, int]:
    """Height and width of an image that can be decoded to its end. Raises ValueError with the reason for another.

    A file that stays as it is is decoded once in a process: `genseg compare` reads the same labels for every cell.
    """
    try:
        state = path.stat()
        return _decoded_size(path, state.st_mtime_ns, state.st_size)
    except Exception as error:  # damaged files make PIL's plugins raise nearly anything
        raise ValueError(reason_of(error)) from None


@cache
def _decoded_size(path: Path, changed: int, size: int) -> tuple[int, int]:
    height, width, _ = rgb_pixels(read_file(path)).shape
    return height, width


def _orientation(image: Image.Image) -> int:
    """EXIF's Orientation; 1, upright, where there is none or its block is damaged: the pixels are whole."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a SyntaxError, struct's error and others
        return 1


def _bits(image: Image.Image) -> int:
    """Bits per channel in the file; PIL's mode alone does not tell."""
    if tags := getattr(image, "tag_v2", {}):
        return int(max(tags.get(BITS_PER_SAMPLE, (1,))))
    if image.mode == "1":
        return 1
    if image.mode.startswith(("I", "F")) or ";16" in str(getattr(image, "tile", "")):
        return 32 if image.mode == "F" else 16
    return 8


def shrunk_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height after shrinking to a short side of `short_side`; nothing is enlarged, 0 leaves all."""
    short = min(width, height)
    if not short_side or short <= short_side:
        return width, height
    return round(width * short_side / short), round(height * short_side / short)


def shrunk(x: UInt8[np.ndarray, "h w 3"], short_side: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """A picture at the size that `shrunk_size` says, by the mean over areas."""
    size = shrunk_size(x.shape[1], x.shape[0], short_side)
    return x if size == x.shape[1::-1] else np.asarray(cv2.resize(x, size, interpolation=cv2.INTER_AREA))


def _plain_jpeg(data: bytes) -> tuple[int, int] | None:
    """Width and height of a whole JPEG, grey or colour, of ordinary size: OpenCV and PIL read it alike.

    None for all else. OpenCV would return a truncated one half grey without a word, and does not know CMYK's
    conventions.
    """
    if not data.startswith(b"\xff\xd8\xff") or not data.endswith(b"\xff\xd9"):
        return None
    at = 2
    while data[at : at + 1] == b"\xff" and at + 10 < len(data):
        kind, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = (int.from_bytes(data[at + n : at + n + 2]) for n in (5, 7))
            ordinary = data[at + 4] == 8 and 0 < width * height <= (Image.MAX_IMAGE_PIXELS or np.inf)
            return (width, height) if ordinary and data[at + 9] in (1, 3) else None
        at += 2 + length
    return None


def _jpeg_rgb(data: bytes, size: tuple[int, int], short_side: int) -> UInt8[np.ndarray, "h w 3"] | None:
    """By OpenCV, in half of PIL's time; it turns by EXIF itself. None where it fails."""
    step = max(k for k in REDUCED if k == 1 or (short_side and min(size) >= 2 * k * short_side))
    x = cv2.imdecode(np.frombuffer(data, np.uint8), REDUCED[step])
    if x is None:
        return None
    width, height = size if x.shape[1] == -(-size[0] // step) else size[::-1]
    wanted = shrunk_size(width, height, short_side)
    if wanted != x.shape[1::-1]:
        x = cv2.resize(x, wanted, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(x, cv2.COLOR_BGR2RGB, dst=x)


def _pil_rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    if image.mode.startswith(("I", "F")):  # "I" has 32 bits, of which PNG and PGM use 16
        return _rgb(np.asarray(image, np.uint16 if image.mode == "I" else None))
    if image.has_transparency_data:
        return _rgb(np.asarray(image.convert("RGBA")))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _is_deep_tiff(image: Image.Image) -> bool:
    """More than 8 bits, or signed, or float: kinds that PIL cuts to 8 bits, misreads or does not know."""
    return _bits(image) > 8 or set(getattr(image, "tag_v2", {}).get(SAMPLE_FORMAT, (1,))) != {1}


def _tiff_rgb(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The first page of a deep TIFF. Raises ValueError for a page that is neither grey nor RGB."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        turn = page.tags.valueof(ORIENTATION, 1)
        kind, planar = getattr(page.photometric, "name", page.photometric), page.planarconfig == 2
        samples, fourth = page.samplesperpixel, page.extrasamples[:1]
        pixels, limit = page.imagewidth * page.imagelength, 2 * (Image.MAX_IMAGE_PIXELS or 0)
        if limit and pixels > limit:
            raise ValueError(f"{pixels} pixels; the limit against decompression bombs is {limit}")
        if kind not in ("MINISBLACK", "MINISWHITE", "RGB") or samples not in (1, 3, 4) or fourth == (1,):
            raise ValueError(
                f"a TIFF of {page.dtype}, {kind} with {samples} channels; save it as grey, RGB or RGB with "
                "alpha that is not multiplied into the colours"
            )
        try:
            x = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            x, planar = _cv2_pixels(data), False  # LZW and others, for which tifffile wants a further package
    if samples > 1:
        x = np.moveaxis(x, 0, -1) if planar else x
        x = x if fourth in ((), (2,)) else x[..., :3]  # 0: something else than alpha
    eight = _rgb(x)
    return _upright(255 - eight if kind == "MINISWHITE" else eight, turn)


def _cv2_pixels(data: bytes) -> Shaped[np.ndarray, "h w *c"]:
    """Grey, RGB or RGBA with all bits, not turned."""
    x = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if x is None:
        raise ValueError("OpenCV cannot decode it")
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}
    return x if x.ndim == 2 else x[..., order[x.shape[2]]]


def _rgb(x: Shaped[np.ndarray, "h w *c"]) -> UInt8[np.ndarray, "h w 3"]:
    """Grey, RGB or RGBA of any depth as RGB of 8 bits, over white."""
    if x.ndim == 2:
        return np.repeat(to_8bit(x)[..., None], 3, axis=2)
    colour = to_8bit(x[..., :3])
    if x.shape[2] == 3:
        return colour
    top = 1 if x.dtype.kind == "f" else np.iinfo(x.dtype).max
    alpha = np.rint(x[..., 3:] * (255 / top)).astype(np.uint16)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def to_8bit(x: Shaped[np.ndarray, "h w *c"]) -> UInt8[np.ndarray, "h w *c"]:
    """Pixels of any depth as 8 bits: [low, high] goes linearly to [0, 255], the same for all channels.

    uint16: the whole range, as photographs use it; float: [0, 1], when all values lie in it. Cameras write
    10 to 14 bits into 16, and microscopes less: a picture within the lowest quarter of the range, and all
    other types, whose range says nothing, have their own percentiles 0.1 and 99.9 as low and high (their
    extremes where those coincide). NaN and infinity become low.
    """
    if x.dtype == np.uint8:
        return x
    if x.dtype == bool:
        return x.astype(np.uint8) * np.uint8(255)
    values = x.astype(np.float64 if x.dtype.itemsize > 2 else np.float32)
    finite = np.isfinite(values)
    seen = values[finite] if not finite.all() else values.ravel()
    if not seen.size:
        return np.zeros(x.shape, np.uint8)
    least, most = float(seen.min()), float(seen.max())
    sample = seen[:: max(1, seen.size // 1_000_000)]  # percentiles of a million pixels are as good
    low, high = (float(v) for v in np.percentile(sample, (0.1, 99.9)))
    in_unit = x.dtype.kind == "f" and least >= 0 and most <= 1
    top = 65535.0 if x.dtype == np.uint16 else 1.0 if in_unit else None
    if high <= low:
        low, high = least, most
    if top and (high >= top / 4 or high <= low):
        low, high = 0.0, top
    scaled = (np.where(finite, values, low) - low) * (255 / (high - low or 1.0))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def _upright(x: UInt8[np.ndarray, "h w 3"], turn: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """Undo EXIF's Orientation, 1 to 8: which sides of the scene the file's row 0 and column 0 are."""
    if turn in SIDEWAYS:  # the file's rows are the scene's columns
        x = x.swapaxes(0, 1)
    if turn in (3, 4, 7, 8):  # the file begins at the bottom
        x = x[::-1]
    if turn in (2, 3, 6, 7):  # the file begins at the right
        x = x[:, ::-1]
    return np.ascontiguousarray(x)
