"""What is known exactly of each embedded picture: the label sets of `genseg evaluate
representation`."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np

from genseg.core.files import write_text
from genseg.data.scenes.scenes import Scene, compose_object, compose_scene, default_scenes

SIZE = 128  # pixels of the default pictures
NAMES = ("colour", "position", "size", "count")


def factors_of(scene: Scene) -> dict[str, list[float]]:
    """Of the object that most is seen of: `colour`, the mean of what is seen, in CIE Lab;
    `position`, its centre (x, y) in parts of the side; `size`, the root of the part of the picture
    that is seen of it. And `count`, how many objects there are."""
    seen = scene.visible.sum((1, 2))
    k = int(seen.argmax())
    weight = scene.visible[k] / seen[k]
    side = len(weight)
    rgb = np.einsum("hw,hwc->c", weight, scene.colour[k + 1]).clip(0, 1)
    lab = cv2.cvtColor(rgb[None, None].astype(np.float32), cv2.COLOR_RGB2LAB)[0, 0]
    at = (np.arange(side) + 0.5) / side
    return {
        "colour": [float(c) for c in lab],
        "position": [float(weight.sum(0) @ at), float(weight.sum(1) @ at)],
        "size": [float(np.sqrt(seen[k]) / side)],
        "count": [float(len(scene.labels))],
    }


def default_factors(kind: str) -> dict[str, dict[str, list[float]]]:
    """`factors_of` each of the `default_scenes` of a kind, by the stem of its file. They are worked
    out on first use (some 20 seconds) and kept beside the pictures."""
    folder = default_scenes(kind)
    file = folder.parent / f"factors-{kind}.json"
    if file.is_file():
        return dict(json.loads(file.read_text("utf-8")))
    compose = compose_object if kind == "objects" else compose_scene
    numbers = sorted(int(f.stem) for f in folder.rglob("*.png"))

    def known(i: int) -> dict[str, Any]:
        return factors_of(compose(0, i, size=SIZE, split="train"))

    with ThreadPoolExecutor(2) as pool:
        found = {f"{i:06d}": f for i, f in zip(numbers, pool.map(known, numbers), strict=True)}
    write_text(file, json.dumps(found))
    return found
