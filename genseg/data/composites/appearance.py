"""How layers look on what is behind them, and composites as a whole: no one sign shall give pasting
away."""

from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from genseg.core.reading import RGB

Alpha = Float[np.ndarray, "h w"]
Pixels = UInt8[np.ndarray, "h w c"]
Rng = np.random.Generator

Blend = Literal["hard", "feathered", "matched", "noise"]
BLUR = 8  # pixels beyond an alpha that blends look at or change, at most


def plain(rng: Rng, image: Pixels, size: int) -> UInt8[np.ndarray, "{size} {size} c"]:
    """A picture of one texture: a small patch of the image, turned, mirrored on and on, and
    tinted."""
    h, w = image.shape[:2]
    tile = image[patch_window(rng, (slice(0, h), slice(0, w)), image)]
    matrix = cv2.getRotationMatrix2D(
        (0, 0), float(rng.uniform(0, 360)), float(rng.uniform(0.8, 1.6))
    )
    tiled = cv2.warpAffine(
        tile, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    tiled = tiled.reshape(size, size, -1)
    return tinted(rng, tiled.astype(np.float32)).round().astype(np.uint8)


def patch_window(rng: Rng, window: tuple[slice, slice], image: Pixels) -> tuple[slice, slice]:
    """A square within an image, of a tenth to a quarter of its short side, with its middle in
    `window`."""
    h, w = image.shape[:2]
    side = max(4, round(min(h, w) * float(rng.uniform(0.1, 0.25))))
    y, x = (int(rng.integers(s.start, s.stop)) - side // 2 for s in window)
    top, left = min(max(y, 0), max(h - side, 0)), min(max(x, 0), max(w - side, 0))
    return slice(top, top + side), slice(left, left + side)


def tinted(rng: Rng, colour: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w c"]:
    """Another colour and brightness by one gain for each channel."""
    return np.clip(
        colour * np.exp(rng.uniform(-0.5, 0.5, colour.shape[2])).astype(np.float32), 0, 255
    )


def blended(
    rng: Rng,
    colour: Float[np.ndarray, "h w c"],
    alpha: Alpha,
    under: Float[np.ndarray, "h w c"],
    blend: str,
) -> tuple[Float[np.ndarray, "h w c"], Alpha]:
    """Colour and alpha of a layer, prepared for what is `under` it, so that no one sign gives
    pasting away."""
    if blend == "hard":
        return colour, np.clip((alpha - 0.5) * 3 + 0.5, 0, 1)
    soft = np.minimum(cv2.GaussianBlur(alpha, (0, 0), float(rng.uniform(0.5, 1.2))), 1)
    if blend == "feathered":
        return colour, soft
    if blend == "matched":
        ring = cv2.dilate(soft, np.ones((5, 5), np.uint8)) - soft > 0.4
        if ring.any():
            shift = under[ring].mean(0) - colour[ring].mean(0)
            colour = np.clip(colour + shift, 0, 255)
        return colour, soft
    here, there = (_noise(x) for x in (under, colour))
    if here > there:
        colour = colour + rng.normal(0, np.sqrt(here**2 - there**2), colour.shape[:2])[
            ..., None
        ].astype(np.float32)
    return colour, soft


def _noise(image: Float[np.ndarray, "h w c"]) -> float:
    """Standard deviation of the noise, from what a Laplacian leaves (Immerkaer, 1996, with a median
    for robustness)."""
    grey = image.mean(2)
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    return float(np.median(np.abs(cv2.filter2D(grey, -1, kernel))) / (6 * 0.6745))


def photometric(rng: Rng, image: Float[np.ndarray, "s s c"], probability: float) -> Pixels:
    """Brightness, contrast and gamma, then blur, noise and JPEG, each at random."""
    drawn = rng.random(5) < probability * np.array((1, 1, 0.5, 0.5, 0.3))
    x = np.clip(image, 0, 255) / 255
    if drawn[0]:
        x = x ** float(np.exp(rng.uniform(-0.5, 0.5)))
    if drawn[1]:
        gain = np.exp(rng.uniform(-0.4, 0.2)) * np.exp(rng.uniform(-0.1, 0.1, x.shape[2]))
        x = x * gain.astype(np.float32) + float(rng.uniform(-0.1, 0.1))
    if drawn[2]:
        x = cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.3, 1.2))).reshape(x.shape)
    if drawn[3]:
        x = x + rng.normal(0, rng.uniform(0, 0.04), x.shape[:2])[..., None]
    out = (np.clip(x, 0, 1) * 255).round().astype(np.uint8)
    if drawn[4]:
        out = _through_jpeg(out, int(rng.integers(40, 95)))
    return out


def _through_jpeg(image: Pixels, quality: int) -> Pixels:
    """An image as JPEG gives it back; other than three channels each as grey."""
    if image.shape[2] != RGB:
        parts = [
            _coded(image[..., c], quality, cv2.IMREAD_GRAYSCALE) for c in range(image.shape[2])
        ]
        return np.stack(parts, axis=2)
    return _coded(image, quality, cv2.IMREAD_COLOR)


def _coded(
    image: UInt8[np.ndarray, "h w *c"], quality: int, kind: int
) -> UInt8[np.ndarray, "h w *c"]:
    _, coded = cv2.imencode(
        ".jpg", np.ascontiguousarray(image), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return np.asarray(cv2.imdecode(coded, kind))
