"""What a frozen teacher makes of images: features of some, and those of all kept on disk."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float16, UInt8
from torch import Tensor
from tqdm import tqdm

from genseg.core.files import replacing
from genseg.data.images.cache import CacheError, cache_folder
from genseg.data.images.pixels import normalise
from genseg.data.images.source import ImageSource
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


def teacher_features(
    teacher: Teacher, source: ImageSource, *, content: str, side: int, batch: int = 8
) -> Float16[np.ndarray, "n c _h _h"]:
    """The features of all images, of `look`, mapped from a file in the user's cache: read-only.

    content: `fingerprint` of the images; the file is another one for other images, another teacher
        and another side
    batch: images that the teacher sees at once

    A broken image has zeros. Raises ValueError for a side that the teacher does not take, and
    CacheError where the file cannot be written; then nothing is left behind.
    """
    teacher.check_side(side=side)
    file = cache_folder() / "features" / f"{content}-{teacher.key}-{side}.npy"
    if (found := _open(file)) is not None:
        return found
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            _write(temporary, teacher, source, side=side, batch=batch)
    except OSError as error:
        raise CacheError(
            f"cannot keep a teacher's features in {file.parent}: {error.strerror or error}; make "
            "room there, or name another folder by the environment variable GENSEG_CACHE"
        ) from error
    found = _open(file)
    assert found is not None  # written just now
    return found


def _open(file: Path) -> Float16[np.ndarray, "n c h w"] | None:
    """The features in a file; None where there is none that is whole."""
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None


def _write(file: Path, teacher: Teacher, source: ImageSource, *, side: int, batch: int) -> None:
    places = side // teacher.stride
    shape = len(source), teacher.width, places, places
    with file.open("wb") as content:
        head = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(content, head)
        for first in tqdm(range(0, len(source), batch), "features of the teacher", leave=False):
            read = [source.read(i) for i in range(first, min(first + batch, len(source)))]
            found = look(teacher, [image for image, _ in read], side=side).half().numpy()
            for k, (_, at) in enumerate(read):
                if at != first + k:  # another one stands in for a broken image
                    found[k] = 0
            # a mapped file would end the process where the disk is full
            content.write(found.tobytes())
