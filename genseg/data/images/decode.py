"""From the bytes of an image file, whatever its kind, to upright RGB pixels of 8 bits."""

import errno
import io
import logging
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import tifffile
from jaxtyping import Shaped, UInt8
from PIL import Image, UnidentifiedImageError

from genseg.data.images.depth import as_rgb

MOST_BYTES = 2**30  # of decoded pixels; they are held once more while they become 8 bits
LARGE = 100_000_000  # pixels; a TIFF that has more is read by windows
ORIENTATION, BITS_PER_SAMPLE, SAMPLE_FORMAT = 0x0112, 258, 339  # numbers of tags in EXIF and TIFF
COMPRESSION, PHOTOMETRIC, SAMPLES, EXTRA_SAMPLES = 259, 262, 277, 338
ZARR = ".zarr"
TIFFS = (".tif", ".tiff")  # suffixes
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SIDEWAYS = (5, 6, 7, 8)  # orientations in which the file's rows are the scene's columns
# of PIL's modes
CHANNELS = {
    "1": 1,
    "L": 1,
    "P": 1,
    "F": 1,
    "I": 1,
    "LA": 2,
    "PA": 2,
    "RGB": 3,
    "YCbCr": 3,
    "LAB": 3,
}
REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}

# What is wrong with a file is said by an exception, with the file's name; these would say it on
# stderr, without.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
logging.getLogger("tifffile").propagate = False
# our own limit is MOST_BYTES
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # of damaged tags


def regular(path: str, flags: int) -> int:
    """An opener for `open`. Raises ValueError for a pipe or a device, which may never begin or have
    no end."""
    number = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(number).st_mode
    if stat.S_ISREG(mode):
        return number
    os.close(number)
    if stat.S_ISDIR(mode) and path.lower().endswith(ZARR):
        raise ValueError(
            "a zarr, which is read by windows: genseg generate, predict, measure, embed, group, "
            "evaluate and pretrain do; for other commands save it as TIFF, in tiles where it is "
            "large"
        )
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise ValueError("no regular file")


def read_file(path: str | Path) -> bytes:
    """The bytes of a regular file. Raises OSError, and ValueError for another kind or a name that
    no file has."""
    with open(path, "rb", opener=regular) as file:
        return file.read()


def rgb_pixels(data: bytes, *, short_side: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """The RGB pixels of an image file's bytes, turned upright as its EXIF says; they may be
    read-only.

    Transparent pixels are laid over white, the ground that cut-outs and logos are drawn for; a
    picture that is wholly transparent is refused, but for a BMP, whose alpha is then unused. More
    than 8 bits become 8 as `to_8bit` says. CMYK is converted without its ink profile. Of several
    frames it is the first. XMP's Orientation does not count: browsers and cameras go by EXIF's
    alone.

    short_side: a picture with a longer short side is shrunk to it, by the mean over areas; 0: none
        is. A JPEG is then decoded at 1/2, 1/4 or 1/8 where that leaves twice this side or more: up
        to 10 times as fast, and the same to the eye (COCO differs by 1 level of 255 on average;
        without the factor of two by 3).

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
            raise ValueError(
                f"no image format that can be read; it starts with {data[:8]!r}"
            ) from None
        # colours as floats, and others that PIL does not know
        return shrunk(_tiff_rgb(data), short_side)
    if tiff and _is_for_tifffile(image):
        return shrunk(_tiff_rgb(data), short_side)
    deep_png = (
        image.mode in ("RGB", "RGBA", "LA") and bits_of(image) == 16 and image.format == "PNG"
    )
    channels = CHANNELS.get(image.mode.split(";")[0], 4)
    refuse_large(
        image.width
        * image.height
        * channels
        * (2 if deep_png else 4 if image.mode in ("I", "F") else 1)
    )
    image.load()  # raises where the file is truncated
    turn = orientation_of(image)  # after load(), in which PIL turns a TIFF itself
    x = as_rgb(cv2_pixels(data)) if deep_png else _pil_rgb(image)
    return shrunk(upright(x, turn), short_side)


def reason_of(error: Exception) -> str:
    """Why a file cannot be read, in the words of the error or of the system; never empty."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def orientation_of(image: Image.Image) -> int:
    """EXIF's Orientation; 1, upright, where there is none or its block is damaged: the pixels are
    whole."""
    for name in ("xmp", "XML:com.adobe.xmp"):  # PIL would take XMP's where EXIF has none
        image.info.pop(name, None)
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a SyntaxError, struct's error and others
        return 1


def bits_of(image: Image.Image) -> int:
    """Bits per channel in the file; PIL's mode alone does not tell."""
    if tags := getattr(image, "tag_v2", {}):
        return int(max(tags.get(BITS_PER_SAMPLE, (1,))))
    if image.mode == "1":
        return 1
    if image.mode.startswith(("I", "F")) or ";16" in str(getattr(image, "tile", "")):
        return 32 if image.mode == "F" else 16
    return 8


def shrunk_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height after shrinking to a short side of `short_side`; nothing is enlarged, 0
    leaves all."""
    short = min(width, height)
    if not short_side or short <= short_side:
        return width, height
    return round(width * short_side / short), round(height * short_side / short)


def resize(
    x: Shaped[np.ndarray, "h w c"], size: tuple[int, int], how: int
) -> Shaped[np.ndarray, "_ _ c"]:
    """cv2.resize to (width, height) for any number of channels: it drops the axis of a single one,
    and averages over areas for up to four."""
    if how == cv2.INTER_AREA and x.shape[2] > 4:
        parts = [x[..., c : c + 4] for c in range(0, x.shape[2], 4)]
        return np.concatenate([resize(part, size, how) for part in parts], axis=2)
    return cv2.resize(x, size, interpolation=how).reshape(*size[::-1], x.shape[2])


def shrunk(x: UInt8[np.ndarray, "h w c"], short_side: int) -> UInt8[np.ndarray, "_ _ c"]:
    """A picture at the size that `shrunk_size` says, by the mean over areas."""
    size = shrunk_size(x.shape[1], x.shape[0], short_side)
    return x if size == x.shape[1::-1] else resize(x, size, cv2.INTER_AREA)


def _plain_jpeg(data: bytes) -> tuple[int, int] | None:
    """Width and height of a whole JPEG, grey or colour, of ordinary size: OpenCV and PIL read it
    alike.

    None for all else. OpenCV would return a truncated one half grey without a word, and does not
    know CMYK's conventions.
    """
    if not data.startswith(b"\xff\xd8\xff") or not data.endswith(b"\xff\xd9"):
        return None
    at = 2
    while data[at : at + 1] == b"\xff" and at + 10 < len(data):
        kind, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = (int.from_bytes(data[at + n : at + n + 2]) for n in (5, 7))
            ordinary = data[at + 4] == 8 and 0 < width * height <= (
                Image.MAX_IMAGE_PIXELS or np.inf
            )
            return (width, height) if ordinary and data[at + 9] in (1, 3) else None
        at += 2 + length
    return None


def _jpeg_rgb(
    data: bytes, size: tuple[int, int], short_side: int
) -> UInt8[np.ndarray, "h w 3"] | None:
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
        return as_rgb(np.asarray(image, np.uint16 if image.mode == "I" else None))
    if image.has_transparency_data and not _unused_alpha(image):
        return as_rgb(np.asarray(image.convert("RGBA")))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _unused_alpha(image: Image.Image) -> bool:
    """Whether the alpha of a BMP is 0 everywhere: Windows and browsers then show the colours."""
    return (
        image.format == "BMP"
        and image.mode == "RGBA"
        and image.getchannel("A").getextrema() == (0, 0)
    )


def refuse_large(size: int) -> None:
    """Raise ValueError for a picture of too many bytes: a file of 1 MB may hold one of 12 GB."""
    if size > MOST_BYTES:
        raise ValueError(
            f"{size / 2**30:.1f} GiB of pixels once it is decoded; the limit is "
            f"{MOST_BYTES / 2**30:g} GiB: cut it into tiles, or save it with fewer bits or "
            "channels"
        )


def _is_for_tifffile(image: Image.Image) -> bool:
    """Whether tifffile reads a TIFF that PIL has opened.

    It does where PIL would cut the values to 8 bits, misread them or not know them: more than 8
    bits, signed, float. And where PIL would ask libtiff, which has lines of its own to say on
    stderr: compressed grey and RGB.
    """
    tags = getattr(image, "tag_v2", {})
    if bits_of(image) > 8 or set(tags.get(SAMPLE_FORMAT, (1,))) != {1}:
        return True
    plain = (
        tags.get(PHOTOMETRIC) in (0, 1, 2)
        and tags.get(SAMPLES, 1) in (1, 3, 4)
        and bits_of(image) == 8
    )
    return plain and tags.get(COMPRESSION, 1) != 1 and tags.get(EXTRA_SAMPLES, (0,))[:1] != (1,)


def _tiff_rgb(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The first page of a TIFF that PIL does not read rightly.

    Raises ValueError for a page that is neither grey nor RGB, and for a compression that cannot be
    decoded.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        turn = page.tags.valueof(ORIENTATION, 1)
        kind, planar = getattr(page.photometric, "name", page.photometric), page.planarconfig == 2
        samples, fourth = page.samplesperpixel, page.extrasamples[:1]
        packed = getattr(page.compression, "name", page.compression)
        if (
            kind not in ("MINISBLACK", "MINISWHITE", "RGB")
            or samples not in (1, 3, 4)
            or fourth == (1,)
        ):
            alone = kind == "YCBCR" and packed not in ("NONE", 1)  # codecs of photographs give RGB
            if not (alone and samples == 3 and "JP" in str(packed)):
                raise ValueError(
                    f"a TIFF of {page.dtype}, {kind} with {samples} channels, compression "
                    f"{packed}; save it as grey, RGB or RGB with alpha that is not multiplied "
                    "into the colours"
                )
        if page.dtype is None:
            raise ValueError(
                f"a TIFF of {page.bitspersample} bits, which cannot be read; save it with 8 or 16"
            )
        refuse_large(page.imagewidth * page.imagelength * samples * page.dtype.itemsize)
        x = _unpacked(page, str(packed))
    if samples > 1:
        x = np.moveaxis(x, 0, -1) if planar else x
        x = x if fourth in ((), (2,)) else x[..., :3]  # 0: something else than alpha
    eight = as_rgb(x)
    return upright(255 - eight if kind == "MINISWHITE" else eight, turn)


def _unpacked(page: tifffile.TiffPage, packed: str) -> Shaped[np.ndarray, "*shape"]:
    """The values of a page. Raises ValueError with the compression's name where nothing decodes
    it."""
    ends = (
        at + size for at, size in zip(page.dataoffsets, page.databytecounts, strict=True) if size
    )
    if max(ends, default=0) > page.parent.filehandle.size:
        # tifffile would fill up with zeros
        raise ValueError("the file is truncated: it ends before its last pixels")
    with known_codec(packed):
        return page.asarray()


@contextmanager
def known_codec(packed: str) -> Iterator[None]:
    """Inside, what decodes a TIFF's compression may be missing: then a ValueError names it."""
    try:
        yield
    # imagecodecs' errors are RuntimeErrors
    except (ValueError, NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"a TIFF of compression {packed} that cannot be decoded: {error}"
        ) from None
    except ImportError as error:  # an imagecodecs that was built without this codec
        raise ValueError(
            f"a TIFF of compression {packed}, which nothing here decodes ({error}): pip install "
            "imagecodecs, or save it with another compression"
        ) from None


def cv2_pixels(data: bytes) -> Shaped[np.ndarray, "h w *c"]:
    """Grey, RGB or RGBA of a PNG with all bits, not turned."""
    x = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if x is None:
        raise ValueError("OpenCV cannot decode it")
    if x.ndim == 2:
        return x
    return cv2.cvtColor(x, cv2.COLOR_BGR2RGB if x.shape[2] == 3 else cv2.COLOR_BGRA2RGBA, dst=x)


def upright(x: Shaped[np.ndarray, "h w c"], turn: int) -> Shaped[np.ndarray, "_ _ c"]:
    """Undo EXIF's Orientation, 1 to 8: which sides of the scene the file's row 0 and column 0
    are."""
    if turn in SIDEWAYS:  # the file's rows are the scene's columns
        x = x.swapaxes(0, 1)
    if turn in (3, 4, 7, 8):  # the file begins at the bottom
        x = x[::-1]
    if turn in (2, 3, 6, 7):  # the file begins at the right
        x = x[:, ::-1]
    return np.ascontiguousarray(x)
