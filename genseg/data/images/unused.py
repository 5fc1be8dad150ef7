"""What image files hold beyond the picture that is used: pages, frames, channels. Only headers are
read."""

import functools
import struct
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile
from PIL import Image

from genseg.core.words import amount
from genseg.data.images.decode import TIFF_STARTS, regular

# of files that may hold more than one picture
SUFFIXES = (".gif", ".png", ".tif", ".tiff", ".webp")
EXTRA_SAMPLES, DESCRIPTION = 338, 270  # numbers of TIFF's tags
ALPHA = (1, 2)  # values of EXTRA_SAMPLES: what is used as transparency
OPENED = 64  # files whose pages are counted; of more, so many evenly from all of them
KINDS = 3  # that a sentence names


@functools.lru_cache(maxsize=8)  # a command asks again for its console, its json and its page
def unused(files: tuple[Path, ...]) -> str:
    """One sentence on what the files hold and genseg does not use; empty when they hold nothing
    more.

    Two reads a file, and none of formats that hold one picture: 100,000 files on a warm disk take
    seconds. Files that cannot be read are left to the reader, which tells of them.
    """
    asked = [f for f in files if f.suffix.lower() in SUFFIXES]
    with ThreadPoolExecutor(8) as pool:  # they hide the latency of a disk or a network
        more = [
            f
            for f, is_more in zip(
                asked, pool.map(_may_hold_more, asked, chunksize=256), strict=True
            )
            if is_more
        ]
    looked = [more[i * len(more) // OPENED] for i in range(OPENED)] if len(more) > OPENED else more
    kinds = Counter(filter(None, map(_extent, looked)))
    if not kinds:
        return ""
    count = len(more) if len(more) > OPENED else kinds.total()
    names = ", ".join(kind for kind, _ in kinds.most_common(KINDS)) + (
        ", and others" if len(kinds) > KINDS else ""
    )
    used = "the first page is used" + (", of its channels the first" if "channel" in names else "")
    whose = f"{count:,} of {amount(len(files), 'file')}" if len(files) > 1 else "the file"
    return f"{whose} {'holds' if count == 1 else 'hold'} more than is used: {names}; {used}"


def _may_hold_more(file: Path) -> bool:
    """Whether the header of a file speaks of several pictures, or of channels that are no colour
    and no alpha."""
    try:
        with open(file, "rb", buffering=0, opener=regular) as opened:
            head = opened.read(4096)
            if head[:4] in TIFF_STARTS:
                return _tiff_may_hold_more(opened, head)
            return (
                b"acTL" in head
                or head.startswith(b"GIF8")
                or (head[8:16] == b"WEBPVP8X" and bool(head[20] & 2))
            )
    except (OSError, ValueError, struct.error, IndexError):  # missing, or damaged
        return False


def _tiff_may_hold_more(file: BinaryIO, head: bytes) -> bool:
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
    for at in range(begin, begin + entries * size, size):
        number, kind, count = struct.unpack_from(order + ("HHQ" if big else "HHI"), content, at)
        value = at + size - (8 if big else 4)
        if number == EXTRA_SAMPLES and (
            count > 1 or struct.unpack_from(order + "H", content, value)[0] not in ALPHA
        ):
            return True
        if number == DESCRIPTION and count > 8:  # ImageJ writes a large stack behind one directory
            file.seek(struct.unpack_from(order + ("Q" if big else "I"), content, value)[0])
            if (text := file.read(min(count, 1024))).startswith(b"ImageJ=") and b"images=" in text:
                return True
    return False


def _extent(file: Path) -> str:
    """What a file holds, in a word or two; empty when it is one picture, or damaged."""
    try:
        with open(file, "rb", opener=regular) as opened:
            if opened.peek(4)[:4] in TIFF_STARTS:
                with tifffile.TiffFile(opened, _multifile=False) as tiff:
                    return _tiff_extent(tiff)
            frames = int(getattr(Image.open(opened), "n_frames", 1))
            return f"{frames:,} frames" if frames > 1 else ""
    except MemoryError:
        raise
    except Exception:  # a damaged file makes the plugins raise nearly anything
        return ""


def _tiff_extent(tiff: tifffile.TiffFile) -> str:
    """Pages with their axes, or channels; reduced copies of the first page are no further
    picture."""
    pages = sum(
        int(np.prod([n for n, a in zip(s.shape, s.axes, strict=True) if a not in "YXS"]))
        for s in tiff.series
    )
    axes = tiff.series[0].axes
    if pages > 1:
        # those stand for axes that nothing names
        known = len(tiff.series) == 1 and not set(axes) & {"I", "Q"}
        return f"{pages:,} pages" + (f" (axes {axes})" if known else "")
    first = tiff.pages.first
    colours = 3 if getattr(first.photometric, "name", "") == "RGB" else 1
    alpha = sum(int(kind) in ALPHA for kind in first.extrasamples)
    extra = first.samplesperpixel > colours + alpha and first.extrasamples
    return f"{first.samplesperpixel} channels (axes {axes})" if extra else ""
