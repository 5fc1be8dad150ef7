"""What a frozen teacher makes of images of any size."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from genseg.data.images.pixels import normalise
from genseg.nn.teacher import Teacher

Pixels = UInt8[np.ndarray, "_ _ 3"]


def look(teacher: Teacher, images: Sequence[Pixels], *, side: int) -> Float[Tensor, "b c _h _h"]:
    """Features (on the CPU) of images of any size, each resized to a square of `side` pixels."""
    squares = [
        cv2.resize(
            image,
            (side, side),
            interpolation=cv2.INTER_AREA if min(image.shape[:2]) > side else cv2.INTER_LINEAR,
        )
        for image in images
    ]
    pixels = torch.from_numpy(np.stack(squares)).to(teacher.device)
    return teacher(normalise(pixels, mean=teacher.facts.mean, std=teacher.facts.std)).cpu()
