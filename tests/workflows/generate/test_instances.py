"""Instances as a value, against arrays made by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from decoded import decode_segmentation
from PIL import Image

from genseg.data.instances.instance import Instance
from genseg.workflows.generate.instances import Instances


@pytest.fixture
def found() -> Instances:
    """Two overlapping rectangles and a soft pixel, in 8 x 6 pixels."""
    first = Instance(np.full((3, 4), 255, np.uint8), 1, 2, 0.9)
    second = Instance(np.full((2, 3), 200, np.uint8), 2, 4, 0.5)
    third = Instance(np.array([[100, 130]], np.uint8), 5, 0, 0.25)
    image = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    return Instances((first, second, third), 6, 8, image)


def test_arrays(found: Instances) -> None:
    alphas = np.zeros((3, 6, 8), np.float32)
    alphas[0, 1:4, 2:6], alphas[1, 2:4, 4:7], alphas[2, 5, :2] = (
        1,
        200 / 255,
        (100 / 255, 130 / 255),
    )
    assert np.allclose(found.alphas(), alphas, atol=1e-7)
    assert (found.masks() == (alphas >= 128 / 255)).all()
    labels = np.zeros((6, 8), int)
    labels[2:4, 4:7], labels[1:4, 2:6], labels[5, 1] = 2, 1, 3
    assert (found.labels() == labels).all(), "the better one lies on top"
    assert found.boxes_xyxy.tolist() == [[2, 1, 6, 4], [4, 2, 7, 4], [1, 5, 2, 6]]
    assert found.boxes_xywh.tolist() == [[2, 1, 4, 3], [4, 2, 3, 2], [1, 5, 1, 1]]
    assert found.areas.tolist() == [12, 6, 1] and found.scores.tolist() == [0.9, 0.5, 0.25]


def test_chosen_like_an_array(found: Instances) -> None:
    assert found[found.scores > 0.4].scores.tolist() == [0.9, 0.5]
    assert found[::-1].scores.tolist() == [0.25, 0.5, 0.9]
    assert found[[2, 0]].scores.tolist() == [0.25, 0.9]
    assert found[np.array([1])].image is found.image
    assert found[-1].score == 0.25 and len(found[found.scores > 1]) == 0
    assert found[[]].labels().max() == 0 and found[[]].alphas().shape == (0, 6, 8)
    with pytest.raises(IndexError):
        found[3]
    assert [a.score for a in found] == [0.9, 0.5, 0.25]


def test_files_are_read_back(found: Instances, tmp_path: Path) -> None:
    coco = json.loads(found.save(tmp_path / "new" / "found.json").read_text())
    masks = [decode_segmentation(a["segmentation"], 6, 8) for a in coco["annotations"]]
    assert (np.array(masks, bool) == found.masks()).all()
    assert [a["score"] for a in coco["annotations"]] == [0.9, 0.5, 0.25]
    with Image.open(found.save(tmp_path / "labels.tif")) as image:
        assert (np.asarray(image) == found.labels()).all()
    with np.load(found.save(tmp_path / "found.npz")) as arrays:
        assert (arrays["labels"] == found.labels()).all() and (
            arrays["boxes_xyxy"] == found.boxes_xyxy
        ).all()
    with Image.open(found.save(tmp_path / "found.png")) as image:
        assert image.size == (8, 6) and image.mode == "RGB"
    with pytest.raises(
        ValueError, match=r"found.gif: the ending says what is written; use one of .json"
    ):
        found.save(tmp_path / "found.gif")


def test_shown_in_a_notebook(found: Instances) -> None:
    assert found._repr_png_().startswith(b"\x89PNG")
    assert found.show().size == (8, 6)
    assert np.asarray(Instances((), 6, 8).show()).max() == 0, "black where the image is not known"
    assert repr(found) == "Instances(3 in 8 x 6 pixels, scores 0.90 to 0.25)"
