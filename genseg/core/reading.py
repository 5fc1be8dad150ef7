"""How files of images are read: which channels and pages, and which values become black and white.

One `Reading` holds for all that is read inside of `with reading(...)`, so that a command says it
once. What is not said is as the run at work keeps it: `reading_as`. Lists of images keep theirs,
and take it along into other processes.

Both hold for the whole process, since pages and loaders read in threads that others start; so
functions that read differently are not for several threads at once.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

RGB = 3  # channels of a picture, and of an image where nothing is said


@dataclass(frozen=True)
class Selection:
    """Which channels and pages of a file make an image.

    channels: numbers from 1 or names, in the order of the encoder's inputs; empty: not said
    pages: each, max, mean, N or N:M, counted from 1, both ends included; of several axes of pages
        "max z" projects z, and each page of the others is an image; empty: not said
    """

    channels: tuple[int | str, ...] = ()
    pages: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"|each|(max|mean)( [a-zA-Z])?|[1-9]\d*(:[1-9]\d*)?", self.pages):
            raise ValueError(
                f"pages={self.pages}: use each, max, mean, a page N or pages N:M, counted from 1; "
                "max z projects z alone"
            )
        if len(set(self.channels)) < len(self.channels):
            raise ValueError(f"channels={','.join(map(str, self.channels))}: name each once")

    @property
    def text(self) -> str:
        """As it is written in a recipe."""
        parts = {"channels": ",".join(map(str, self.channels)), "pages": self.pages}
        return " ".join(f"data.{key}={value}" for key, value in parts.items() if value)


def parse(channels: str | None, pages: str | None) -> Selection:
    """The selection of two words, as "1,3", "DAPI,GFP", "[1, 3]" and "max"; None and "": not said.
    Raises ValueError."""
    listed = [part.strip().strip("'\"") for part in (channels or "").strip("[] ").split(",")]
    if channels and not all(listed):
        raise ValueError(
            f"channels={channels}: give numbers from 1 or names, with commas between them"
        )
    numbers = [int(part) if part.isdecimal() else part for part in listed if part]
    return Selection(tuple(numbers), " ".join((pages or "").strip().split()))


@dataclass(frozen=True)
class Reading:
    """What makes images of files, as recipes and weights files have it.

    channels, pages: as `parse` takes them; empty: not said
    ranges: values that become 0 and 255, one pair for all channels or a pair for each; empty: each
        image has its own, as `depth.to_8bit` says
    """

    channels: str = ""
    pages: str = ""
    ranges: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        parse(self.channels, self.pages)
        for low, high in self.ranges:
            if not -float("inf") < low < high < float("inf"):
                raise ValueError(f"range=[{low:g}, {high:g}]: it is (lowest, highest), finite")

    @property
    def selection(self) -> Selection:
        """The words, understood."""
        return parse(self.channels, self.pages)

    @property
    def said(self) -> bool:
        """Whether anything is."""
        return self != Reading()

    @property
    def inputs(self) -> int:
        """Channels of the images: those that are named, or else red, green and blue."""
        return len(self.selection.channels) or RGB

    def over(self, other: "Reading") -> "Reading":
        """This one; what it does not say is as the other says."""
        # ranges are of the other's channels
        same = self.channels in ("", other.channels)
        return Reading(
            self.channels or other.channels,
            self.pages or other.pages,
            self.ranges or (other.ranges if same or len(other.ranges) == 1 else ()),
        )


def kept_reading(content: Mapping[str, Any]) -> Reading | None:
    """How the images of a json of genseg were read, as its `info` says; None where it says
    nothing."""
    info = content.get("info")
    words = info.get("reading") if isinstance(info, dict) else None
    if not isinstance(words, dict):
        return None
    try:
        return Reading(str(words.get("channels", "")), str(words.get("pages", "")))
    except ValueError:
        return None


def words_of(reading: Reading) -> dict[str, Any]:
    """What the `info` of a json says for `kept_reading`; nothing where no word is said."""
    words = {"channels": reading.channels, "pages": reading.pages}
    return {"reading": words} if any(words.values()) else {}


_said = _kept = Reading()


def current(kept: Reading | None = None) -> Reading:
    """How files are read now: as is said, and what is not said as a run keeps it.

    kept: what another run keeps than the one that is at work; None: that one's
    """
    return _said.over(_kept if kept is None else kept)


@contextmanager
def reading(wanted: Reading) -> Iterator[Reading]:
    """Inside, files are read so, in all threads; what an enclosing one says goes before."""
    global _said
    before = _said
    _said = before.over(wanted)
    try:
        yield current()
    finally:
        _said = before


@contextmanager
def reading_as(kept: Reading | None) -> Iterator[Reading]:
    """Inside, what `reading` does not say is as a run keeps it, and no longer as the run of an
    enclosing one does. None: it keeps nothing, so the enclosing one stays."""
    global _kept
    before = _kept
    _kept = before if kept is None else kept
    try:
        yield current()
    finally:
        _kept = before
