"""The original layout of the 2018 Data Science Bowl as COCO."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from archives import contents, encoded, noise, nothing_left, unpacked, zipped
from pycocotools import mask as coco_mask


def bowl() -> tuple[dict[str, bytes], dict[str, dict[str, np.ndarray]]]:
    """Files of the original layout, and the masks that are to come out, by image id and mask
    name."""
    first = {
        "m2": np.zeros((12, 20), bool),
        "m1": np.zeros((12, 20), bool),
        "m3": np.zeros((12, 20), bool),
    }
    first["m1"][2:5, 3:9] = True
    first["m2"][6:11, 10:20] = np.random.default_rng(1).random((5, 10)) > 0.5
    masks = {"bb": first, "aa": {"n1": np.ones((7, 5), bool)}, "cc": {}}
    files = {"stage1_train/cc/images/cc.png": encoded(noise(6, 6, 4))}
    for id_, image in (("bb", noise(12, 20, 4)), ("aa", noise(7, 5, 4))):
        files[f"stage1_train/{id_}/images/{id_}.png"] = encoded(image)
        for name, mask in masks[id_].items():
            files[f"stage1_train/{id_}/masks/{name}.png"] = encoded(mask.astype(np.uint8) * 255)
    del first["m3"]  # no pixel: left out
    return files, masks


@pytest.mark.parametrize("make", [zipped, unpacked])
@pytest.mark.parametrize("top", ["stage1_train/", ""])
def test_bowl_masks_come_back_exactly(
    make,
    top: str,
    tmp_path: Path,
    scripts: dict[str, ModuleType],
    capsys: pytest.CaptureFixture[str],
) -> None:
    files, masks = bowl()
    source = make(tmp_path / "s", {n.replace("stage1_train/", top): d for n, d in files.items()})
    assert scripts["prepare_dsb2018"].main([str(source), "--out", str(tmp_path / "out")]) == 0
    made = contents(tmp_path / "out")
    coco = json.loads(made.pop("train.json"))
    assert made == {f"images/{i}.png": files[f"stage1_train/{i}/images/{i}.png"] for i in masks}
    assert [(i["id"], i["file_name"], i["width"], i["height"]) for i in coco["images"]] == [
        (1, "aa.png", 5, 7),
        (2, "bb.png", 20, 12),
        (3, "cc.png", 6, 6),
    ]
    assert [(a["id"], a["image_id"], a["category_id"]) for a in coco["annotations"]] == [
        (1, 1, 1),
        (2, 2, 1),
        (3, 2, 1),
    ]
    wanted = [masks["aa"]["n1"], masks["bb"]["m1"], masks["bb"]["m2"]]
    for got, mask in zip(coco["annotations"], wanted, strict=True):
        np.testing.assert_array_equal(coco_mask.decode(got["segmentation"]), mask)
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert (got["area"], got["bbox"], got["iscrowd"]) == (mask.sum(), box, 0)
    said = capsys.readouterr().out
    assert "3 images, 3 nuclei" in said
    assert "1 images have no nucleus" in said
    assert "1 masks are empty and left out, such as " in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage1_train/aa/masks/n1.png": encoded(noise(5, 7))}, "is 7x5, its image 5x7"),
        ({"stage1_train/aa/masks/n1.png": b"broken"}, "cannot be decoded"),
        ({"stage1_train/dd/masks/n1.png": encoded(noise(5, 7))}, "no image for 1 ids, such as dd"),
        ({"stage1_train/aa/images/other.png": encoded(noise(7, 5))}, "two images with id aa"),
    ],
)
def test_bowl_mixed_up_is_refused(
    change: dict[str, bytes],
    message: str,
    tmp_path: Path,
    scripts: dict[str, ModuleType],
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = zipped(tmp_path / "s.zip", bowl()[0] | change)
    assert scripts["prepare_dsb2018"].main([str(source), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    nothing_left(tmp_path, "s.zip")


def test_bowl_test_stage_is_explained(
    tmp_path: Path, scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    source = zipped(tmp_path / "s.zip", {n: d for n, d in bowl()[0].items() if "/images/" in n})
    assert scripts["prepare_dsb2018"].main([str(source), "--out", str(tmp_path / "out")]) == 2
    assert "pretrain on a test stage as a plain folder" in capsys.readouterr().err
