"""PNG files written and read under any name that a file can have.

OpenCV's imread and imwrite take a name as UTF-8, and a name with other bytes ends the whole
process; here OpenCV sees bytes alone. tests/test_imports.py allows no other place.
"""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8

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
