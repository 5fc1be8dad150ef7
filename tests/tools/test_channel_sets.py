"""The tool that makes sets of other numbers of channels."""

import json
from pathlib import Path

import cv2
import numpy as np
from coco_made import write_json
from tool_files import tool

from genseg.data.images.source import decode
from genseg.data.instances.coco import annotation
from genseg.data.instances.instance import Instance


def test_images_of_one_name_in_two_folders_stay_apart(tmp_path: Path) -> None:
    """The second was written over the first."""
    images, notes = [], []
    for n, (folder, level) in enumerate((("a", 10), ("b", 200)), start=1):
        file = tmp_path / "images" / folder / "1.png"
        file.parent.mkdir(parents=True)
        cv2.imwrite(str(file), np.full((40, 40, 3), level, np.uint8))
        images.append({"id": n, "file_name": f"{folder}/1.png", "height": 40, "width": 40})
        square = Instance(np.full((9, 9), 255, np.uint8), 5, 5)
        notes.append(
            annotation(square, number=n, image=n, height=40, width=40) | {"category_id": 3}
        )
    made = tool("channel_sets").write(write_json(tmp_path, notes, images), tmp_path / "out", "grey")
    names = [record["file_name"] for record in json.loads(made.read_text())["images"]]
    assert [int(decode(made.parent / "images" / name).mean()) for name in names] == [10, 200]
