"""Small perturbations of an image, which a smooth representation hardly notices."""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import UInt8

from genseg.data.images.decode import resize

NOISE = 8.0  # standard deviation, of 255
SHIFT = 1 / 16  # of the side, at most
CROP = 0.8  # of the area, at least

Pixels = UInt8[np.ndarray, "size size c"]


def noisy(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """With Gaussian noise of standard deviation 8 of 255 on each value."""
    noise = rng.normal(0, NOISE, pixels.shape)
    return (pixels + noise).round().clip(0, 255).astype(np.uint8)


def shifted(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Moved by up to a sixteenth of the side, at least a pixel, along each axis; what comes in is
    mirrored."""
    size = len(pixels)
    most = max(1, round(SHIFT * size))
    down, right = rng.integers(-most, most + 1, 2).tolist()
    wide = cv2.copyMakeBorder(pixels, most, most, most, most, cv2.BORDER_REFLECT_101)
    wide = wide.reshape(*wide.shape[:2], -1)
    moved = wide[most - down : most - down + size, most - right : most - right + size]
    return np.ascontiguousarray(moved)


def cropped(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A random square of 80 to 100 % of the area, enlarged to the size of the image."""
    size = len(pixels)
    side = max(1, round(size * np.sqrt(rng.uniform(CROP, 1))))
    y, x = rng.integers(0, size - side + 1, 2).tolist()
    cut = np.ascontiguousarray(pixels[y : y + side, x : x + side])
    return resize(cut, (size, size), cv2.INTER_LINEAR)


PERTURBATIONS: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "noise": noisy,
    "shift": shifted,
    "crop": cropped,
}


def perturbed(
    pixels: Pixels, index: int, *, count: int, seed: int = 0
) -> UInt8[np.ndarray, "v size size c"]:
    """`count` views by each of PERTURBATIONS, in its order: a function of the image, its index and
    the seed."""
    return np.stack(
        [
            change(pixels, np.random.default_rng([seed, index, number, *kind.encode()]))
            for kind, change in PERTURBATIONS.items()
            for number in range(count)
        ]
    )
