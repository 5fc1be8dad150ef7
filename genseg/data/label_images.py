"""Label images, as Cellpose, StarDist, Fiji and napari have them: a number for each instance, 0 for background."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Int
from PIL import Image
from scipy.ndimage import find_objects

from genseg.data.annotations import CocoError
from genseg.data.instances import OPAQUE, Instance

SUFFIXES = (".tif", ".tiff", ".png")
ENDINGS = ("", "_masks", "_cp_masks", "_mask", "_labels", "_label")  # of a file's name behind that of its image
MOST = 2**16 - 1  # instances that 16 bits can tell apart


def label_file(folder: Path, image: str) -> Path | None:
    """The label image of an image, which is named relative to its own folder; None where there is none."""
    whole = folder / image
    places = (whole.with_name(f"{whole.stem}{end}{suffix}") for end in ENDINGS for suffix in SUFFIXES)
    return next((place for place in places if place.is_file()), None)


def read_label_image(path: Path) -> Int[np.ndarray, "h w"]:
    """The number of the instance of each pixel. Raises CocoError for a file that is no label image."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
                raise CocoError(f"{path}: a label image is grey, each value an instance; got {image.mode}")
            numbers = np.asarray(image).astype(np.int64)
    except OSError as error:
        raise CocoError(f"{path} cannot be read: {error}") from None
    if numbers.min(initial=0) < 0:
        raise CocoError(f"{path}: it holds {numbers.min()}; instances are 1, 2, ..., and 0 is background")
    return numbers


def instances_of(numbers: Int[np.ndarray, "h w"]) -> list[Instance]:
    """The instances of a label image, in the order of their numbers, which may have gaps."""
    values, dense = np.unique(numbers, return_inverse=True)
    dense = dense.reshape(numbers.shape) + (values[0] != 0)  # find_objects has an entry for each number
    windows = enumerate(find_objects(dense), start=1)
    return [Instance((dense[w] == n).astype(np.uint8) * OPAQUE, w[0].start, w[1].start) for n, w in windows]


def write_label_image(path: Path, numbers: Int[np.ndarray, "h w"]) -> None:
    """A compressed TIFF of 16 bits. Raises ValueError for more instances than that can hold."""
    if numbers.max(initial=0) > MOST:
        raise ValueError(f"{path}: {numbers.max()} instances, and 16 bits tell {MOST} apart; raise --score")
    done, content = cv2.imencode(".tif", numbers.astype(np.uint16))
    assert done
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.tobytes())
