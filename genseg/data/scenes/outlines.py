"""Outlines of objects: smooth, varied, drawn at random; and their exact, soft alpha maps."""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float

Contour = Float[np.ndarray, "n 2"]
Rng = np.random.Generator


def draw_alpha(
    contours: list[Contour], rng: Rng, *, size: int, radius: float, centre: tuple[float, float]
) -> Float[np.ndarray, "size size"]:
    """Alpha map of a shape, turned at random: the area covered in each pixel (to 1/16), then a
    softened edge.

    `radius` and `centre` (x, y) are parts of `size`. The edge is blurred by 0.5 to 1 pixel, that of
    every sixth object by 1 to 2, as if out of focus.
    """
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))])
    # Four times as fine, in OpenCV's fixed point with 4 binary digits, and with pixel centres at
    # whole numbers.
    fine = [((p @ rotation * radius + centre) * size * 4 - 0.5) * 16 for p in contours]
    mask = np.zeros((size * 4, size * 4), np.uint8)
    cv2.fillPoly(mask, [p.round().astype(np.int32) for p in fine], 255, shift=4)
    alpha = cv2.resize(mask.astype(np.float32) / 255, (size, size), interpolation=cv2.INTER_AREA)
    soft = rng.uniform(1, 2) if rng.random() < 1 / 6 else rng.uniform(0.5, 1)
    return np.clip(cv2.GaussianBlur(alpha, (0, 0), soft), 0, 1)


def _polar(radius: Callable[[np.ndarray], np.ndarray]) -> Contour:
    t = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    return np.stack([np.cos(t), np.sin(t)], 1) * radius(t)[:, None]


def _rounded(corners: np.ndarray, *, smooth: float) -> Contour:
    """A polygon, resampled evenly; its corners rounded by a Gaussian of `smooth` of its
    circumference."""
    closed = np.vstack([corners, corners[:1]])
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    at = np.linspace(0, along[-1], 240, endpoint=False)
    points = np.stack([np.interp(at, along, closed[:, i]) for i in (0, 1)], 1)
    decay = np.exp(-2 * (np.pi * smooth * np.fft.rfftfreq(240, 1 / 240)) ** 2)
    return np.fft.irfft(np.fft.rfft(points, axis=0) * decay[:, None], 240, axis=0)


def _regular(radii: np.ndarray, rng: Rng, *, smooth: float) -> Contour:
    t = np.linspace(0, 2 * np.pi, len(radii), endpoint=False) + rng.uniform(-0.1, 0.1, len(radii))
    return _rounded(np.stack([np.cos(t), np.sin(t)], 1) * radii[:, None], smooth=smooth)


def _blob(rng: Rng) -> list[Contour]:
    order = np.arange(2, 6)
    size, phase = rng.normal(0, 0.3, 4) / order, rng.uniform(0, 2 * np.pi, 4)
    return [_polar(lambda t: np.maximum(1 + np.cos(np.outer(t, order) + phase) @ size, 0.35))]


def _ellipse(rng: Rng) -> list[Contour]:
    return [_polar(np.ones_like) * (1, rng.uniform(0.5, 0.9))]


def _triangle(rng: Rng) -> list[Contour]:
    return [_regular(rng.uniform(0.9, 1.2, 3), rng, smooth=rng.uniform(0.02, 0.04))]


def _box(rng: Rng) -> list[Contour]:
    x, y = 0.9, rng.uniform(0.5, 0.9)
    return [
        _rounded(np.array([(x, y), (-x, y), (-x, -y), (x, -y)]), smooth=rng.uniform(0.01, 0.03))
    ]


def _star(rng: Rng) -> list[Contour]:
    points = int(rng.integers(5, 8))
    return [
        _regular(
            np.tile([1.15, rng.uniform(0.5, 0.65)], points), rng, smooth=rng.uniform(0.008, 0.016)
        )
    ]


def _flower(rng: Rng) -> list[Contour]:
    petals, depth = int(rng.integers(5, 9)), rng.uniform(0.14, 0.24)
    return [_polar(lambda t: 1 + depth * np.cos(petals * t))]


def _ring(rng: Rng) -> list[Contour]:
    outer = _polar(np.ones_like) * (1, rng.uniform(0.8, 1))
    return [outer, outer * rng.uniform(0.4, 0.6)]


def _crescent(rng: Rng) -> list[Contour]:
    """The unit disc without a disc of radius r around (d, 0); the two circles meet at x = (1 + d^2
    - r^2) / 2d."""
    d, r = rng.uniform(0.4, 0.6), rng.uniform(0.75, 0.9)
    x = (1 + d * d - r * r) / (2 * d)
    y = np.sqrt(1 - x * x)
    outer = np.linspace(np.arctan2(y, x), 2 * np.pi - np.arctan2(y, x), 120)
    inner = np.linspace(2 * np.pi - np.arctan2(y, x - d), np.arctan2(y, x - d), 120)
    arcs = [
        np.stack([np.cos(outer), np.sin(outer)], 1),
        np.stack([d + r * np.cos(inner), r * np.sin(inner)], 1),
    ]
    return [_rounded(np.vstack(arcs), smooth=0.008)]


def _drop(rng: Rng) -> list[Contour]:
    t, power = np.linspace(0, 2 * np.pi, 240, endpoint=False), rng.uniform(1, 2)
    return [_rounded(np.stack([np.cos(t), np.sin(t) * np.sin(t / 2) ** power], 1), smooth=0.008)]


def _cross(rng: Rng) -> list[Contour]:
    arm = rng.uniform(0.28, 0.42)
    quarter = np.array([(1, -arm), (1, arm), (arm, arm)])
    turns = [quarter @ np.array([(c, s), (-s, c)]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return [_rounded(np.vstack(turns), smooth=rng.uniform(0.008, 0.016))]


# Contours around the origin, of a radius of about 1; a second contour is a hole.
OUTLINES: dict[str, Callable[[Rng], list[Contour]]] = {
    "blob": _blob,
    "box": _box,
    "crescent": _crescent,
    "cross": _cross,
    "drop": _drop,
    "ellipse": _ellipse,
    "flower": _flower,
    "ring": _ring,
    "star": _star,
    "triangle": _triangle,
}
