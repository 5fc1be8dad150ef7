"""Values of any depth as 8 bits, against the formula over the whole picture at once."""

import numpy as np
import pytest

from genseg.data.images import depth
from genseg.data.images.depth import as_pixels, as_rgb, to_8bit
from genseg.data.images.held import held_by_shape

TYPES = ("uint16", "int16", "int8", "uint32", "int32", "int64", "float16", "float32", "float64")


def at_once(x: np.ndarray) -> np.ndarray:
    """The formula, without stripes."""
    values = x.astype(np.float64 if x.dtype.itemsize > 2 else np.float32)
    finite = np.isfinite(values)
    seen = values[finite] if not finite.all() else values.ravel()
    if not seen.size:
        return np.zeros(x.shape, np.uint8)
    least, most = float(seen.min()), float(seen.max())
    low, high = (
        float(v) for v in np.percentile(seen[:: max(1, seen.size // depth.SAMPLED)], (0.1, 99.9))
    )
    in_unit = x.dtype.kind == "f" and least >= 0 and most <= 1
    top = 65535.0 if x.dtype == np.uint16 else 1.0 if in_unit else None
    if high <= low:
        low, high = least, most
    if top and (high >= top / 4 or high <= low):
        low, high = 0.0, top
    scaled = (np.where(finite, values, low) - low) * (255 / (high - low or 1.0))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


@pytest.mark.parametrize("shape", [(41, 37), (41, 37, 3), (1, 5), (300, 1)])
@pytest.mark.parametrize("dtype", TYPES)
def test_stripes_change_no_bit(
    dtype: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.normal(60, 25, shape).clip(0, 120).astype(dtype), np.full(shape, 3, dtype)]
    if dtype.startswith("float"):
        spoilt = rng.random(shape).astype(dtype)
        spoilt[rng.random(shape) < 0.3], spoilt[0] = np.nan, np.inf
        pictures += [spoilt, np.full(shape, np.nan, dtype), rng.random(shape).astype(dtype)]
    wanted = [at_once(x) for x in pictures]
    monkeypatch.setattr(depth, "SAMPLED", 100)
    sampled = [at_once(x) for x in pictures]
    for stripe in (1, 50, 2**22):
        monkeypatch.setattr(depth, "STRIPE", stripe)
        assert all((to_8bit(x) == w).all() for x, w in zip(pictures, sampled, strict=True))
    monkeypatch.setattr(depth, "SAMPLED", 1_000_000)
    assert all((to_8bit(x) == w).all() for x, w in zip(pictures, wanted, strict=True))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_alpha_by_stripes_lies_over_white(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    eight = rng.integers(0, 256, (23, 17, 4))
    eight[0, 0], eight[-1, -1] = 0, 255
    x = (eight * {"uint8": 1, "uint16": 257, "float32": np.float32(1 / 255)}[dtype]).astype(dtype)
    colour, alpha = eight[..., :3], eight[..., 3:]
    monkeypatch.setattr(depth, "STRIPE", 40)
    assert (as_rgb(x) == (colour * alpha + 255 * (255 - alpha) + 127) // 255).all()


def test_shapes_that_are_no_image() -> None:
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)
    assert (as_rgb(grey) == as_rgb(grey[..., None])).all() and as_rgb(grey).shape == (4, 5, 3)
    assert (as_rgb(np.eye(4, dtype=bool))[..., 0] == np.eye(4) * 255).all()
    for x in (np.zeros((3, 4, 5)), np.zeros(4), np.zeros((0, 4)), np.zeros((2, 2, 2, 3))):
        with pytest.raises(ValueError, match="is no image; give height x width"):
            as_rgb(x)
    with pytest.raises(ValueError, match="an array of complex128 is no image"):
        as_rgb(np.zeros((4, 4), complex))
    for kind in (complex, "datetime64[s]"):
        with pytest.raises(ValueError, match="is no image; give whole numbers"):
            as_pixels(np.zeros((4, 4, 2), kind), picture=False, together=False)
        with pytest.raises(ValueError, match="is no image; give whole numbers"):
            held_by_shape((2, 4, 4), np.dtype(kind))
    with pytest.raises(ValueError, match="wholly transparent"):
        as_rgb(np.zeros((4, 4, 4), np.uint8))


def test_all_channels_are_scaled_alike() -> None:
    """Otherwise a 12-bit colour picture would change its hue."""
    x = np.random.default_rng(0).integers(0, 1000, (24, 32, 3)).astype(np.uint16)
    x[..., 2] //= 2
    found = to_8bit(x).astype(float)
    assert abs(found[..., 2].mean() / found[..., 0].mean() - 0.5) < 0.01
