"""Whether deep images jump in brightness: `to_8bit` has a rule for each image, and none for a
set."""

import functools
from pathlib import Path

import tifffile

from genseg.core.reading import Reading, current
from genseg.data.images.decode import LARGE, TIFF_STARTS, TIFFS, regular
from genseg.data.images.depth import noted_ranges
from genseg.data.images.source import ImageError, decode

SUFFIXES = (".pgm", ".png", ".ppm", *TIFFS)  # of files that may have more than 8 bits
# files whose headers are read, and deep ones that are decoded, evenly from all
ASKED, DECODED = 64, 8
JUMP = 1.5  # times as bright: less is hardly seen


def notes_on(files: tuple[Path, ...]) -> str:
    """What a user should know of images before they are used: a sentence where those of more than 8
    bits become brighter by different factors; empty where none do. What is read by windows does not
    count."""
    return _notes(files, current())


@functools.lru_cache(maxsize=8)  # a command asks again for its console, its json and its page
def _notes(files: tuple[Path, ...], wanted: Reading) -> str:
    deep = [
        file
        for file in _spread([f for f in files if f.suffix.lower() in SUFFIXES], ASKED)
        if _is_deep(file)
    ]
    if len(deep) < 2:
        return ""
    with noted_ranges() as ranges:
        for file in _spread(deep, DECODED):
            try:
                decode(file, short_side=1, reading=wanted)
            except ImageError:  # the reader tells
                continue
    widths = [high - low for low, high in ranges if high > low]
    if len(widths) < 2 or max(widths) < JUMP * min(widths):
        return ""
    return (
        "images of more than 8 bits are made 8 bits by the values of each alone: of "
        f"{len(widths)} looked at one becomes {max(widths) / min(widths):.3g} times as bright as "
        "another, so the same structure may look different in two images"
    )


def _spread(files: list[Path], count: int) -> list[Path]:
    return [files[i * len(files) // count] for i in range(count)] if len(files) > count else files


def _is_deep(file: Path) -> bool:
    """Whether the header says more than 8 bits; False for a damaged one, and for an image that is
    not decoded whole."""
    try:
        with open(file, "rb", opener=regular) as opened:
            head = opened.peek(32)
            if head[:4] in TIFF_STARTS:
                with tifffile.TiffFile(opened, _multifile=False) as tiff:
                    page = tiff.pages.first
                    small = page.imagelength * page.imagewidth <= LARGE
                    return bool(small and page.bitspersample > 8)
            return (
                head[24:25] == b"\x10"
                if head.startswith(b"\x89PNG")
                else head.startswith((b"P5", b"P6"))
            )
    except MemoryError:
        raise
    except Exception:  # a damaged file makes tifffile raise nearly anything
        return False
