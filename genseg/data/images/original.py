"""All channels of an image with the values that its file holds, for measuring: training and finding
see `decode` instead."""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile
from jaxtyping import Shaped
from PIL import Image, UnidentifiedImageError

from genseg.data.images.decode import (
    ORIENTATION,
    TIFF_STARTS,
    _bits,
    _cv2_pixels,
    _orientation,
    _unpacked,
    _upright,
    read_file,
    reason_of,
    rgb_pixels,
)
from genseg.data.images.source import ImageError

COLOURS = ("red", "green", "blue")
PLAIN = ("1", "L", "I", "F")  # PIL's modes of one channel; I;16 is one too


@dataclass(frozen=True)
class Original:
    """pixels: upright, of the file's own type; channels: their names, as columns of a table have
    them; planes: further ones of a stack or a series, which are not here."""

    pixels: Shaped[np.ndarray, "h w c"]
    channels: tuple[str, ...]
    planes: int = 0


def read_original(path: str | Path) -> Original:
    """Every channel of an image, neither scaled nor converted: pages of a TIFF that are channels
    (OME, ImageJ), samples of a pixel; of z, time and other pages the first. Alpha counts in a TIFF
    alone, where it may be a fourth band. Palettes and CMYK become RGB.

    Raises ImageError, with the reason, for a file that cannot be read.
    """
    try:
        data = read_file(path)
        return _of_tiff(data) if data[:4] in TIFF_STARTS else _of_picture(data)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes the readers raise nearly anything
        raise ImageError(f"{path}: {reason_of(error)}") from error


def _of_picture(data: bytes) -> Original:
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise ValueError("no image format that can be read") from None
    if image.format == "PNG" and _bits(image) == 16 and image.mode in ("RGB", "RGBA", "LA"):
        image.load()
        x = _cv2_pixels(data)
        x = x.reshape(*x.shape[:2], -1)
    else:
        image.load()
        if image.mode.startswith(PLAIN) and image.mode != "LAB":
            x = np.asarray(image)[..., None]
            x = x[..., :1] if x.ndim == 3 else x[:, :, 0, :1]  # LA
        elif image.mode in ("RGB", "RGBA"):
            x = np.asarray(image)[..., :3]
        else:
            return Original(rgb_pixels(data), COLOURS)  # which is upright
    x = x[..., :3] if x.shape[2] == 4 else x
    names = COLOURS if x.shape[2] == 3 else ("grey",)
    return Original(_upright(x, _orientation(image)), _named(x.shape[2], names))


def _of_tiff(data: bytes) -> Original:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page, series = file.pages.first, file.series[0]
        axes = series.axes
        counts = [n for a, n in zip(axes, series.shape, strict=True) if a not in "CYXS"]
        planes = int(np.prod(counts)) - 1
        kind = getattr(page.photometric, "name", "")
        if kind not in ("MINISBLACK", "MINISWHITE", "RGB"):
            return Original(rgb_pixels(data), COLOURS, planes)
        x = _unpacked(page, str(page.compression))  # says what is wrong with the file
        names: tuple[str, ...] = COLOURS if kind == "RGB" else ()
        if "C" in axes and {"Y", "X"} <= set(axes):
            x = series.asarray()[tuple(slice(None) if a in "CYXS" else 0 for a in axes)]
            kept = [a for a in axes if a in "CYXS"]
            x = np.moveaxis(x, [kept.index("Y"), kept.index("X")], [0, 1])
            named = file.ome_metadata if file.is_ome else None
            names = _ome_names(named) if named else ()
        elif page.planarconfig == 2 and page.samplesperpixel > 1:
            x = np.moveaxis(x, 0, -1)
        x = x.reshape(*x.shape[:2], -1)
        turn = page.tags.valueof(ORIENTATION, 1)
        return Original(_upright(x, turn), _named(x.shape[2], names), planes)


def _ome_names(text: str) -> tuple[str, ...]:
    """The names of the channels of an OME-XML's first image."""
    elements = ElementTree.fromstring(text).iter()
    pixels = next((e for e in elements if e.tag.endswith("Pixels")), None)
    if pixels is None:
        return ()
    return tuple(e.get("Name") or "" for e in pixels if e.tag.endswith("Channel"))


def _named(count: int, names: tuple[str, ...]) -> tuple[str, ...]:
    """A name for each channel, each once: its own, or else its number."""
    names = names or (("grey",) if count == 1 else ())
    given = [re.sub(r"\W+", "_", name).strip("_").lower() for name in names][:count]
    given += [""] * (count - len(given))
    return tuple(
        name if name and given.count(name) == 1 else f"channel_{n}"
        for n, name in enumerate(given, start=1)
    )
