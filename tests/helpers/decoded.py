"""Masks of what genseg writes as code, read back."""

from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from pycocotools import mask as rle

from genseg.data.instances.run_length import code_segmentation


def decode_segmentation(
    segmentation: Any, height: int, width: int
) -> UInt8[np.ndarray, "height width"]:
    """A COCO segmentation as a mask of 0 and 1. Raises ValueError as code_segmentation does."""
    return np.asarray(rle.decode(code_segmentation(segmentation, height, width)), np.uint8)


def decode_brush(code: list[int], height: int, width: int) -> Bool[np.ndarray, "height width"]:
    """The mask of a code: where the last of the four channels is half or more. Raises ValueError
    for another size."""
    bits = "".join(f"{n:08b}" for n in code)
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    if total != 4 * height * width:
        raise ValueError(
            f"the code is of {total} bytes, {height} x {width} pixels have {4 * height * width}"
        )
    out: UInt8[np.ndarray, " n"] = np.zeros(total, np.uint8)
    i = 0
    while i < total:
        equal, length = take(1), take(sizes[take(2)]) + 1
        if equal:
            out[i : i + length] = take(word)
        else:
            out[i : i + length] = [take(word) for _ in range(length)]
        i += length
    return np.asarray(out.reshape(height, width, 4)[..., 3] >= 128)
