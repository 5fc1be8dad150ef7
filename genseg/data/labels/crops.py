"""One training crop of a labelled image: what is drawn, and how it moves the image, its masks and
its boxes alike.

A crop is a window of the image, resized, laid on a square, flipped and transposed. So each row and
column of the crop
is one row and column of the image: masks are moved by two lists of indices, inside their own
windows only, which is exact and does not depend on how large the image is.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from genseg.core.check import at_least
from genseg.data.images.decode import resize
from genseg.data.images.views import View, colour_view
from genseg.data.instances.instance import Instance

PAD = 128  # grey of what lies outside the image (detectron2's FixedSizeCrop)
# brightness, contrast, saturation and hue at a photometric strength of 1
COLOUR = (0.4, 0.4, 0.4, 0.1)


@dataclass(frozen=True)
class AugmentConfig:
    """Large-scale jitter (Ghiasi et al., 2021) of images with masks and boxes."""

    size: int = 512  # side of a crop in pixels
    # range of zoom factors; halving is as likely as doubling
    scale: tuple[float, float] = (0.5, 2.0)
    # true: zoom the whole image fitted into the crop, for photographs; false: its own pixels
    fit: bool = False
    flip: float = 0.5  # probability of a left-right flip
    turn: bool = False  # any of the eight rotations and mirrorings, for images without an up
    # strength of the colour jitter; 0: none, 1: that of the contrastive views
    photometric: float = 0.5

    def __post_init__(self) -> None:
        at_least(8, size=self.size)
        at_least(0, flip=self.flip, photometric=self.photometric)
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale={self.scale} is (smallest, largest), above 0")
        if self.flip > 1 or self.photometric > 2.5:
            raise ValueError(
                f"flip={self.flip} is a probability, photometric={self.photometric} at most 2.5"
            )


@dataclass(frozen=True)
class Crop:
    """What was drawn for one crop of `size` x `size` pixels.

    window: top, left, height, width in the image
    inside: top, left, height, width in the square, before it is flipped and transposed
    """

    size: int
    window: tuple[int, int, int, int]
    inside: tuple[int, int, int, int]
    flip: bool
    vertical_flip: bool
    transpose: bool
    colour: View

    def rows(self) -> Int[np.ndarray, "size"]:
        """The image's row of each row of the square after its flips, before it is transposed; -1
        outside."""
        return _indices(self.size, self.window[::2], self.inside[::2], self.vertical_flip)

    def columns(self) -> Int[np.ndarray, "size"]:
        """The same of columns."""
        return _indices(self.size, self.window[1::2], self.inside[1::2], self.flip)


def _indices(
    size: int, window: tuple[int, ...], inside: tuple[int, ...], flip: bool
) -> Int[np.ndarray, "size"]:
    found = np.full(size, -1, np.int64)
    steps = np.arange(window[0], window[0] + window[1], dtype=np.float32)[:, None]
    nearest = cv2.resize(steps, (1, inside[1]), interpolation=cv2.INTER_NEAREST_EXACT)
    found[inside[0] : inside[0] + inside[1]] = nearest[:, 0]
    return found[::-1] if flip else found


def draw_crop(rng: np.random.Generator, config: AugmentConfig, height: int, width: int) -> Crop:
    """Draw one crop of an image of `height` x `width` pixels."""
    size = config.size
    factor = float(np.exp(rng.uniform(*np.log(config.scale)))) * (
        size / max(height, width) if config.fit else 1
    )
    windows, insides = [], []
    for side, u in zip((height, width), rng.random(2).tolist(), strict=True):
        whole = round(side * factor) <= size
        taken = side if whole else min(side, max(1, round(size / factor)))
        covered = max(1, round(side * factor)) if whole else size
        windows.append((int(u * (side - taken + 1)), taken))
        insides.append((int(u * (size - covered + 1)), covered))
    flip, vertical, transpose = rng.random(3) < (config.flip, 0.5 * config.turn, 0.5 * config.turn)
    shifts = np.array(COLOUR) * config.photometric * rng.uniform(-1, 1, 4)
    (top, h), (left, w) = windows
    (above, tall), (before, wide) = insides
    order = tuple(int(i) for i in rng.permutation(4)) if config.photometric else ()
    brightness, contrast, saturation, hue = (1 + shifts - (0, 0, 0, 1)).tolist()
    return Crop(
        size,
        (top, left, h, w),
        (above, before, tall, wide),
        bool(flip),
        bool(vertical),
        bool(transpose),
        View(
            crop=(top, left, h, w),
            flip=False,
            vertical_flip=False,
            order=order,
            factors=(brightness, contrast, saturation, hue),
        ),
    )


def crop_image(image: UInt8[np.ndarray, "h w c"], crop: Crop) -> UInt8[np.ndarray, "s s c"]:
    """The pixels of the crop: area averaging when shrinking, grey outside the image, the jitter not
    on the grey."""
    top, left, h, w = crop.window
    above, before, tall, wide = crop.inside
    cut = image[top : top + h, left : left + w]
    shrinks = tall < h and wide < w
    cut = resize(cut, (wide, tall), cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    square = np.full((crop.size, crop.size, image.shape[2]), PAD, np.uint8)
    square[above : above + tall, before : before + wide] = colour_view(cut, crop.colour)
    square = square[:: -1 if crop.vertical_flip else 1, :: -1 if crop.flip else 1]
    return np.ascontiguousarray(square.swapaxes(0, 1) if crop.transpose else square)


def crop_map(x: UInt8[np.ndarray, "h w"], crop: Crop, outside: int) -> UInt8[np.ndarray, "s s"]:
    """A map of classes, by nearest neighbours; `outside` is what lies outside the image."""
    rows, columns = crop.rows(), crop.columns()
    found = x[rows[:, None], columns]
    found[rows < 0] = outside
    found[:, columns < 0] = outside
    return np.ascontiguousarray(found.T if crop.transpose else found)


def crop_instances(instances: list[Instance], crop: Crop) -> list[Instance | None]:
    """Masks by nearest neighbours, each in a window of the crop; None for one of which nothing is
    left."""
    rows, columns = crop.rows(), crop.columns()
    found: list[Instance | None] = []
    for instance in instances:
        h, w = instance.alpha.shape
        r = np.flatnonzero((rows >= instance.top) & (rows < instance.top + h))
        c = np.flatnonzero((columns >= instance.left) & (columns < instance.left + w))
        if not r.size or not c.size:
            found.append(None)
            continue
        alpha = instance.alpha[(rows[r] - instance.top)[:, None], columns[c] - instance.left]
        top, left = int(r[0]), int(c[0])
        if crop.transpose:
            alpha, top, left = alpha.T, left, top
        found.append(Instance(alpha, top, left) if alpha.any() else None)
    return found


def crop_boxes(boxes: Float[np.ndarray, "n 4"], crop: Crop) -> Float[np.ndarray, "n 4"]:
    """Boxes (left, top, right, bottom) in the crop, cut to where the image is; one outside has no
    width or height."""
    top, left, h, w = crop.window
    above, before, tall, wide = crop.inside
    x = before + np.clip((boxes[:, 0::2] - left) * (wide / w), 0, wide)
    y = above + np.clip((boxes[:, 1::2] - top) * (tall / h), 0, tall)
    x = crop.size - x[:, ::-1] if crop.flip else x
    y = crop.size - y[:, ::-1] if crop.vertical_flip else y
    x, y = (y, x) if crop.transpose else (x, y)
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1)
