"""Instances drawn over their images, and pictures put together in a grid."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from genseg.data.instances import Instance

Pixels = UInt8[np.ndarray, "h w 3"]
GOLDEN = 0.618034  # steps of the hue by the golden ratio keep neighbours in a list apart
GAP = 4  # pixels between the pictures of a grid


def colour(n: int) -> tuple[int, int, int]:
    """A bright colour for the n-th instance; lightness alternates, so that hue alone need not tell two apart."""
    r, g, b = colorsys.hls_to_rgb((0.08 + n * GOLDEN) % 1, (0.55, 0.7)[n % 2], 0.9)
    return round(255 * r), round(255 * g), round(255 * b)


def overlay(image: Pixels, instances: Sequence[Instance], *, strength: float = 0.45) -> Pixels:
    """The image with each alpha map as a veil of its own colour, and a line around its mask."""
    out = image.astype(np.float32)
    for n, instance in enumerate(instances):
        veil = strength / 255 * instance.alpha[..., None].astype(np.float32)
        part = out[instance.window]
        part += veil * (np.array(colour(n), np.float32) - part)
    drawn = out.round().astype(np.uint8)
    for n, instance in enumerate(instances):
        outlines, _ = cv2.findContours(
            instance.mask.astype(np.uint8),
            cv2.RETR_EXTERNAL,
            cv2.CHAIN_APPROX_NONE,
            offset=(instance.left, instance.top),
        )
        cv2.drawContours(drawn, outlines, -1, colour(n), 1)
    return drawn


def grid(pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]], *, columns: int, side: int) -> Pixels:
    """Pictures in rows on white, each shrunk or enlarged into a square of `side` pixels."""
    rows = -(-len(pictures) // columns)
    step = side + GAP
    sheet = np.full((rows * step - GAP, columns * step - GAP, 3), 255, np.uint8)
    for n, picture in enumerate(pictures):
        h, w = picture.shape[:2]
        scale = side / max(h, w)
        size = (max(1, round(w * scale)), max(1, round(h * scale)))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
        top, left = n // columns * step + (side - size[1]) // 2, n % columns * step + (side - size[0]) // 2
        sheet[top : top + size[1], left : left + size[0]] = small
    return sheet
