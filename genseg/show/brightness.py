"""Dim pictures made bright enough to see. For showing only: no model, measure or saved result uses
these pixels."""

import cv2
import numpy as np
from jaxtyping import UInt8

Pixels = UInt8[np.ndarray, "_ _ c"]
BELOW = 99.9  # percent of a dim picture's values lie below DIM
DIM = 64  # of 255
MOST = 16.0  # times: a picture that needs more shows little but the camera's noise
# pixels along the longer side from which brightness is read: a mosaic costs no more than a photo
SAMPLED = 1024


def display_gain(pixels: Pixels) -> float:
    """The factor to show a picture with: 1, or more for a dim one, whose brightest parts it takes
    to white."""
    stride = max(1, max(pixels.shape[:2]) // SAMPLED)
    level = float(np.percentile(pixels[::stride, ::stride], BELOW))
    return min(MOST, 255 / level) if 0 < level < DIM else 1.0


def brightened(pixels: Pixels, gain: float) -> Pixels:
    """A picture times a factor. What passes 255 becomes 255; a factor of 1 returns the same
    array."""
    if gain == 1:
        return pixels
    return cv2.convertScaleAbs(pixels, alpha=gain).reshape(pixels.shape)


def gain_words(gain: float) -> str:
    """What a page says beside a picture: 'shown 5 times as bright', or nothing for a factor of
    1."""
    return "" if gain == 1 else f"shown {gain:.2g} times as bright"
