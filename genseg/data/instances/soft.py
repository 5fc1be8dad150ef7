"""Soft alpha maps as genseg generate writes them: one picture of the whole image for each
annotation."""

from pathlib import Path

import numpy as np

from genseg.data.images.coco_files import CocoError
from genseg.data.images.png import read_png
from genseg.data.instances.instance import Instance, cut


def read_alpha(file: Path, instance: Instance, height: int, width: int) -> Instance:
    """The alpha map of an instance of an image of that size, whose mask is known.

    Raises CocoError for a file that is missing, of another shape, or of another instance.
    """
    try:
        alpha = read_png(file)
    except (OSError, ValueError):
        raise CocoError(
            f"{file} is missing or no image; each annotation needs its alpha map"
        ) from None
    if alpha.dtype != np.uint8 or alpha.shape != (height, width):
        raise CocoError(
            f"{file} holds {alpha.dtype} of shape {alpha.shape}; an alpha map is an 8-bit grey "
            f"image of shape {(height, width)}"
        )
    if instance.area and not alpha[instance.window][instance.mask].any():
        raise CocoError(
            f"{file} is 0 in all of the mask that it belongs to; its number is that of another "
            "annotation"
        )
    return cut(alpha)
