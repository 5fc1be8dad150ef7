"""Images and alpha maps made by hand, for tests of composites."""

import cv2
import numpy as np

from genseg.data.composites.compose import ComposeConfig, Layer
from genseg.data.composites.hosts import Images

PLAIN = ComposeConfig(
    size=64, photometric=0.0, stretch=False, pasted=(3, 8), empty=0.0, own=0.0, sure=0.5, native=0.5
)
Layers = list[Layer]


def disc(size: int, y: float, x: float, radius: float) -> np.ndarray:
    """An alpha map of a disc with a soft border of one pixel."""
    rows, columns = np.mgrid[:size, :size]
    return (
        (np.clip(radius + 0.5 - np.hypot(rows - y, columns - x), 0, 1) * 255)
        .round()
        .astype(np.uint8)
    )


def flat(colour: tuple[int, int, int], size: int = 80) -> np.ndarray:
    return np.full((size, size, 3), colour, np.uint8)


def textured(seed: int, size: int = 80) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def images_of(pixels: list[np.ndarray]) -> Images:
    return Images(lambda i: pixels[i], stretched=False)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())
