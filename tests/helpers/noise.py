"""Images of noise in two class folders."""

from pathlib import Path

import cv2
import numpy as np


def write_classes(root: Path, count: int, suffix: str) -> Path:
    """`count` images of 44 x 40 pixels, in turn in the folders a and b below `root`, which is
    returned."""
    rng = np.random.default_rng(0)
    for i in range(count):
        (root / "ab"[i % 2]).mkdir(exist_ok=True)
        cv2.imwrite(
            str(root / "ab"[i % 2] / f"{i}{suffix}"),
            rng.integers(0, 255, (40, 44, 3), dtype=np.uint8),
        )
    return root
