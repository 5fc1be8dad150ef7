"""PNG files written and read under any name that a file can have.

OpenCV's imread and imwrite take a name as UTF-8, and a name with other bytes ends the whole
process; here OpenCV sees bytes alone. tests/test_imports.py allows no other place.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8

from genseg.core.files import replacing
from genseg.data.images.decode import read_file

Pixels = UInt8[np.ndarray, "h w *c"]
_ORDER = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}  # and back: both swap the same two channels
# a map of mostly one value: a quarter of the time
_RUNS = (cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
_FAST = (cv2.IMWRITE_PNG_COMPRESSION, 3)


def png(pixels: Pixels) -> bytes:
    """Grey, RGB or RGBA pixels as the content of a PNG file."""
    colours = (
        pixels
        if pixels.ndim == 2
        else cv2.cvtColor(np.ascontiguousarray(pixels), _ORDER[pixels.shape[2]])
    )
    done, content = cv2.imencode(".png", colours, _RUNS if pixels.ndim == 2 else _FAST)
    assert done
    return content.tobytes()


def write_png(file: Path, pixels: Pixels) -> None:
    """Write grey, RGB or RGBA pixels, and the folders above. Raises OSError, which says why, when
    that fails."""
    content = png(pixels)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def write_rows(
    file: Path,
    parts: Iterable[UInt8[np.ndarray, "_ w"]],
    height: int,
    width: int,
    palette: Sequence[int],
) -> None:
    """Write an image of indices, whose rows come in parts, and the folders above: they are
    never in memory together (PNG specification, 2003, sections 5 and 10)."""
    packing = zlib.compressobj(3)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as new, new.open("wb") as out:
        out.write(b"\x89PNG\r\n\x1a\n")
        out.write(_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)))
        out.write(_chunk(b"PLTE", bytes(palette)))
        for part in parts:
            unfiltered = np.pad(part, ((0, 0), (1, 0)))
            if data := packing.compress(unfiltered.tobytes()):
                out.write(_chunk(b"IDAT", data))
        out.write(_chunk(b"IDAT", packing.flush()))
        out.write(_chunk(b"IEND", b""))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def read_png(file: Path) -> Shaped[np.ndarray, "h w *c"]:
    """The pixels of a PNG as they are stored: grey, RGB or RGBA, 8 or 16 bits; transparent ones
    keep their colour.

    Raises OSError when the file cannot be opened, ValueError when it is no image.
    """
    data = read_file(file)
    x = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if x is None:
        raise ValueError(f"{file} is no image")
    return np.asarray(x if x.ndim == 2 else cv2.cvtColor(x, _ORDER[x.shape[2]]))
