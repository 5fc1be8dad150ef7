"""The objects of a labelled set, each a crop of its own: for measures of classes."""

import os
import threading
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from genseg.core.reading import current
from genseg.data.images.files import ImageList
from genseg.data.labels.labelled_set import LabelledImage, LabelledSet
from genseg.data.labels.samples import read_sample


class BoxCrops:
    """Squares around the boxes of a set, no crowd among them; `read` gives what an ImageSource
    gives.

    margin: of the longer side of the box, on each of the four sides. A square is moved into the
    image; where it is larger than the image's short side it is cut to that.
    labels: the class of each
    """

    def __init__(self, labelled: LabelledSet, margin: float) -> None:
        self.margin = margin
        self._held = [
            (image, n) for image in labelled.images for n in np.flatnonzero(~image.crowd).tolist()
        ]
        self.files = tuple(image.path for image in labelled.images)
        self.labels = [int(image.classes[n]) for image, n in self._held]
        self._last: tuple[LabelledImage, UInt8[np.ndarray, "h w c"]] | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def read(self, i: int) -> tuple[UInt8[np.ndarray, "s s c"], int]:
        """The i-th crop, and i. Neighbours are of one image, which is then read once."""
        image, n = self._held[i]
        with self._lock:
            if self._last is None or self._last[0] is not image:
                self._last = (image, read_sample(image))
            pixels = self._last[1]
        box = image.boxes_xyxy[n].tolist()
        return pixels[square_around(box, image.height, image.width, self.margin)], i


def square_around(
    box_xyxy: Sequence[float], height: int, width: int, margin: float
) -> tuple[slice, slice]:
    """Rows and columns of the square around a box, with `margin` of the longer side on each side:
    moved into the image, and cut to its short side where it is larger."""
    left, top, right, bottom = box_xyxy
    longer = max(right - left, bottom - top)
    side = min(max(1, round(longer * (1 + 2 * margin))), height, width)
    y = min(max(round((top + bottom - side) / 2), 0), height - side)
    x = min(max(round((left + right - side) / 2), 0), width - side)
    return slice(y, y + side), slice(x, x + side)


def crop_list(labelled: LabelledSet, margin: float = 0.1) -> ImageList:
    """The same squares as a list of images with classes: categories that have a box."""
    found = [
        (image, image.boxes_xyxy[n].tolist(), int(image.classes[n]))
        for image in labelled.images
        for n in np.flatnonzero(~image.crowd).tolist()
    ]
    names = [name for _, name in labelled.categories]
    classes = sorted({names[c] for _, _, c in found})
    squares = [square_around(box, i.height, i.width, margin) for i, box, _ in found]
    windows = [(y.start, x.start, y.stop - y.start, x.stop - x.start) for y, x in squares]
    pages = tuple(image.page for image, _, _ in found)
    return ImageList(
        labelled.source.parent,
        tuple(os.path.relpath(image.path, labelled.source.parent) for image, _, _ in found),
        tuple(classes.index(names[c]) for _, _, c in found),
        tuple(classes),
        windows=tuple(windows),
        pages=pages if any(pages) else None,
        reading=current(),
    )
