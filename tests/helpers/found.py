"""A folder as `genseg generate --alphas` leaves it, made by hand: three images with instances that
are known."""

import json
from pathlib import Path

import cv2
import numpy as np

from genseg.core.names import INSTANCES_NAME
from genseg.data.instances.coco import annotation
from genseg.data.instances.instance import Instance

EVIL = "<script>window.harm=1<!--'\"&.png"
NAMES = ("discs.png", EVIL, "empty.png")
SIDE = 128
DISCS = ((30, 30, 16, 0.9), (90, 40, 20, 0.7), (60, 100, 12, 0.55))  # y, x, radius, score


def disc(y: int, x: int, r: int, score: float) -> Instance:
    """A disc that fades over four pixels at its border."""
    rows, columns = np.mgrid[y - r - 4 : y + r + 5, x - r - 4 : x + r + 5]
    away = np.hypot(rows - y, columns - x)
    alpha = np.clip((r + 2 - away) / 4, 0, 1) * 255
    return Instance(alpha.round().astype(np.uint8), y - r - 4, x - r - 4, score)


def write_found(root: Path) -> Path:
    """root/images/ and root/found/; returns the latter."""
    (root / "images").mkdir(parents=True)
    out = root / "found"
    (out / "alphas").mkdir(parents=True)
    images, annotations = [], []
    for n, name in enumerate(NAMES, start=1):
        pixels = np.full((SIDE, SIDE, 3), (20, 60, 40), np.uint8)
        images.append({"id": n, "file_name": name, "height": SIDE, "width": SIDE})
        for k, (y, x, r, score) in enumerate(DISCS if name != "empty.png" else (), start=1):
            cv2.circle(pixels, (x, y), r, (200, 210, 220), -1, cv2.LINE_AA)
            instance = disc(y, x, r, score)
            number = 100 * n + k
            annotations.append(
                annotation(instance, number=number, image=n, height=SIDE, width=SIDE)
            )
            alpha = instance.paint(SIDE, SIDE)
            cv2.imwrite(str(out / "alphas" / f"{Path(name).stem}-{number}.png"), alpha)
        cv2.imwrite(str(root / "images" / name), pixels)
    for n, a in enumerate(annotations):
        a["category_id"] = 1 + n % 2
    categories = [{"id": 1, "name": "<b>cell</b>"}, {"id": 2, "name": "disc"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (out / INSTANCES_NAME).write_text(json.dumps(content))
    command = ["genseg", "generate", EVIL]
    (out / "env.json").write_text(
        json.dumps({"command": command, "folder": str(root / "images"), "python": "3.11"})
    )
    return out
