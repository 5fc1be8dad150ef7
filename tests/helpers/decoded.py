"""Masks of what genseg writes as code, read back."""

from typing import Any

import numpy as np
from jaxtyping import UInt8
from pycocotools import mask as rle

from genseg.data.instances.run_length import code_segmentation


def decode_segmentation(
    segmentation: Any, height: int, width: int
) -> UInt8[np.ndarray, "height width"]:
    """A COCO segmentation as a mask of 0 and 1. Raises ValueError as code_segmentation does."""
    return np.asarray(rle.decode(code_segmentation(segmentation, height, width)), np.uint8)
