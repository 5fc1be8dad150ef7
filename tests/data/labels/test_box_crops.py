"""Crops of objects: squares around their boxes, inside the image, without crowds."""

from pathlib import Path

import numpy as np
import pytest
from coco_made import note, square, write_json

from genseg.data.labels.box_crops import BoxCrops
from genseg.data.labels.labelled_set import read_labelled
from genseg.data.labels.samples import read_sample


@pytest.fixture
def crops(tmp_path: Path) -> BoxCrops:
    """Of an image of 40 x 60: in the middle, at a corner, and wider than the image is high."""
    boxes = [[20, 10, 10, 8], [0, 0, 10, 10], [5, 10, 50, 10], [30, 20, 9, 9]]
    notes = [
        note(n, 1, (3, 7)[n % 2], bbox=b, segmentation=square(*b[:3]), iscrowd=int(n == 3))
        for n, b in enumerate(boxes)
    ]
    return BoxCrops(read_labelled(write_json(tmp_path, notes), masks=False)[0], margin=0.2)


def test_squares_with_a_margin(crops: BoxCrops) -> None:
    image = read_sample(crops._held[0][0])
    assert len(crops) == 3 and crops.labels == [0, 1, 0]
    for i, (y, x, side) in enumerate(((7, 18, 14), (0, 0, 14), (0, 10, 40))):
        found, number = crops.read(i)
        assert number == i
        assert np.array_equal(found, image[y : y + side, x : x + side])


def test_an_image_is_read_once_for_neighbours(
    crops: BoxCrops, monkeypatch: pytest.MonkeyPatch
) -> None:
    import genseg.data.labels.box_crops as module

    calls, read = [], module.read_sample
    monkeypatch.setattr(
        module, "read_sample", lambda image: calls.append(image.number) or read(image)
    )
    for i in range(3):
        crops.read(i)
    assert calls == [1]
