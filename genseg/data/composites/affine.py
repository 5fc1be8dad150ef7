"""Affine maps that bring images and cut-outs onto a composite's canvas."""

import math

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from genseg.data.composites.appearance import Rng
from genseg.data.instances.instance import Instance

Window = tuple[slice, slice]  # rows and columns


def turned(
    rng: Rng, matrix: Float[np.ndarray, "2 3"], size: int, quarters: bool
) -> Float[np.ndarray, "2 3"]:
    """The same mapping, flipped left to right at random and turned by quarters."""
    flip, turns = rng.random() < 0.5, int(rng.integers(4)) if quarters else 0
    full = np.vstack([matrix, (0, 0, 1)])
    if flip:
        full = np.array([[-1, 0, size - 1], [0, 1, 0], [0, 0, 1]]) @ full
    for _ in range(turns):
        full = np.array([[0, 1, 0], [-1, 0, size - 1], [0, 0, 1]]) @ full
    return full[:2]


def pose(
    rng: Rng, instance: Instance, centre: tuple[float, float], scale: float, rotate: float
) -> Float[np.ndarray, "2 3"]:
    """The affine map that puts the cut-out's middle at `centre`: turned, scaled, perhaps
    mirrored."""
    angle = np.deg2rad(rng.uniform(-rotate, rotate))
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[c * mirror, -s], [s * mirror, c]])
    h, w = instance.alpha.shape
    middle = np.array([instance.left + w / 2, instance.top + h / 2])
    return np.hstack([linear, (np.array([centre[1], centre[0]]) - linear @ middle)[:, None]])


def moved(
    instance: Instance, matrix: Float[np.ndarray, "2 3"], size: int, *, margin: int
) -> tuple[Window, Float[np.ndarray, "h w"]]:
    """The window of the canvas that an instance reaches under an affine map, `margin` pixels more
    on each side; and its alpha there. Both are empty where it reaches none."""
    (top, left), (h, w) = (instance.top, instance.left), instance.alpha.shape
    corners = np.array([(x, y, 1) for x in (left - 1, left + w) for y in (top - 1, top + h)])
    x, y = (matrix @ corners.T).tolist()
    rows, columns = (_span(min(v) - margin, max(v) + margin, size) for v in (y, x))
    if rows.start == rows.stop or columns.start == columns.stop:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.float32)
    alpha = warped(instance.alpha, matrix, (top, left), (rows, columns), cv2.BORDER_CONSTANT)
    return (rows, columns), alpha.astype(np.float32) / 255


def _span(first: float, last: float, size: int) -> slice:
    """The pixels of 0 to `size` that lie between two."""
    start, stop = math.floor(first), math.ceil(last) + 1
    return slice(min(max(start, 0), size), min(max(stop, 0), size))


def warped(
    pixels: UInt8[np.ndarray, "..."],
    matrix: Float[np.ndarray, "2 3"],
    origin: tuple[int, int],
    window: Window,
    border: int,
) -> UInt8[np.ndarray, "..."]:
    """A window of the canvas, onto which an affine map brings an image, of which `pixels` begin at
    row and column `origin`."""
    rows, columns = window
    matrix = matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ origin[::-1] - (columns.start, rows.start)
    size = (columns.stop - columns.start, rows.stop - rows.start)
    out = cv2.warpAffine(pixels, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border)
    return out.reshape(*size[::-1], *pixels.shape[2:])
