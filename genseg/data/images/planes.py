"""What a file holds beyond one picture, channels and pages, and which of it makes an image.

Nothing here reads a file: `held.py` does, and says what it found as a `Held`. A `Selection` is what
the user says; `choose` puts the two together, or refuses and says what to write.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Shaped

from genseg.core.reading import Selection
from genseg.core.words import amount

# of axes, in tifffile's letters; of Q and I nobody says what they are
AXES = {
    "Q": "page",
    "I": "page",
    "Z": "z",
    "T": "time",
    "H": "phase",
    "P": "phase",
    "R": "tile",
    "E": "wavelength",
    "A": "angle",
    "V": "view",
    "M": "tile",
}
OPEN = "QI"
SHOWN = 8  # names of channels in a message
How = Literal["", "max", "mean"]


@dataclass(frozen=True)
class Held:
    """What a file holds.

    axes, shape: as it is stored, in tifffile's letters: Y and X, C and S for channels and samples,
        others for pages; Q and I where nothing says what an axis is
    dtype, bits: of its values; bits may be fewer, as 12 in uint16
    names: of the channels, "" where one has none; empty: none has
    colours: of a picture: 1 grey, 3 red, green and blue; 0: its channels are no colours
    alpha: the last sample is declared to be transparency
    further: pictures of other sizes or series, of which none can be chosen
    nodata: the value that stands for none; inverted: 0 is white
    guessed: of an array: only its shape says that the last of its three axes are channels
    """

    axes: str
    shape: tuple[int, ...]
    dtype: str = "uint8"
    bits: int = 8
    names: tuple[str, ...] = ()
    colours: int = 0
    alpha: bool = False
    further: int = 0
    nodata: float | None = None
    inverted: bool = False
    guessed: bool = False

    def __post_init__(self) -> None:
        assert len(self.axes) == len(self.shape) and {"Y", "X"} <= set(self.axes), self

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each axis."""
        return dict(zip(self.axes, self.shape, strict=True))

    @property
    def channels(self) -> int:
        """Channels of one page, samples of a pixel included."""
        return self.sizes.get("C", 1) * self.sizes.get("S", 1)

    @property
    def page_axes(self) -> str:
        """The axes of more than one page, in the file's order."""
        return "".join(a for a in self.axes if a not in "CYXS" and self.sizes[a] > 1)

    @property
    def pages(self) -> int:
        """Pages, each with all channels."""
        return int(np.prod([self.sizes[a] for a in self.page_axes], dtype=int))

    @property
    def whole_range(self) -> tuple[tuple[float, float], ...]:
        """Black and white of values of fewer than 8 bits; of others nothing."""
        few = self.dtype == "uint8" and self.bits < 8
        return ((0.0, 2.0**self.bits - 1),) if few else ()

    @property
    def plain(self) -> bool:
        """Whether its channels are one picture: grey or RGB, with transparency or without."""
        return self.colours > 0 and self.channels == self.colours + self.alpha

    def name(self, channel: int) -> str:
        """A channel, counted from 0, as it is told: its number from 1, and its name."""
        known = self.names[channel] if channel < len(self.names) else ""
        return f"{channel + 1} {known}".rstrip()

    @property
    def what(self) -> str:
        """Its pages, channels, axes and bits."""
        counts = [
            amount(self.sizes[a], AXES.get(a, f"axis {a}"))
            if a in OPEN
            else f"{self.sizes[a]} {AXES.get(a, f'of axis {a}')}"
            for a in self.page_axes
        ]
        shown = ", ".join(self.name(c) for c in range(min(self.channels, SHOWN)))
        more = ", ..." if self.channels > SHOWN else ""
        named = f" ({shown}{more})" if any(self.names) and self.channels > 1 else ""
        if self.channels > 1 or not counts:
            counts.insert(0, amount(self.channels, "channel") + named)
        further = f", and {amount(self.further, 'further picture')}" if self.further else ""
        kind = " as floats" if self.dtype.startswith("float") else ""
        bits = f"{amount(self.bits, 'bit')}{kind}"
        return f"{' x '.join(counts)} (axes {self.axes}) of {bits}{further}"

    def __str__(self) -> str:
        return f"{self.what}, {self.sizes['X']} x {self.sizes['Y']} pixels"


@dataclass(frozen=True)
class Choice:
    """What is read of a file: of each image its pages, and of each page the channels.

    channels: from 0, in their order; images: the pages of each image, from 0; how: what makes one
    of several; labels: what tells an image from the others of the file; stacked: the file is taken
    as `as_stack` has it; plain: nothing was chosen among the channels: they are a
    picture
    """

    channels: tuple[int, ...]
    images: tuple[tuple[int, ...], ...] = ((0,),)
    how: How = ""
    labels: tuple[str, ...] = field(default=("",))
    stacked: bool = False
    plain: bool = True


def choose(held: Held, selection: Selection) -> Choice:
    """What a selection takes of a file. Raises ValueError, with what the file holds and what to
    write, where it leaves something open, or asks for what is not there."""
    stacked = is_stacked(held, selection)
    if stacked:
        held = as_stack(held)
    channels = _channels(held, selection)
    images, how = _images(held, selection)
    labels = tuple(_label(held, pages, how) for pages in images) if held.pages > 1 else ("",)
    return Choice(channels, images, how, labels, stacked, plain=not selection.channels)


def check_image(held: Held, choice: Choice, image: int) -> None:
    """Raise ValueError where there is no such image, from 1, or where 0 stands for the only one and
    there are several."""
    count = len(choice.images)
    if image > count:
        raise ValueError(f"there is no image {image} of it; it holds {held}")
    if not image and count > 1:
        raise ValueError(f"{count} images are made of it, and one is asked for; it holds {held}")


def as_stack(held: Held) -> Held:
    """The same file, its pages of an axis that nothing names taken for channels; of an array whose
    channels are guessed, its first axis taken for pages."""
    if held.guessed:
        return replace(held, axes="QYX", colours=1, guessed=False)
    axis = held.page_axes
    assert len(axis) == 1 and axis in OPEN, held
    return replace(held, axes=held.axes.replace(axis, "C"), colours=0)


def planes(
    x: Shaped[np.ndarray, "*shape"], held: Held, *, stacked: bool = False
) -> Shaped[np.ndarray, "p c h w"]:
    """All values of a file, by page and channel: a view of `x`, where that is possible."""
    axes = as_stack(held).axes if stacked else held.axes
    pages = [n for n, a in enumerate(axes) if a not in "CYXS"]
    channels = [axes.index(a) for a in "CS" if a in axes]
    x = x.transpose(*pages, *channels, axes.index("Y"), axes.index("X"))
    return x.reshape(-1, int(np.prod(x.shape[len(pages) : -2], dtype=int)), *x.shape[-2:])


def combine(x: Shaped[np.ndarray, "p c h w"], how: How) -> Shaped[np.ndarray, "h w c"]:
    """The pages of one image as one; NaN counts in neither the largest nor the mean. Whole numbers
    stay such."""
    if how and len(x) > 1:
        missing = np.isnan(x).all(0) if x.dtype.kind == "f" else np.False_
        if how == "max":
            one = np.fmax.reduce(x, 0) if x.dtype.kind == "f" else x.max(0)
        else:
            known = ~np.isnan(x) if x.dtype.kind == "f" else np.ones_like(x, bool)
            total = np.where(known, x, 0).sum(0, dtype=np.float64)
            one = total / np.maximum(known.sum(0), 1)
            one = (one if x.dtype.kind == "f" else np.rint(one)).astype(x.dtype)
        if missing.any():
            one = np.where(missing, np.nan, one).astype(x.dtype)
    else:
        (one,) = x
    return np.ascontiguousarray(np.moveaxis(one, 0, -1))


def apply(
    x: Shaped[np.ndarray, "*shape"], held: Held, choice: Choice, image: int = 0
) -> Shaped[np.ndarray, "h w c"]:
    """One image of a file, of all values of which `x` are."""
    all_planes = planes(x, held, stacked=choice.stacked)
    pages, channels = list(choice.images[image]), list(choice.channels)
    return combine(all_planes[np.ix_(pages, channels)], choice.how)


def is_stacked(held: Held, selection: Selection) -> bool:
    """Whether channels are asked for, and only an axis that nothing names can have them; or pages,
    of an array whose channels are guessed."""
    if held.guessed:
        return bool(selection.pages)
    alone = held.channels == 1 and len(held.page_axes) == 1 and held.page_axes in OPEN
    return alone and bool(selection.channels) and not selection.pages


def _channels(held: Held, selection: Selection) -> tuple[int, ...]:
    if not selection.channels:
        if not held.plain and held.channels > 1:
            raise ValueError(refusal(held))
        return tuple(range(held.channels))
    return tuple(_channel(held, one) for one in selection.channels)


def _channel(held: Held, asked: int | str) -> int:
    """The place of a channel. A number that is none of the file's may be a name, as 488."""
    if isinstance(asked, int) and 1 <= asked <= held.channels:
        return asked - 1
    same = [n for n, name in enumerate(held.names) if name.lower() == str(asked).lower()]
    if len(same) == 1:
        return same[0]
    why = (
        f"{len(same)} channels are called {asked}: say its number"
        if same
        else "channels are counted from 1"
        if asked == 0
        else f"there is no channel {asked}"
    )
    raise ValueError(f"channels={asked}: {why}; it holds {held}")


def _images(held: Held, selection: Selection) -> tuple[tuple[tuple[int, ...], ...], How]:
    count, pages = held.pages, selection.pages
    if not pages:
        if count > 1 or held.further:
            raise ValueError(refusal(held, channels=not selection.channels))
        return ((0,),), ""
    if pages == "each":
        if held.further:
            raise ValueError(
                f"pages=each: it holds {held}, and what is further cannot be read; pages=1:{count} "
                "takes the others, and files of one picture each take all"
            )
        return tuple((n,) for n in range(count)), ""
    if pages.startswith("m"):
        how: How = "max" if pages.startswith("max") else "mean"
        return _projected(held, pages.removeprefix(how).strip().upper()), how
    first, last = ([int(n) for n in pages.split(":")] * 2)[:2]
    if first > last:
        raise ValueError(f"pages={pages}: the first page comes first")
    if last > count:
        raise ValueError(f"pages={pages}: there is no page {last}; it holds {held}")
    return tuple((n,) for n in range(first - 1, last)), ""


def _projected(held: Held, axis: str) -> tuple[tuple[int, ...], ...]:
    """The pages that become one, for each image."""
    axes = held.page_axes
    if not axes:
        return ((0,),)
    if axis and axis not in axes:
        raise ValueError(f"pages: there is no axis {axis.lower()} to project; it holds {held}")
    if not axis and len(axes) > 1:
        words = " or ".join(f"pages=max {a.lower()}" for a in axes)
        raise ValueError(f"pages: say which axis is projected: {words}; it holds {held}")
    grid = np.arange(held.pages).reshape([held.sizes[a] for a in axes])
    groups = np.moveaxis(grid, axes.index(axis or axes), -1)
    return tuple(tuple(g) for g in groups.reshape(-1, groups.shape[-1]).tolist())


def _label(held: Held, pages: tuple[int, ...], how: How) -> str:
    """What tells an image from the others of its file: its place on each axis that has one."""
    axes = held.page_axes
    places = np.array(np.unravel_index(pages, [held.sizes[a] for a in axes])).T
    same = [len({int(p[n]) for p in places}) == 1 for n in range(len(axes))]
    if len(pages) > 1 and not all(same):
        axes_left = [(a, int(places[0][n])) for n, a in enumerate(axes) if same[n]]
    else:
        axes_left = [(a, int(p)) for a, p in zip(axes, places[0], strict=True)]
    return " ".join(f"{AXES.get(a, a)} {p + 1}" for a, p in axes_left)


def refusal(held: Held, *, channels: bool = True) -> str:
    """What a file holds, and the words that say what to use of it."""
    keys, options = list[str](), list[str]()
    if channels and not held.plain and held.channels > 1:
        every = ",".join(map(str, range(1, min(held.channels, SHOWN) + 1)))
        named = next((n for n in held.names if n and held.names.count(n) == 1), "")
        one = f" or {named}" if named else ""
        keys.append(f"--channels {every}{one}")
        options.append(f"data.channels={every}")
        if held.guessed:
            first = f"--pages max, each, mean, 1 or 1:{held.sizes['Y']}"
            keys[-1] += f" (or by {first}, where its first axis are pages)"
    if held.pages > 1:
        axes = held.page_axes
        some = "max" if len(axes) == 1 else f"max {('Z' if 'Z' in axes else axes[0]).lower()}"
        keys.append(f"--pages {some}, each, mean, 1 or 1:{held.pages}")
        options.append(f"data.pages='{some}'" if " " in some else f"data.pages={some}")
        if held.channels == 1 and axes in OPEN and channels:
            every = ",".join(map(str, range(1, min(held.pages, SHOWN) + 1)))
            keys.append(f"--channels {every} where its pages are channels")
    elif held.further:
        keys.append("--pages 1")
        options.append("data.pages=1")
    return (
        f"it holds {held}: say what to use, by {' and '.join(keys)}; in a recipe "
        f"{' '.join(options)}"
    )
