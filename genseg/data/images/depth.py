"""From values of any depth to RGB of 8 bits."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from jaxtyping import Shaped, UInt8

# values that become 8 bits at once: what that takes beside the pixels does not grow with the
# picture
STRIPE = 2**22
_noted: ContextVar[list[tuple[float, float]] | None] = ContextVar("noted", default=None)
SAMPLED = 1_000_000  # values of a picture whose percentiles are taken


def as_rgb(
    x: Shaped[np.ndarray, "*shape"], span: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Values of any depth as RGB of 8 bits: grey (h w, h w 1), RGB (h w 3) or RGBA (h w 4), which
    lies over white.

    span: as `to_8bit` takes it

    Raises ValueError for another shape, and for an alpha of a whole picture that is 0 everywhere.
    """
    if x.ndim not in (2, 3) or (x.ndim == 3 and x.shape[2] not in (1, 3, 4)) or 0 in x.shape:
        raise ValueError(
            f"an array of shape {tuple(x.shape)} is no image; give height x width, or height x "
            "width x 1, 3 or 4 channels (grey, RGB, RGB with alpha)"
        )
    if x.dtype.kind not in "buif":
        raise ValueError(f"an array of {x.dtype} is no image; give whole numbers, floats or bools")
    if x.ndim == 2 or x.shape[2] == 1:
        return np.repeat(to_8bit(x.reshape(x.shape[:2]), span)[..., None], 3, axis=2)
    colour = to_8bit(x[..., :3], span)
    if x.shape[2] == 4 and span is None and not x[..., 3].any():
        raise ValueError(
            "it is wholly transparent: its alpha is 0 everywhere; save it without that channel"
        )
    return colour if x.shape[2] == 3 else _over_white(colour, x[..., 3])


def _over_white(
    colour: UInt8[np.ndarray, "h w 3"], alpha: Shaped[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
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


def to_8bit(
    x: Shaped[np.ndarray, "h w *c"], span: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "h w *c"]:
    """Pixels of any depth as 8 bits: [low, high] goes linearly to [0, 255], the same for all
    channels.

    uint16: the whole range, as photographs use it; float: [0, 1], when all values lie in it.
    Cameras write 10 to 14 bits into 16, and microscopes less: a picture within the lowest quarter
    of the range, and all other types, whose range says nothing, have their own percentiles 0.1 and
    99.9 as low and high (their extremes where those coincide). NaN and infinity become low.

    span: low and high, where `x` is a part of a picture
    """
    if x.dtype == np.uint8:
        return x
    if x.dtype == bool:
        return x.astype(np.uint8) * np.uint8(255)
    # a small picture is read once
    parts = [finite(x[rows]) for rows in _stripes(x)] if x.size <= STRIPE else None
    low, high = span or span_of(lambda: parts or (finite(x[rows]) for rows in _stripes(x)), x.dtype)
    if (noted := _noted.get()) is not None:
        noted.append((low, high))
    out = np.empty(x.shape, np.uint8)
    for rows in _stripes(x):
        values = _as_float(x[rows])
        scaled = (np.where(np.isfinite(values), values, low) - low) * (255 / (high - low or 1.0))
        out[rows] = np.rint(np.clip(scaled, 0, 255))
    return out


def span_of(
    parts: Callable[[], Iterable[Shaped[np.ndarray, "n"]]], dtype: np.dtype, count: int = 0
) -> tuple[float, float]:
    """The values of a picture that become black and white, as `to_8bit` says; `parts` gives all of
    its finite values in their order, as often as it is asked. count: of them, where it is known."""
    count = count or sum(part.size for part in parts())
    if not count:
        return 0.0, 1.0
    least, most, sample = _summary(parts(), count)
    low, high = (float(v) for v in np.percentile(sample, (0.1, 99.9)))
    in_unit = dtype.kind == "f" and least >= 0 and most <= 1
    top = 65535.0 if dtype == np.uint16 else 1.0 if in_unit else None
    if high <= low:
        low, high = least, most
    if top and (high >= top / 4 or high <= low):
        low, high = 0.0, top
    return low, high


def _as_float(x: Shaped[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
    return x.astype(np.float64 if x.dtype.itemsize > 2 else np.float32)


def finite(x: Shaped[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "n"]:
    """The values that are numbers, one after the other."""
    values = _as_float(x).ravel()
    finite = np.isfinite(values)
    return values if finite.all() else values[finite]


def _summary(
    parts: Iterable[Shaped[np.ndarray, "n"]], count: int
) -> tuple[float, float, Shaped[np.ndarray, "m"]]:
    """The least and the largest of `count` values that come in parts, and about SAMPLED of them,
    evenly spaced."""
    step, seen = max(1, count // SAMPLED), 0
    least, most, sample = np.inf, -np.inf, []
    for part in parts:
        if part.size:
            least, most = min(least, float(part.min())), max(most, float(part.max()))
        sample.append(part[-seen % step :: step].copy())
        seen += part.size
    return least, most, np.concatenate(sample)
