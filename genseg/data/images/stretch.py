"""Dim images with their values spread, as in training so in generation."""

import cv2
import numpy as np
from jaxtyping import UInt8


def stretching(image: UInt8[np.ndarray, "h w 3"], *, most: float = 8.0) -> UInt8[np.ndarray, "256"]:
    """The table of new values that spreads all but 0.2 % at each end over the range, as
    microscopists do.

    It is one for all channels, so colours keep their ratios, and steepens by `most` times at most.
    """
    step = max(1, int(np.sqrt(image.shape[0] * image.shape[1] / 65536)))
    low, high = np.percentile(image[::step, ::step], (0.2, 99.8))
    gain = min(most, 255 / max(high - low, 1))
    return np.clip((np.arange(256) - low) * gain, 0, 255).round().astype(np.uint8)


def stretch(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """An image with its values spread by its own `stretching`."""
    return np.asarray(cv2.LUT(image, stretching(image)))
