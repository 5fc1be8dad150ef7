"""Windows of a TIFF: what is stored in one piece is mapped, of the rest the tiles or strips that
the window meets are decoded."""

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from jaxtyping import Shaped

from genseg.core.reading import Selection
from genseg.data.images.decode import ORIENTATION
from genseg.data.images.planes import as_stack, check_image, choose, combine
from genseg.data.images.values import (
    PIXELS,
    PREMULTIPLIED,
    frame_of,
    grid_of,
    held_by_bands,
    is_premultiplied,
    segment_of,
)
from genseg.data.regions.georeference import mapping_of, pixel_size_on
from genseg.data.regions.image import checked_window, page_of

MOST_DECODED = 2**28  # bytes of decoded tiles and strips that are kept for the next windows


class NoWindows(ValueError):
    """A TIFF that has to be decoded whole."""


class TiffRegions:
    """An image of a TIFF, by the pages and channels of a selection; the contract of
    `RegionImage`."""

    def __init__(self, path: Path, selection: Selection, image: int = 0) -> None:
        """Raises ValueError for what is no picture, and where the selection leaves something open;
        NoWindows, which is one, for other colours than grey and RGB, and where it is not
        upright."""
        self.path = path
        self._opened = _Opened(path)
        file, series = self._opened.file, self._opened.series
        page = file.pages.first
        held = held_by_bands(file)
        self.levels = tuple(
            (s.shape[s.axes.index("Y")], s.shape[s.axes.index("X")]) for s in series
        )
        self.choice = choose(held, selection)
        self.held = as_stack(held) if self.choice.stacked else held
        check_image(self.held, self.choice, image)
        self.pages = self.choice.images[max(image, 1) - 1]
        kind = getattr(page.photometric, "name", str(page.photometric))
        packed = str(getattr(page.compression, "name", page.compression))
        # codecs of photographs give RGB
        if kind not in PIXELS and not (kind == "YCBCR" and "JP" in packed) or page.dtype is None:
            raise NoWindows(
                f"a TIFF of {page.dtype}, {kind}, which is not read by windows; save it as grey or "
                "RGB"
            )
        if is_premultiplied(page, self.held, self.choice):
            raise NoWindows(PREMULTIPLIED)
        if (turn := page.tags.valueof(ORIENTATION, 1)) != 1:
            raise NoWindows(
                f"a TIFF whose Orientation is {turn}, which is not read by windows; save it upright"
            )
        self.on_map = mapping_of(page)
        self.pixel_size = pixel_size_on(self.on_map, path)

    def read(
        self, top: int, left: int, height: int, width: int, level: int = 0
    ) -> Shaped[np.ndarray, "height width c"]:
        """A window of a level; pixels of tiles that the file leaves out are its nodata, or 0."""
        rows, columns = checked_window(self.levels[level], top, left, height, width)
        series = self._here().series[level]
        if series.dataoffset is not None:
            return combine(self._mapped(series, rows, columns), self.choice.how)
        chosen = [
            np.stack([self._channel(level, p, c, rows, columns) for c in self.choice.channels])
            for p in self.pages
        ]
        return combine(np.stack(chosen), self.choice.how)

    def _here(self) -> "_Opened":
        """The file as this process has it open."""
        if self._opened.process != os.getpid():
            self._opened = _Opened(self.path)
        return self._opened

    def _mapped(
        self, series: tifffile.TiffPageSeries, rows: slice, columns: slice
    ) -> Shaped[np.ndarray, "p c h w"]:
        """Of values in one piece; the mapping ends with the call, so its pages are no memory of
        ours."""
        assert series.dataoffset is not None
        dtype = np.dtype(series.keyframe.dtype).newbyteorder(self._opened.file.byteorder)
        whole = np.memmap(self.path, dtype, "r", series.dataoffset, tuple(series.shape))
        channels = self.choice.channels
        pages = [page_of(whole, self.held, p, channels, rows, columns) for p in self.pages]
        return np.stack(pages).astype(dtype.newbyteorder("="))

    def _channel(
        self, level: int, page: int, channel: int, rows: slice, columns: slice
    ) -> Shaped[np.ndarray, "h w"]:
        """One channel of one page, of the page of the file that holds it."""
        series = self._here().series[level]
        sizes = self.held.sizes
        samples = sizes.get("S", 1)
        outer = [a for a in self.held.axes if a not in "YXS"]
        grid = np.arange(int(np.prod([sizes[a] for a in outer], dtype=int)))
        grid = grid.reshape([sizes[a] for a in outer])
        if "C" in outer:
            grid = np.moveaxis(grid, outer.index("C"), -1)
        place = int(grid.reshape(-1, sizes.get("C", 1))[page, channel // samples])
        of_file = series.pages[place]
        assert isinstance(of_file, tifffile.TiffPage | tifffile.TiffFrame)
        return self._window(of_file, (level, place), channel % samples, rows, columns)

    def _window(
        self,
        page: tifffile.TiffPage | tifffile.TiffFrame,
        key: tuple[int, int],
        sample: int,
        rows: slice,
        columns: slice,
    ) -> Shaped[np.ndarray, "h w"]:
        frame = frame_of(page)
        planar = frame.planarconfig == 2 and frame.samplesperpixel > 1
        down, across, h, w = grid_of(frame)
        first = sample * down * across if planar else 0
        if frame.is_memmappable:
            dtype = np.dtype(frame.dtype).newbyteorder(page.parent.byteorder)
            shape = frame.shaped[:1] + frame.shaped[2:]
            whole = np.memmap(self.path, dtype, "r", page.dataoffsets[0], shape)
            part = whole[sample if planar else 0, rows, columns, 0 if planar else sample]
            return part.astype(dtype.newbyteorder("="))
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start), frame.dtype)
        for y in range(rows.start // h, -(-rows.stop // h)):
            for x in range(columns.start // w, -(-columns.stop // w)):
                segment = self._segment(page, (*key, first + y * across + x))
                top, left = y * h, x * w
                a, b = max(rows.start, top), min(rows.stop, top + h)
                c, d = max(columns.start, left), min(columns.stop, left + w)
                out[a - rows.start : b - rows.start, c - columns.start : d - columns.start] = (
                    segment[a - top : b - top, c - left : d - left, 0 if planar else sample]
                )
        return out

    def _segment(
        self, page: tifffile.TiffPage | tifffile.TiffFrame, key: tuple[int, int, int]
    ) -> Shaped[np.ndarray, "h w s"]:
        """A decoded tile or strip, from those that are kept where it is there."""
        here = self._here()
        with here.lock:
            if (known := here.decoded.get(key)) is not None:
                here.decoded.move_to_end(key)
                return known
        made = segment_of(page, key[2])
        with here.lock:
            if key not in here.decoded:
                here.decoded[key] = made
                here.bytes += made.nbytes
            while here.bytes > MOST_DECODED and len(here.decoded) > 1:
                here.bytes -= here.decoded.popitem(last=False)[1].nbytes
        return made


class _Opened:
    """A file as one process has it open, and its tiles and strips that are decoded. After a fork
    two processes would share the place in the file, and locks that the other one holds."""

    def __init__(self, path: Path) -> None:
        self.process = os.getpid()
        self.file = tifffile.TiffFile(path)
        self.file.filehandle.set_lock(True)  # pages are read where they are asked for, by threads
        weakref.finalize(self, self.file.close)
        self.series, self.lock = _levels(self.file), threading.Lock()
        self.decoded = OrderedDict[tuple[int, int, int], Shaped[np.ndarray, "h w s"]]()
        self.bytes = 0


def _levels(file: tifffile.TiffFile) -> Sequence[tifffile.TiffPageSeries]:
    """The resolutions of a file's first series: its pyramid, or smaller copies behind it."""
    first = file.series[0]
    if len(first.levels) > 1:
        return list(first.levels)
    h, w = (first.shape[first.axes.index(a)] for a in "YX")
    copies = [
        s
        for s in file.series[1:]
        if getattr(s.keyframe, "is_reduced", False)
        and s.axes == first.axes
        and not getattr(s.keyframe, "is_mask", False)
        and abs(s.shape[s.axes.index("Y")] / h - s.shape[s.axes.index("X")] / w) < 0.02
    ]
    return [first, *sorted(copies, key=lambda s: -s.size)]
