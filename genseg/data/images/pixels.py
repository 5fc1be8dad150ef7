"""From uint8 pixels to what the encoder takes."""

import cv2
import numpy as np
import torch
from jaxtyping import Float, Real, UInt8
from torch import Tensor

from genseg.data.images.decode import resize

Numbers = tuple[float, ...]  # one for each channel


def normalise(
    pixels: Real[Tensor, "*n h w c"], *, mean: Numbers, std: Numbers
) -> Float[Tensor, "*n c h w"]:
    """(pixels / 255 - mean) / std per channel, for uint8 or float pixels in 0 ... 255.

    The memory stays channels-last: nothing is copied twice. A row of pixels is one run of c w
    numbers, in one
    block of memory: five times as fast on a CPU as runs of 3 in two.
    """
    width, channels = pixels.shape[-2:]
    shift = (torch.tensor(mean, device=pixels.device) * 255).repeat(width)
    scale = (1 / (torch.tensor(std, device=pixels.device) * 255)).repeat(width)
    rows = pixels.flatten(-2).to(torch.float32, copy=True)
    return rows.sub_(shift).mul_(scale).unflatten(-1, (width, channels)).movedim(-1, -3)


def centre(image: UInt8[np.ndarray, "h w c"], size: int) -> UInt8[np.ndarray, "size size c"]:
    """The view of evaluation: the largest centred square, resized to `size`."""
    h, w = image.shape[:2]
    side = min(h, w)
    cut = image[(h - side) // 2 :, (w - side) // 2 :][:side, :side]
    if side == size:
        return np.ascontiguousarray(cut)
    return resize(cut, (size, size), cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
