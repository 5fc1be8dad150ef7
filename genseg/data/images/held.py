"""Reads what a file holds: axes, channels and their names, bits. Only headers are read."""

import re
import struct
from collections.abc import Mapping
from dataclasses import replace
from io import BufferedIOBase
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from PIL import Image

from genseg.core.words import amount
from genseg.data.images.decode import EXTRA_SAMPLES, SAMPLES, TIFF_STARTS
from genseg.data.images.depth import refuse_kind
from genseg.data.images.planes import Held

COLOURS = ("red", "green", "blue")
REDUCED, MASK = 1, 4  # bits of TIFF's NewSubfileType
ALPHA = (1, 2)  # values of ExtraSamples
GDAL_METADATA, SIGNIFICANT = 42112, "SignificantBits"
DESCRIPTION, GEO_KEYS, GDAL_NODATA = 270, 34735, 42113  # numbers of tags
ARRAYS = (b"\x93NUM", b"PK\x03\x04")  # how .npy and .npz begin
FEW = 4  # channels of an array that come last, as in a picture


def may_hold_more(file: BufferedIOBase) -> bool:
    """Whether the header of a file speaks of several pictures, of channels that are no colour and
    no alpha, or of values that stand for none; arrays may hold anything. Two reads: 100,000 files
    take seconds."""
    file.seek(0)
    head = file.read(4096)
    try:
        if head[:4] in TIFF_STARTS:
            return _tiff_may_hold_more(file, head)
        return (
            head[:4] in ARRAYS
            or b"acTL" in head
            or head.startswith(b"GIF8")
            or (head[8:16] == b"WEBPVP8X" and bool(head[20] & 2))
        )
    except (ValueError, struct.error, IndexError):  # it is damaged
        return False


def _tiff_may_hold_more(file: BufferedIOBase, head: bytes) -> bool:
    """From the first directory of a TIFF: tifffile takes thirty times as long."""
    order, big = "<" if head.startswith(b"I") else ">", b"+" in head[:4]
    (first,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    counted, size, last = ("Q", 20, "Q") if big else ("H", 12, "I")
    file.seek(first)
    content = file.read(64 * 1024)
    (entries,) = struct.unpack_from(order + counted, content)
    begin = struct.calcsize(counted)
    if struct.unpack_from(order + last, content, begin + entries * size)[0]:
        return True  # another directory follows
    samples, extra, geo = 1, 0, False
    for at in range(begin, begin + entries * size, size):
        number, kind, count = struct.unpack_from(order + ("HHQ" if big else "HHI"), content, at)
        value = at + size - (8 if big else 4)
        if number == SAMPLES:
            (samples,) = struct.unpack_from(order + "H", content, value)
        elif number == EXTRA_SAMPLES:
            if count > 1 or struct.unpack_from(order + "H", content, value)[0] not in ALPHA:
                return True
            extra = count
        elif number == GDAL_NODATA:
            return True
        elif number == GEO_KEYS:
            geo = True
        elif number == DESCRIPTION and count > 8:
            # ImageJ writes a large stack behind one directory
            file.seek(struct.unpack_from(order + ("Q" if big else "I"), content, value)[0])
            if (text := file.read(min(count, 1024))).startswith(b"ImageJ=") and b"images=" in text:
                return True
    return samples - extra not in (1, 3) or (geo and bool(extra))


def held_by_tiff(file: tifffile.TiffFile) -> Held:
    """What an open TIFF holds: of its first series, which is a whole stack or one page; reduced
    copies and masks do not count, and series of other sizes are `further`.

    Axes and names come from OME-XML, ImageJ, GDAL's tags, or the page's own. Raises ValueError
    where a page has no rows and columns, and what tifffile raises.
    """
    page, series = file.pages.first, file.series[0]
    if series.dtype is not None:
        refuse_kind(series.dtype)
    axes, shape = series.axes, tuple(map(int, series.shape))
    if not {"Y", "X"} <= set(axes):
        raise ValueError(f"a TIFF of axes {axes}, which is no picture; save it as pages")
    _refuse_cut_stack(page.description, int(np.prod(shape)), page)
    _refuse_cut_chain(file)
    others = [s for s in file.series[1:] if _counts(s)]
    kind = getattr(page.photometric, "name", "")
    colours = 3 if kind in ("RGB", "YCBCR", "PALETTE", "CIELAB", "SEPARATED") else 1
    inks = kind in ("PALETTE", "SEPARATED", "CIELAB") and "C" not in axes
    if inks:
        axes, shape = _with_colours(axes), _colours_of(axes, shape)
    samples = dict(zip(axes, shape, strict=True)).get("S", 1)
    extra = () if inks else tuple(int(e) for e in page.extrasamples)
    alpha = len(extra) == 1 and extra[0] in ALPHA and samples == colours + 1
    channels = samples * dict(zip(axes, shape, strict=True)).get("C", 1)
    stacked = channels > samples
    bits = _bits(file, page)
    plain = not stacked and samples in (1, colours, colours + alpha)
    return Held(
        axes,
        shape,
        str(series.dtype),
        max(8, bits) if inks else bits,
        _names(file, samples, channels, rgb=colours == 3 and not stacked),
        (colours if "S" in axes else 1) if plain else 0,
        alpha,
        len(others),
        _nodata(page),
        kind == "MINISWHITE",
    )


def held_by_shape(shape: tuple[int, ...], dtype: np.dtype) -> Held:
    """What an array of a .npy or .npz holds, by its shape: rows and columns, and pages before them;
    an axis behind them of up to FEW, or that is the shortest, are channels, 3 of these colours. Of
    three axes that is `guessed` for more than FEW.

    Raises ValueError for fewer than two axes, or more than five, and for values that are no real
    numbers.
    """
    refuse_kind(dtype)
    bits = dtype.itemsize * 8
    if not 2 <= len(shape) <= 5 or 0 in shape:
        raise ValueError(f"an array of shape {shape} is no image; give height x width")
    if len(shape) == 2:
        return Held("YX", shape, str(dtype), bits, colours=1)
    if len(shape) == 3 and shape[-1] <= FEW or shape[-1] < min(shape[:-1]):
        axes = "ZTQ"[-(len(shape) - 3) :] if len(shape) > 3 else ""
        colours = shape[-1] if shape[-1] in (1, 3) else 0
        guessed = not axes and shape[-1] > FEW
        names = COLOURS * (colours == 3)
        return Held(axes + "YXS", shape, str(dtype), bits, names, colours, guessed=guessed)
    axes = {3: "Q", 4: "IQ", 5: "TIQ"}[len(shape)]
    return Held(axes + "YX", shape, str(dtype), bits, colours=1)


def held_by_picture(image: Image.Image, bits: int) -> Held:
    """What PIL has opened: grey or colours, with transparency or without; the frames of an
    animation are pages, a camera's previews are none."""
    frames = 1 if image.format == "MPO" else _frames(image)
    grey = image.mode.split(";")[0] in ("1", "L", "LA", "La", "I", "F")
    alpha, colours = bool(image.has_transparency_data), 1 if grey else 3
    axes = "YXS"
    shape: tuple[int, ...] = (image.height, image.width, colours + alpha)
    if frames > 1:
        axes, shape = "I" + axes, (frames, *shape)
    names = (("grey",) if grey else COLOURS) + ("alpha",) * alpha
    return Held(axes, shape, f"uint{max(8, bits)}", bits, names, colours, alpha)


def _frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # damaged files make PIL's plugins raise nearly anything
        return 1


def _counts(series: tifffile.TiffPageSeries) -> bool:
    """Whether a series is a picture of its own."""
    page = series.keyframe
    return not int(page.subfiletype) & (REDUCED | MASK)


def _refuse_cut_stack(text: str, values: int, page: tifffile.TiffPage) -> None:
    """Raise ValueError where ImageJ has written more pages than are there."""
    said = re.search(r"^images=(\d+)$", text, re.MULTILINE) if text.startswith("ImageJ=") else None
    there = values // max(1, int(np.prod(page.shape)))
    if said and int(said[1]) > there:
        raise ValueError(f"the file is truncated: of {said[1]} pages {there} are there")


def _refuse_cut_chain(file: tifffile.TiffFile) -> None:
    """Raise ValueError where the last page that is there names one behind the end of the file:
    tifffile passes over it. ImageJ's pages in one piece are counted by `_refuse_cut_stack`."""
    if file.is_imagej and file.series[0].dataoffset is not None:
        return
    there, handle = len(file.pages), file.filehandle  # finds all pages
    if (at := file.pages.next_page_offset) is None:
        return
    handle.seek(at)
    named = int.from_bytes(
        handle.read(file.tiff.offsetsize), "little" if file.byteorder == "<" else "big"
    )
    if named >= handle.size:
        raise ValueError(
            f"the file is truncated: behind {amount(there, 'page')} it names one that is not "
            "there; copy it again, or save it anew"
        )


def _with_colours(axes: str) -> str:
    return axes if "S" in axes else axes + "S"


def _colours_of(axes: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape once an index, an ink or a Lab value has become red, green and blue."""
    if "S" not in axes:
        return (*shape, 3)
    return tuple(3 if a == "S" else n for a, n in zip(axes, shape, strict=True))


def _bits(file: tifffile.TiffFile, page: tifffile.TiffPage) -> int:
    """Bits of a value: as OME says of more than 8, or the page's."""
    said = _ome_pixels(file).get(SIGNIFICANT, "") if file.is_ome else ""
    stored = int(page.bitspersample)
    return int(said) if said.isdecimal() and stored > 8 else stored


def _nodata(page: tifffile.TiffPage) -> float | None:
    """GDAL's value of pixels without one, where the file has one."""
    value = page.tags.valueof("GDAL_NODATA")
    try:
        return float(str(value).strip("\0 ")) if value is not None else None
    except ValueError:
        return None


def _names(file: tifffile.TiffFile, samples: int, channels: int, *, rgb: bool) -> tuple[str, ...]:
    """Names of the channels: OME's, of which one stands for a sample or for all samples of a pixel,
    ImageJ's labels, GDAL's bands, or those of colours."""
    stacked = channels > samples
    named = ome_names(file.ome_metadata) if file.is_ome and file.ome_metadata else ()
    if named and (samples == 1 or len(named) == channels):
        return named if any(named) else ()
    if named and stacked:
        each = [f"{name} {n}" for name in named for n in range(1, samples + 1)]
        return tuple(each) if all(named) else ()
    if stacked:
        return _imagej_names(file)
    bands = _gdal_names(file)
    return bands or (COLOURS if rgb else ())


def ome_names(text: str) -> tuple[str, ...]:
    """The names of the channels of an OME-XML's first image; "" where one has none."""
    return tuple(e.get("Name") or "" for e in _ome_element(text) or () if e.tag.endswith("Channel"))


def _ome_element(text: str) -> ElementTree.Element | None:
    try:
        elements = ElementTree.fromstring(text).iter()
    except ElementTree.ParseError:
        return None
    return next((e for e in elements if e.tag.endswith("Pixels")), None)


def _ome_pixels(file: tifffile.TiffFile) -> Mapping[str, str]:
    element = _ome_element(file.ome_metadata or "")
    return {} if element is None else element.attrib


def _imagej_names(file: tifffile.TiffFile) -> tuple[str, ...]:
    """The labels of ImageJ's slices, where channels alone are pages."""
    said = file.imagej_metadata or {}
    labels, count = said.get("Labels"), said.get("channels")
    if isinstance(labels, list) and len(labels) == count and len(set(labels)) == count:
        return tuple(map(str, labels))
    return ()


def _gdal_names(file: tifffile.TiffFile) -> tuple[str, ...]:
    """Descriptions of the bands in GDAL's metadata."""
    text = file.pages.first.tags.valueof(GDAL_METADATA)
    if not text:
        return ()
    try:
        items = list(ElementTree.fromstring(str(text).strip("\0 ")).iter("Item"))
    except ElementTree.ParseError:
        return ()
    found = {
        int(item.get("sample", -1)): (item.text or "").strip()
        for item in items
        if item.get("role") == "description"
    }
    return tuple(found.get(n, "") for n in range(max(found, default=-1) + 1))


def zarr_in(path: Path) -> tuple[list[Any], Held, dict[str, Any]]:
    """The resolutions of a zarr, the whole image first; what that holds; and what OME says of it,
    nothing of a plain array. Raises ValueError where zarr is not installed, and for what is no
    image."""
    try:
        import zarr
    except ImportError:
        raise ValueError("a zarr, which needs a package: pip install 'genseg[zarr]'") from None
    try:
        opened: Any = zarr.open(str(path), mode="r")
    except Exception as error:  # of many kinds, by version
        raise ValueError(f"no zarr that can be opened: {error}") from None
    said: dict[str, Any] = opened.attrs.asdict()
    if scales := dict(said.get("ome", said)).get("multiscales"):
        arrays: list[Any] = [opened[d["path"]] for d in scales[0]["datasets"]]
        held = _held_by_scale(scales[0], arrays[0])
        names = _omero_names(said)
        held = replace(held, names=names if len(names) == held.channels else ())
        return arrays, held, scales[0]
    if not isinstance(opened, zarr.Array):
        raise ValueError("a zarr group without multiscales, which is no OME-Zarr image")
    return [opened], held_by_shape(tuple(opened.shape), np.dtype(opened.dtype)), {}


def _omero_names(said: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels of an OME-Zarr's channels; none where one has none."""
    channels = (dict(said.get("ome", said)).get("omero") or {}).get("channels") or ()
    names = tuple(str(c.get("label") or "") for c in channels)
    return names if all(names) else ()


def _held_by_scale(scale: Mapping[str, Any], array: Any) -> Held:
    """What the largest resolution of an OME-Zarr holds. Raises ValueError for axes without rows and
    columns."""
    named = scale.get("axes") or list("tczyx")[-array.ndim :]
    axes = [a if isinstance(a, str) else a["name"] for a in named]
    letters = "".join(a[0].upper() for a in axes)
    if not {"Y", "X"} <= set(letters) or len(letters) != array.ndim:
        raise ValueError(f"a zarr of axes {', '.join(axes)}, which is no picture")
    dtype = np.dtype(array.dtype)
    channels = dict(zip(letters, array.shape, strict=True)).get("C", 1)
    bits, colours = dtype.itemsize * 8, 1 if channels == 1 else 0
    return Held(letters, tuple(map(int, array.shape)), str(dtype), bits, colours=colours)
