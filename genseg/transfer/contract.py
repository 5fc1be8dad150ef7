"""What a model that is fine-tuned is asked for: a loss on a batch of labelled crops, and what is in
a whole image."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from genseg.data.instances.instance import Instance
from genseg.data.regions.scene import Scene
from genseg.nn.encoder import MULTIPLE

Pixels = UInt8[np.ndarray, "h w c"]


@dataclass(frozen=True)
class Labelled:
    """A batch of crops of one size, normalised, with their labels.

    boxes: left, top, right and bottom in pixels, of each image
    classes: from 0, of each box
    masks: 0 or 1, of each box; None when boxes are all that is known
    semantic: class of each pixel, 0 for background, 255 where it is not asked; None for instances
    """

    images: Float[Tensor, "b c h w"]
    boxes: list[Float[Tensor, "_ 4"]]
    classes: list[Int[Tensor, "_"]]
    masks: list[UInt8[Tensor, "_ h w"]] | None
    semantic: Int[Tensor, "b h w"] | None = None


@dataclass(frozen=True)
class Detection:
    """One object that was found.

    box_xyxy: left, top, right and bottom in pixels of the image
    category: from 0
    instance: its mask; None from a detector of boxes
    """

    box_xyxy: tuple[float, float, float, float]
    category: int
    score: float
    instance: Instance | None = None


@dataclass(frozen=True)
class Windows:
    """A normalised image that is read by windows: it stands where a tensor of `c h w` stands, of
    which parts alone are taken.

    normalised: a window of the scene as the model takes it
    """

    scene: Scene
    normalised: Callable[[Pixels], Float[Tensor, "c h w"]]
    device: torch.device

    @property
    def shape(self) -> tuple[int, int, int]:
        """As a tensor has it."""
        height, width, channels = self.scene.shape
        return channels, height, width

    def __getitem__(self, part: tuple[slice, slice, slice]) -> Float[Tensor, "c h w"]:
        """All channels at some rows and columns."""
        _, rows, columns = part
        return self.normalised(self.scene[rows, columns])


def padded(image: Float[Tensor, "c h w"], multiple: int = MULTIPLE) -> Float[Tensor, "1 c _ _"]:
    """The image as a batch, mirrored at its lower and right edge to a multiple; repeated where it
    is too small."""
    h, w = image.shape[1:]
    below, right = -h % multiple, -w % multiple
    mode = "reflect" if below < h and right < w else "replicate"
    x = (
        torch.nn.functional.pad(image[None], (0, right, 0, below), mode=mode)
        if below or right
        else image[None]
    )
    return x.contiguous(memory_format=torch.channels_last)
