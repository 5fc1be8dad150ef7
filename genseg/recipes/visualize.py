"""Pictures of what was generated."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from genseg.data.decode import rgb_pixels
from genseg.data.instances import AnnotatedImage, CocoError, annotated_images, read_json
from genseg.recipes.generate import write_png
from genseg.show.draw import grid, overlay


def visualize(files: Sequence[Path], folder: Path, out: Path, *, count: int, columns: int, side: int, seed: int) -> str:
    """A grid of images, each followed by its instances from each COCO json of `files`, in one PNG.

    folder: where the images of the jsons lie
    count: images, drawn by `seed` from those of the first json; 0: all
    """
    jsons = [_by_name(file) for file in files]
    names = sorted(jsons[0])
    missing = [name for name in names if any(name not in found for found in jsons)]
    if missing:
        raise CocoError(f"{len(missing)} images of {files[0]} are not in the other jsons, the first is {missing[0]}")
    drawn = np.random.default_rng(seed).permutation(len(names))[: count or None]
    pictures = []
    for name in (names[i] for i in sorted(drawn.tolist())):
        image = rgb_pixels((folder / name).read_bytes())
        pictures.append(image)
        pictures += [overlay(image, found[name].instances) for found in jsons]
    per_row = columns * (1 + len(files))
    write_png(out, cv2.cvtColor(grid(pictures, columns=per_row, side=side), cv2.COLOR_RGB2BGR))
    return f"{out}: {len(drawn)} images"


def _by_name(file: Path) -> dict[str, AnnotatedImage]:
    content = read_json(file)
    return {image.name: image for image in annotated_images(content["images"], content["annotations"], file)}
