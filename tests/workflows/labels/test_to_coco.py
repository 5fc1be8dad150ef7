"""COCO jsons made of YOLO's files and of label images, through the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from genseg.cli import main
from genseg.data.images.coco_files import CocoError
from genseg.data.labels.labelled_set import read_labelled
from genseg.workflows.labels.convert import convert
from genseg.workflows.labels.to_coco import from_yolo

H, W = 40, 60


def yolo(
    root: Path,
    lines: dict[str, str | None],
    yaml: str = "train: train/images\nnames: [leaf, stem]\n",
) -> Path:
    for name, text in lines.items():
        image = root / name
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (W, H), "grey").save(image)
        labels = Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt")
        labels.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            labels.write_text(text)
    (root / "data.yaml").write_text(yaml)
    return root / "data.yaml"


def test_segments_become_polygons_and_boxes_boxes(tmp_path: Path) -> None:
    triangle = "1 0.1 0.1 0.5 0.1 0.1 0.6\n"
    square = "0 0 0 0.5 0 0.5 0.5 0 0.5"
    data = yolo(
        tmp_path, {"train/images/in/a.png": f"{triangle}\n{square}", "train/images/b.png": None}
    )
    said = convert(data, "coco", tmp_path / "out/labels.json").text()
    assert said == (
        f"{tmp_path / 'out/labels.json'}: 2 polygons in 2 images; 1 image without a text file, so "
        "without objects"
    )
    content = json.loads((tmp_path / "out/labels.json").read_text())
    first, second = content["annotations"]
    assert first["segmentation"] == [[6, 4, 30, 4, 6, 24]] and first["area"] == pytest.approx(
        24 * 20 / 2
    )
    assert (
        first["bbox"] == pytest.approx([6, 4, 24, 20])
        and first["category_id"] == 2
        and second["category_id"] == 1
    )
    labelled, _ = read_labelled(tmp_path / "out/labels.json", masks=True)
    assert [name for _, name in labelled.categories] == ["leaf", "stem"]
    assert sorted(len(i.classes) for i in labelled.images) == [0, 2]
    boxes = yolo(
        tmp_path / "boxes", {"train/images/a.png": "0 0.5 0.5 0.2 0.1\n1 0.95 0.5 0.1 0.1"}
    )
    convert(boxes, "coco", tmp_path / "boxes.json")
    found = json.loads((tmp_path / "boxes.json").read_text())["annotations"]
    assert found[0]["bbox"] == pytest.approx([24, 18, 12, 4]) and "segmentation" not in found[0]


def test_each_split_has_its_json_and_mixed_shapes_are_boxes(tmp_path: Path) -> None:
    yaml = (
        f"path: {tmp_path / 'nowhere'}\ntrain: ../train/images\nval: val/images\nnames:\n  0: "
        "leaf\n  1: stem\n"
    )
    mixed = "0 0.5 0.5 0.2 0.1\n1 0.1 0.1 0.5 0.1 0.1 0.6"
    data = yolo(tmp_path, {"train/images/a.png": mixed, "val/images/b.png": "1 0.5 0.5 1 1"}, yaml)
    assert main(["convert", str(data), "--to", "coco", "--out", str(tmp_path / "l.json")]) == 0
    train, val = (json.loads((tmp_path / f"l-{s}.json").read_text()) for s in ("train", "val"))
    assert [len(c["annotations"]) for c in (train, val)] == [2, 1] and not (
        tmp_path / "l.json"
    ).exists()
    assert train["annotations"][1]["bbox"] == pytest.approx([6, 4, 24, 20])
    assert "1 segment became boxes" in from_yolo(data, tmp_path / "l.json").text()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("leaf 0.5 0.5 0.1 0.1", "line 2: 'leaf 0.5 0.5 0.1 0.1' is not a class and numbers"),
        ("2 0.5 0.5 0.1 0.1", "line 2: class 2 is none of the 2 names of data.yaml"),
        ("0 0.5 0.5 0.1", "line 2: 3 numbers after the class; a box has 4"),
        ("0 0.5 0.5 0.1 0.1 0.3", "line 2: 5 numbers after the class"),
        ("0 30 20 10 10", "line 2: 30 lies outside of the image; YOLO's numbers are parts of"),
        ("0 nan 0.5 0.1 0.1", "line 2: nan lies outside"),
    ],
)
def test_a_bad_line_is_named(line: str, message: str, tmp_path: Path, capsys: Any) -> None:
    data = yolo(tmp_path, {"train/images/a.png": f"0 0.5 0.5 0.1 0.1\n{line}\n"})
    assert main(["convert", str(data), "--to", "coco", "--out", str(tmp_path / "l.json")]) == 2
    assert f"a.txt, {message}" in capsys.readouterr().err and not (tmp_path / "l.json").exists()


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("train: train/images", "names is None; give the names of the classes"),
        ("names: [a]", "it names no images"),
        ("train: nowhere\nnames: [a]", "train is nowhere, and there is no"),
        ("[", "cannot be read as YOLO's data.yaml"),
        ("- a", "is no data.yaml of YOLO"),
        ("train: bare/images\nnames: [a]", "none of 1 image in .* has a text file"),
    ],
)
def test_a_yaml_that_is_none(yaml: str, message: str, tmp_path: Path) -> None:
    data = yolo(
        tmp_path, {"train/images/a.png": "0 0.5 0.5 0.1 0.1", "bare/images/a.png": None}, yaml
    )
    with pytest.raises(CocoError, match=message):
        from_yolo(data, tmp_path / "l.json")


@pytest.mark.parametrize("given", ["data.yaml", "."])
def test_commands_that_want_coco_name_the_way(given: str, tmp_path: Path, capsys: Any) -> None:
    data = yolo(tmp_path, {"train/images/a.png": "0 0.5 0.5 0.1 0.1"})
    where = str(tmp_path / given)
    words = [f"data.train={where}", f"data.val={where}", f"run={tmp_path / 'r'}", "--check"]
    assert main(["finetune", "--config", "mask_rcnn", *words]) == 2
    assert f"genseg convert {data} --to coco --out FILE.json" in capsys.readouterr().err
    if given == "data.yaml":
        assert main(["scan", where]) == 2
        assert f"genseg convert {data} --to coco" in capsys.readouterr().err


def test_doubtful_label_images_are_told(tmp_path: Path) -> None:
    for name in ("stack", "mask", "good"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.new("RGB", (W, H)).save(tmp_path / f"photos/{name}.png")
    numbers = np.zeros((H, W), np.uint8)
    numbers[2:9, 2:9], numbers[20:30, 20:30] = 1, 2
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks/stack.tif", np.stack([0 * numbers, numbers]))
    Image.fromarray(np.uint8(255 * (numbers > 0))).save(tmp_path / "masks/mask.png")
    tifffile.imwrite(tmp_path / "masks/good.tif", numbers.astype(np.float32))
    said = (
        convert(tmp_path / "masks", "coco", tmp_path / "l.json", images=str(tmp_path / "photos"))
        .text()
        .splitlines()
    )
    assert said[0].endswith("3 instances in 3 images")
    assert said[1].startswith(
        "1 label image of several pages, of which the first page is read, for example"
    )
    assert (
        "mask.png: all of it is one instance" in said[2]
        and "scipy.ndimage.label(mask)[0]" in said[2]
    )


def test_images_of_one_stem_have_a_label_image_each_and_come_back(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    images, annotations = [], []
    for n, name in enumerate(("leaf.png", "leaf.jpg", "stem.png"), start=1):
        Image.new("RGB", (W, H)).save(tmp_path / "photos" / name, dpi=(300, 300))
        images.append({"id": n, "file_name": name, "height": H, "width": W})
        box = [2 * n, 3, 9, 9 + n, 0, 0]
        square = [box[0], 3, box[0] + 9, 3, box[0] + 9, 12 + n, box[0], 12 + n]
        annotations.append(
            {
                "id": n,
                "image_id": n,
                "category_id": 1,
                "segmentation": [square],
                "area": 9 * (9 + n),
                "bbox": [box[0], 3, 9, 9 + n],
                "iscrowd": 0,
            }
        )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cell"}],
    }
    (tmp_path / "l.json").write_text(json.dumps(content))
    convert(tmp_path / "l.json", "labels", tmp_path / "labels", images=str(tmp_path / "photos"))
    assert sorted(f.name for f in (tmp_path / "labels").iterdir()) == [
        "leaf.jpg.tif",
        "leaf.png.tif",
        "stem.tif",
    ]
    with tifffile.TiffFile(tmp_path / "labels/stem.tif") as file:
        assert file.pages.first.tags.valueof("ResolutionUnit") == 2, "that of the image"
    convert(tmp_path / "labels", "coco", tmp_path / "back.json", images=str(tmp_path / "photos"))
    back = json.loads((tmp_path / "back.json").read_text())
    names = {i["id"]: Path(i["file_name"]).name for i in back["images"]}
    boxes = {names[a["image_id"]]: a["bbox"] for a in back["annotations"]}
    assert boxes == {
        image["file_name"]: a["bbox"] for image, a in zip(images, annotations, strict=True)
    }


def test_labels_of_images_of_several_channels_and_pages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command asked for words that it did not know."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    stack = np.zeros((2, 3, H, W), np.uint16)
    tifffile.imwrite(tmp_path / "images/a.ome.tif", stack, ome=True, metadata={"axes": "CZYX"})
    numbers = np.zeros((H, W), np.uint16)
    numbers[5:20, 8:30] = 3
    tifffile.imwrite(tmp_path / "labels/a.ome.tif", numbers)
    out = tmp_path / "train.json"
    command = ["convert", str(tmp_path / "labels"), "--to", "coco", "--out", str(out)]
    command += ["--images", str(tmp_path / "images")]
    assert main(command) == 2
    assert "--channels 1,2 and --pages max" in capsys.readouterr().err and not out.exists()
    assert main([*command, "--channels", "1", "--pages", "max"]) == 0
    (found,) = json.loads(out.read_text())["annotations"]
    assert found["bbox"] == [8, 5, 22, 15]
