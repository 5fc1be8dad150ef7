"""From values of any depth to 8 bits."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

# values that become 8 bits at once: what that takes beside the pixels does not grow with the
# picture
STRIPE = 2**22
Ranges = tuple[tuple[float, float], ...]
_noted: ContextVar[list[tuple[float, float]] | None] = ContextVar("noted", default=None)
SAMPLED = 1_000_000  # values of a picture whose percentiles are taken


def as_rgb(x: Shaped[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "h w 3"]:
    """Values of any depth as RGB of 8 bits: grey (h w, h w 1), RGB (h w 3) or RGBA (h w 4), which
    lies over white.

    Raises ValueError for another shape, and for an alpha that is 0 everywhere.
    """
    if x.ndim not in (2, 3) or (x.ndim == 3 and x.shape[2] not in (1, 3, 4)) or 0 in x.shape:
        raise ValueError(
            f"an array of shape {tuple(x.shape)} is no image; give height x width, or height x "
            "width x 1, 3 or 4 channels (grey, RGB, RGB with alpha)"
        )
    refuse_kind(x.dtype)
    if x.ndim == 2 or x.shape[2] == 1:
        return np.repeat(to_8bit(x.reshape(x.shape[:2]))[..., None], 3, axis=2)
    colour = to_8bit(x[..., :3])
    return colour if x.shape[2] == 3 else _over_white(colour, x[..., 3])


def refuse_kind(dtype: np.dtype) -> None:
    """Raise ValueError for values that are no real numbers, as complex ones and times."""
    if dtype.kind not in "buif":
        raise ValueError(f"an array of {dtype} is no image; give whole numbers, floats or bools")


def as_pixels(
    x: Shaped[np.ndarray, "h w c"],
    *,
    picture: bool,
    together: bool,
    ranges: Ranges = (),
    absent: Bool[np.ndarray, "h w"] | None = None,
    whole: bool = True,
) -> UInt8[np.ndarray, "h w _"]:
    """Values of any depth as 8 bits.

    picture: they are grey or RGB, with alpha or without, and become RGB; else each channel stays
    together: one range is for all channels, as of a photograph; else each has its own
    ranges: values that become 0 and 255, one pair or one a channel; empty: as `to_8bit` says
    absent: pixels without a value, which count in no range; where values are scaled they become 0
    whole: not a window of an image, which may be transparent

    Raises ValueError for values that are no real numbers.
    """
    refuse_kind(x.dtype)
    colours = x.shape[2] - (x.shape[2] in (2, 4)) if picture else x.shape[2]
    alpha = x[..., colours:]
    out = np.empty((*x.shape[:2], colours), np.uint8)
    parts: Sequence[Any] = [slice(0, colours)] if together and len(ranges) < 2 else range(colours)
    if len(ranges) > 1 and len(ranges) != colours:
        raise ValueError(f"range has {len(ranges)} pairs, and the image {colours} channels")
    for n, part in enumerate(parts):
        values = x[..., part]
        if ranges:
            out[..., part] = spread(values, *ranges[n % len(ranges)])
        elif absent is not None and x.dtype != np.uint8:
            out[..., part] = spread(values, *span(values[~absent]))
        else:
            out[..., part] = to_8bit(values)
    if absent is not None and (ranges or x.dtype != np.uint8):
        out[absent] = 0
    if not picture:
        return out
    rgb = np.repeat(out, 3, axis=2) if colours == 1 else out
    return _over_white(rgb, alpha[..., 0], whole=whole) if alpha.shape[2] else rgb


def _over_white(
    colour: UInt8[np.ndarray, "h w 3"], alpha: Shaped[np.ndarray, "h w"], *, whole: bool = True
) -> UInt8[np.ndarray, "h w 3"]:
    if whole and not alpha.any():
        raise ValueError(
            "it is wholly transparent: its alpha is 0 everywhere; save it without that channel"
        )
    top = 1 if alpha.dtype.kind in "fb" else np.iinfo(alpha.dtype).max
    out = np.empty_like(colour)
    for rows in _stripes(colour):
        part = np.rint(alpha[rows, :, None] * (255 / top)).astype(np.uint16)
        out[rows] = (colour[rows] * part + 255 * (255 - part) + 127) // 255
    return out


def _stripes(x: Shaped[np.ndarray, "h *wc"]) -> Iterator[slice]:
    """Slices of rows that hold about STRIPE values each."""
    rows = max(1, STRIPE // max(1, x[0].size))
    yield from (slice(top, top + rows) for top in range(0, len(x), rows))


@contextmanager
def noted_ranges() -> Iterator[list[tuple[float, float]]]:
    """Here, in this thread, `to_8bit` notes the values that become black and white."""
    noted: list[tuple[float, float]] = []
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


def to_8bit(x: Shaped[np.ndarray, "h w *c"]) -> UInt8[np.ndarray, "h w *c"]:
    """Pixels of any depth as 8 bits: [low, high] goes linearly to [0, 255], the same for all
    channels.

    uint16: the whole range, as photographs use it; float: [0, 1], when all values lie in it.
    Cameras write 10 to 14 bits into 16, and microscopes less: a picture within the lowest quarter
    of the range, and all other types, whose range says nothing, have their own percentiles 0.1 and
    99.9 as low and high (their extremes where those coincide). NaN and infinity become low.
    """
    if x.dtype == np.uint8:
        return x
    if x.dtype == bool:
        return x.astype(np.uint8) * np.uint8(255)
    return spread(x, *span(x))


def span(x: Shaped[np.ndarray, "*shape"]) -> tuple[float, float]:
    """The values that become black and white, as `to_8bit` says; (0, 0) where there is no value."""
    if not x.size:
        return 0.0, 0.0
    # a small picture is read once
    parts = [finite(x[rows]) for rows in _stripes(x)] if x.size <= STRIPE else None
    counts = [part.size for part in parts or (finite(x[rows]) for rows in _stripes(x))]
    summary = Summary(sum(counts))
    for part in parts or (finite(x[rows]) for rows in _stripes(x)):
        summary.add(part)
    low, high = summary.span(x.dtype)
    if not sum(counts):
        return low, high
    if (noted := _noted.get()) is not None:
        noted.append((low, high))
    return low, high


def spread(x: Shaped[np.ndarray, "h w *c"], low: float, high: float) -> UInt8[np.ndarray, "h w *c"]:
    """[low, high] as [0, 255]; what lies outside, and what is no number, becomes the nearer end or
    low."""
    out = np.empty(x.shape, np.uint8)
    for rows in _stripes(x):
        values = _as_float(x[rows])
        scaled = (np.where(np.isfinite(values), values, low) - low) * (255 / (high - low or 1.0))
        out[rows] = np.rint(np.clip(scaled, 0, 255))
    return out


def _as_float(x: Shaped[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
    return x.astype(np.float64 if x.dtype.itemsize > 2 else np.float32)


def finite(x: Shaped[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "n"]:
    """The values that are numbers, one after the other."""
    values = _as_float(x).ravel()
    finite = np.isfinite(values)
    return values if finite.all() else values[finite]


class Summary:
    """Of `count` values that come in parts: the least, the largest, and about SAMPLED of them,
    evenly spaced."""

    def __init__(self, count: int) -> None:
        self.step, self.seen = max(1, count // SAMPLED), 0
        self.least, self.most = np.inf, -np.inf
        self.sample: list[Shaped[np.ndarray, _]] = []

    def add(self, part: Shaped[np.ndarray, "n"]) -> None:
        """The next values, all of them finite."""
        if part.size:
            self.least = min(self.least, float(part.min()))
            self.most = max(self.most, float(part.max()))
        self.sample.append(part[-self.seen % self.step :: self.step].copy())
        self.seen += part.size

    def span(self, dtype: np.dtype) -> tuple[float, float]:
        """The values that become black and white, as `to_8bit` says; (0, 0) for none."""
        if not self.seen:
            return 0.0, 0.0
        low, high = (float(v) for v in np.percentile(np.concatenate(self.sample), (0.1, 99.9)))
        in_unit = dtype.kind == "f" and self.least >= 0 and self.most <= 1
        top = 65535.0 if dtype == np.uint16 else 1.0 if in_unit else None
        if high <= low:
            low, high = self.least, self.most
        if top and (high >= top / 4 or high <= low):
            low, high = 0.0, top
        return low, high
