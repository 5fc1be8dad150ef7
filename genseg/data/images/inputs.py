"""What models are given of an image, without torch: its channels, and dim ones with their values
spread."""

import cv2
import numpy as np
from jaxtyping import UInt8

from genseg.core.reading import RGB


def rgb_of(image: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
    """What an eye, or a method for photographs, is shown of any channels: one is grey, two are red
    and green, of more the first three."""
    channels = image.shape[2]
    if channels == RGB:
        return image
    if channels == 1:
        return np.repeat(image, RGB, axis=2)
    if channels == 2:
        return np.concatenate([image, np.zeros_like(image[..., :1])], axis=2)
    return np.ascontiguousarray(image[..., :RGB])


def as_inputs(image: UInt8[np.ndarray, "h w c"], channels: int) -> UInt8[np.ndarray, "h w _"]:
    """An image for a model of so many channels; one channel is grey to a model of three. Raises
    ValueError for another number."""
    if image.shape[2] == channels:
        return image
    if image.shape[2] == 1 and channels == RGB:
        return np.repeat(image, RGB, axis=2)
    raise ValueError(
        f"the model takes {channels} channels, and the image has {image.shape[2]}: name "
        f"{channels} by --channels, in the order that it was trained on"
    )


def stretching(
    image: UInt8[np.ndarray, "h w c"], *, most: float = 8.0
) -> UInt8[np.ndarray, "256 *c"]:
    """The table of new values that spreads all but 0.2 % at each end over the range, as
    microscopists do.

    It is one for the three channels of a picture, so colours keep their ratios, and one for each
    where there are fewer or more; it steepens by `most` times at most.
    """
    step = stretching_step(*image.shape[:2])
    return stretching_of(image[::step, ::step], most=most)


def stretching_step(height: int, width: int) -> int:
    """Of an image of that size, every so many-th row and column is enough for its `stretching`."""
    return max(1, int(np.sqrt(height * width / 65536)))


def stretching_of(
    image: UInt8[np.ndarray, "h w c"], *, most: float = 8.0
) -> UInt8[np.ndarray, "256 *c"]:
    """`stretching` of an image by every pixel that is given."""
    axes = None if image.shape[2] == RGB else (0, 1)
    low, high = np.percentile(image, (0.2, 99.8), axis=axes)
    gain = np.minimum(most, 255 / np.maximum(high - low, 1))
    values = np.arange(256) if image.shape[2] == RGB else np.arange(256)[:, None]
    return np.clip((values - low) * gain, 0, 255).round().astype(np.uint8)


def mapped(
    image: UInt8[np.ndarray, "h w c"], table: UInt8[np.ndarray, "256 *c"]
) -> UInt8[np.ndarray, "h w c"]:
    """An image with new values, by the table of all channels, or of each."""
    if table.ndim == 1:
        return np.asarray(cv2.LUT(image, table))
    return np.stack([table[image[..., c], c] for c in range(image.shape[2])], axis=2)


def stretch(image: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w c"]:
    """An image with its values spread by its own `stretching`."""
    return mapped(image, stretching(image))
