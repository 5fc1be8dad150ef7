"""COCO sets made by hand, for tests of what is read from them."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as rle

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]


def write_image(path: Path, height: int, width: int, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), cv2.GaussianBlur(pixels, (0, 0), 2))


def blob(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A mask of an ellipse, which may reach over the border."""
    mask = np.zeros((height, width), np.uint8)
    centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
    axes = (int(rng.integers(2, width // 4)), int(rng.integers(2, height // 4)))
    return cv2.ellipse(mask, centre, axes, float(rng.integers(0, 180)), 0, 360, 1, -1)


def code(mask: np.ndarray) -> dict[str, Any]:
    found = rle.encode(np.asfortranarray(mask))
    return {"size": found["size"], "counts": found["counts"].decode()}


def square(left: float, top: float, side: float) -> list[list[float]]:
    right, bottom = left + side, top + side
    return [[left, top, right, top, right, bottom, left, bottom]]


def note(number: int, image: int = 1, category: int = 3, **more: Any) -> dict[str, Any]:
    """An annotation: a square of 10 pixels at (4, 5), unless `more` says otherwise."""
    usual = {"bbox": [4, 5, 10, 10], "area": 100, "iscrowd": 0, "segmentation": square(4, 5, 10)}
    return {"id": number, "image_id": image, "category_id": category, **usual, **more}


def write_json(
    folder: Path,
    annotations: list[dict[str, Any]],
    images: list[dict[str, Any]] | None = None,
    **more: Any,
) -> Path:
    """folder/labels.json; its image 1 is images/1.png of 40 x 60 pixels unless `images` says
    otherwise."""
    if images is None:
        images = [{"id": 1, "file_name": "1.png", "height": 40, "width": 60}]
        write_image(folder / "images/1.png", 40, 60)
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES, **more}
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "labels.json"


def write_blobs(
    folder: Path, count: int = 3, each: int = 12, seed: int = 0, sizes: tuple[int, int] = (70, 90)
) -> Path:
    """A set of overlapping ellipses: the last annotation of each image is a crowd."""
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    for i in range(1, count + 1):
        height, width = sizes[0] + 5 * i, sizes[1] - 5 * i
        write_image(folder / "images" / f"{i}.png", height, width, seed=i)
        images.append({"id": i, "file_name": f"{i}.png", "height": height, "width": width})
        for n in range(each):
            mask = blob(rng, height, width)
            box = rle.toBbox(rle.encode(np.asfortranarray(mask))).tolist()
            more = {
                "bbox": box,
                "area": int(mask.sum()),
                "segmentation": code(mask),
                "iscrowd": int(n == each - 1),
            }
            annotations.append(note(len(annotations) + 1, i, (3, 7)[n % 2], **more))
    return write_json(folder, annotations, images)
