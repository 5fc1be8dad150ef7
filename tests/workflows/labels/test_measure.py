"""genseg measure: tables that agree with the pixels, the masks and the alpha maps of the files."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from coco_made import note, write_json
from found import DISCS, SIDE, disc, write_found

import genseg
from genseg.cli import main
from genseg.data.images.coco_files import CocoError


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_rows_agree_with_pixels_masks_and_alphas(tmp_path: Path) -> None:
    found = write_found(tmp_path)
    result = genseg.measure_instances(found, tmp_path / "out/t.csv", pixel_size=2.0)
    assert (result.instances, result.images, result.soft, result.broken) == (6, 3, 6, ())
    rows, images = rows_of(result.table), rows_of(result.image_table)
    pixels = cv2.imread(str(tmp_path / "images/discs.png"))[..., ::-1].astype(float)
    for row, (y, x, r, score) in zip(rows, DISCS, strict=False):
        instance = disc(y, x, r, score)
        inside = pixels[..., 0][instance.paint(SIDE, SIDE) >= 128]
        alpha = instance.paint(SIDE, SIDE) / 255
        assert int(row["area_px"]) == len(inside) and row["score"] == f"{score:g}"
        assert float(row["area_um2"]) == 4 * len(inside)
        assert float(row["red_mean"]) == pytest.approx(inside.mean())
        weighted = (alpha * pixels[..., 2]).sum() / alpha.sum()
        assert float(row["blue_alpha_mean"]) == pytest.approx(weighted)
        assert (float(row["centroid_x"]), float(row["centroid_y"])) == (x, y)
    assert [r["category"] for r in rows[:2]] == ["<b>cell</b>", "disc"]
    assert [int(r["instances"]) for r in images] == [3, 3, 0]
    covered = np.zeros((SIDE, SIDE), bool)
    for one in DISCS:
        covered |= disc(*one).paint(SIDE, SIDE) >= 128
    assert float(images[0]["area_share"]) == pytest.approx(covered.mean())
    assert float(images[0]["density_per_mm2"]) == pytest.approx(3e6 / (SIDE**2 * 4))
    assert images[2]["mean_area_px"] == "" and images[2]["area_share"] == "0"
    page = (tmp_path / "out/t.html").read_text()
    assert page.count("<svg") == 2 and str(tmp_path) not in page and "<b>cell" not in page


def deep(tmp_path: Path, **more: Any) -> Path:
    """A json with a square in a picture of two channels of 16 bits, whose pixels are 0.65 µm."""
    values = np.random.default_rng(0).integers(0, 65536, (2, 40, 60), dtype=np.uint16)
    stated = {"axes": "CYX", "PhysicalSizeX": 0.65, "PhysicalSizeY": 0.65}
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images/1.ome.tif", values, metadata=stated)
    images = [{"id": 1, "file_name": "1.ome.tif", "height": 40, "width": 60}]
    return write_json(tmp_path, [note(5, **more)], images)


def test_bits_channels_and_the_size_of_a_pixel_are_those_of_the_file(tmp_path: Path) -> None:
    result = genseg.measure_instances(deep(tmp_path), tmp_path / "t.csv")
    (row,) = rows_of(result.table)
    values = tifffile.imread(tmp_path / "images/1.ome.tif")[:, 5:15, 4:14].astype(float)
    for c in range(2):
        assert float(row[f"channel_{c + 1}_sum"]) == pytest.approx(values[c].sum(), rel=1e-8)
        assert float(row[f"channel_{c + 1}_max"]) == values[c].max()
    assert float(row["area_um2"]) == pytest.approx(100 * 0.65**2)
    assert row["id"] == "5" and row["score"] == "" and "channel_1_alpha_mean" not in row
    assert "note" not in result.text()


@pytest.mark.parametrize("axes", ["CYX", "QYX"])
def test_all_channels_are_measured_of_what_one_has_found(axes: str, tmp_path: Path) -> None:
    """Channels that are named as such, and those of a stack that says nothing of its pages."""
    file = deep(tmp_path)
    values = np.random.default_rng(0).integers(0, 65536, (2, 40, 60), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "images/1.ome.tif", values, metadata={"axes": axes})
    content = json.loads(file.read_text()) | {"info": {"reading": {"channels": "2", "pages": ""}}}
    file.write_text(json.dumps(content))
    (row,) = rows_of(genseg.measure_instances(file, tmp_path / "t.csv").table)
    assert [float(row[f"channel_{c + 1}_max"]) for c in range(2)] == [
        values[c, 5:15, 4:14].max() for c in range(2)
    ]
    with genseg.reading(channels=2):
        (row,) = rows_of(genseg.measure_instances(file, tmp_path / "t.csv").table)
    assert "channel_2_max" in row and "channel_1_max" not in row


def test_without_pixels_there_are_shapes_and_without_all_an_error(tmp_path: Path) -> None:
    found = write_found(tmp_path)
    (tmp_path / "images/discs.png").unlink()
    result = genseg.measure_instances(found, tmp_path / "t.csv", score=0.6)
    assert len(result.broken) == 1 and "1 image cannot be read" in result.text()
    rows = rows_of(result.table)
    assert [r["red_mean"] == "" for r in rows] == [True, True, False, False]
    assert np.isnan(result.values[:2]).all() and result.instances == 4
    for image in (tmp_path / "images").iterdir():
        image.unlink()
    with pytest.raises(ValueError, match="none of 3 images can be read.* give their folder by"):
        genseg.measure_instances(found, tmp_path / "none.csv")
    assert not list(tmp_path.glob("none*"))


def test_mistakes_are_one_line_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = write_found(tmp_path)
    for words, said in (
        ([str(tmp_path), "--out", "t.csv"], "holds no instances.json and no predictions.json"),
        ([str(found), "--out", "t.txt"], "end it in .csv or .parquet"),
        ([str(found), "--out", "t.csv", "--pixel-size", "0"], "pixel_size=0: it has to be above"),
        ([str(found), "--out", "t.csv", "--images", "none"], "--images none is no folder"),
    ):
        assert main(["measure", *words]) == 2
        assert said in capsys.readouterr().err
    content = json.loads((found / "instances.json").read_text())
    content["images"][0]["mask"] = "a.png"
    (found / "instances.json").write_text(json.dumps(content))
    with pytest.raises(CocoError, match="classes of pixels are no instances"):
        genseg.measure_instances(found, tmp_path / "t.csv")
