"""genseg convert: what each tool imports, read back with pycocotools and with Label Studio's
code."""

import json
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from genseg.cli import main
from genseg.data.images.coco_files import CocoError
from genseg.data.images.files import list_images
from genseg.data.images.source import ImageError
from genseg.data.instances.coco import annotation, read_json
from genseg.data.instances.instance import cut_instance
from genseg.data.instances.label_image import write_label_image
from genseg.data.instances.label_studio import decode_brush
from genseg.data.labels.labelled_set import read_labelled
from genseg.workflows.labels.convert import INSIDE, convert

H, W = 60, 80
EVIL = "images/<a&b>.png"


def masks() -> list[np.ndarray]:
    """A disc, a ring, two pieces, and one pixel."""
    out = [np.zeros((H, W), np.uint8) for _ in range(4)]
    cv2.circle(out[0], (20, 20), 12, 1, -1)
    cv2.circle(out[1], (55, 30), 15, 1, -1)
    cv2.circle(out[1], (55, 30), 6, 0, -1)
    out[2][45:55, 5:15] = out[2][40:50, 20:30] = 1
    out[3][2, 70] = 1
    return out


@pytest.fixture
def found(tmp_path: Path) -> Path:
    annotations = []
    for n, mask in enumerate(masks(), start=1):
        instance = cut_instance(mask > 0, 1 - n / 10)
        assert instance is not None
        annotations.append(
            annotation(instance, number=n, image=7, height=H, width=W) | {"category_id": 1 + n % 2}
        )
    images = [
        {"id": i, "file_name": name, "height": H, "width": W}
        for i, name in ((7, EVIL), (9, "b.png"))
    ]
    categories = [{"id": 1, "name": "cell"}, {"id": 2, "name": "<disc>"}]
    file = tmp_path / "instances.json"
    file.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return file


def read_back(file: Path) -> dict[int, np.ndarray]:
    """Annotation id -> mask, by pycocotools itself."""
    coco = COCO(str(file))
    return {a["id"]: coco.annToMask(a) for a in coco.loadAnns(coco.getAnnIds())}


def test_fiftyone_gets_coco_with_scores_and_where_the_images_lie(
    found: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos/images").mkdir(parents=True)
    (tmp_path / "photos/images/<a&b>.png").touch()
    said = convert(
        found, "fiftyone", tmp_path / "new/f.json", images=str(tmp_path / "photos")
    ).text()
    assert said == f"{tmp_path / 'new/f.json'}: 4 instances in 2 images, for fiftyone"
    for n, mask in read_back(tmp_path / "new/f.json").items():
        np.testing.assert_array_equal(mask, masks()[n - 1])
    content = read_json(tmp_path / "new/f.json")
    assert content["images"][0]["file_name"] == str(tmp_path / "photos" / EVIL)
    assert [a["score"] for a in content["annotations"]] == [0.9, 0.8, 0.7, 0.6] and content[
        "licenses"
    ] == []


def test_cvat_gets_polygons_that_are_no_crowds_and_lose_holes_alone(
    found: Path, tmp_path: Path
) -> None:
    convert(found, "cvat", tmp_path / "c.zip")
    with zipfile.ZipFile(tmp_path / "c.zip") as archive:
        assert archive.namelist() == [INSIDE]
        archive.extractall(tmp_path / "unpacked")
    file = tmp_path / "unpacked" / INSIDE
    filled = masks()
    cv2.circle(filled[1], (55, 30), 7, 1, -1)
    for n, mask in read_back(file).items():
        shared, either = (mask & filled[n - 1]).sum(), (mask | filled[n - 1]).sum()
        assert shared / either > 0.97 or n == 4, n
    content: dict[str, Any] = json.loads(file.read_text())
    assert {a["iscrowd"] for a in content["annotations"]} == {0}
    assert all(
        isinstance(a["segmentation"], list) and len(a["segmentation"]) == (2 if a["id"] == 3 else 1)
        for a in content["annotations"]
    )
    assert [i["file_name"] for i in content["images"]] == ["<a&b>.png", "b.png"]
    assert [a["attributes"]["score"] for a in content["annotations"]] == [0.9, 0.8, 0.7, 0.6]


def test_label_studio_gets_its_own_code_as_predictions(found: Path, tmp_path: Path) -> None:
    convert(found, "labelstudio", tmp_path / "l.json")
    first, second = json.loads((tmp_path / "l.json").read_text())
    assert first["data"] == {"image": "/data/local-files/?d=images/%3Ca%26b%3E.png"}
    (prediction,) = first["predictions"]
    assert prediction["score"] == pytest.approx(0.75) and second["predictions"][0]["result"] == []
    for r, mask in zip(prediction["result"], masks(), strict=True):
        assert (r["type"], r["from_name"], r["to_name"]) == ("brushlabels", "label", "image")
        assert (r["original_height"], r["original_width"], r["value"]["format"]) == (H, W, "rle")
        np.testing.assert_array_equal(decode_brush(r["value"]["rle"], H, W), mask > 0)
    assert [r["value"]["brushlabels"] for r in prediction["result"]] == [["<disc>"], ["cell"]] * 2
    convert(found, "labelstudio", tmp_path / "l.json", images="https://example.org/")
    assert json.loads((tmp_path / "l.json").read_text())[0]["data"]["image"] == (
        "https://example.org/images/%3Ca%26b%3E.png"
    )


@pytest.mark.parametrize(
    "name", ["a+b.png", "a&d=b.png", "images/a#1.png", "50%41 ü?.png", "./caf\udce9.png"]
)
def test_label_studio_finds_the_file_by_its_url(found: Path, tmp_path: Path, name: str) -> None:
    """As its server reads the query of the address that a browser asks for; of a bucket it takes
    the key as it is."""
    content = json.loads(found.read_text())
    content["images"][0]["file_name"] = name
    found.write_text(json.dumps(content))

    def image(before: str | None) -> str:
        convert(found, "labelstudio", tmp_path / "l.json", images=before)
        return str(json.loads((tmp_path / "l.json").read_text())[0]["data"]["image"])

    whole = name.removeprefix("./")
    assert parse_qs(urlsplit(image(None)).query, errors="surrogateescape") == {"d": [whole]}
    assert (
        unquote(urlsplit(image("https://example.org/x/")).path, errors="surrogateescape")
        == f"/x/{whole}"
    )
    assert image("s3://bucket/") == f"s3://bucket/{whole}"


@pytest.mark.parametrize("tool", ["cvat", "labelstudio", "fiftyone", "labels"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": "high"}, "1 annotations whose score is no finite number"),
        ({"category_id": 5}, "1 annotations of an unknown category"),
        ({"segmentation": [[1, 1, None, 1, 9, 9]]}, "1 annotations with bad polygons"),
        (
            {"segmentation": {"size": [1, 1], "counts": [1]}},
            "1 annotations with a bad segmentation",
        ),
        ({"segmentation": None}, "1 annotations without a segmentation"),
    ],
)
def test_what_is_not_written_is_not_counted_and_said(
    found: Path, tmp_path: Path, tool: str, change: dict[str, Any], message: str
) -> None:
    out = tmp_path / {"cvat": "out.zip", "labels": "out"}.get(tool, "out.json")
    content = json.loads(found.read_text())
    content["annotations"][0] |= change
    found.write_text(json.dumps(content))
    said = convert(found, tool, out).text()
    assert ": 3 instances in 2 images" in said and message in said
    content["annotations"][0] = 1
    found.write_text(json.dumps(content))
    with pytest.raises(CocoError, match="instances.json: an annotation is no mapping"):
        convert(found, tool, out)


def test_an_instance_under_better_ones_is_not_counted(found: Path, tmp_path: Path) -> None:
    content = json.loads(found.read_text())
    content["annotations"].append(
        content["annotations"][0] | {"id": 9, "score": 0.1, "category_id": 1}
    )
    found.write_text(json.dumps(content))
    said = convert(found, "labels", tmp_path / "labels").text().splitlines()
    assert said[0].endswith(": 4 instances in 2 images, for labels")
    assert said[1:] == ["1 instance wholly under others of a better score: left out"]


# The tools' own code, where somebody has installed it: pip install label-studio-sdk fiftyone
# datumaro


def test_label_studios_own_decoder_gives_the_masks(found: Path, tmp_path: Path) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    convert(found, "labelstudio", tmp_path / "l.json")
    results = json.loads((tmp_path / "l.json").read_text())[0]["predictions"][0]["result"]
    for r, mask in zip(results, masks(), strict=True):
        pixels = brush.decode_rle(r["value"]["rle"]).reshape(H, W, 4)
        np.testing.assert_array_equal(pixels, np.repeat(mask[..., None] * 255, 4, axis=2))


def test_fiftyones_own_importer_gives_masks_scores_and_classes(found: Path, tmp_path: Path) -> None:
    coco = pytest.importorskip("fiftyone.utils.coco")
    (tmp_path / "photos/images").mkdir(parents=True)
    for name in (EVIL, "b.png"):
        cv2.imwrite(str(tmp_path / "photos" / name), np.zeros((H, W, 3), np.uint8))
    convert(found, "fiftyone", tmp_path / "f.json", images=str(tmp_path / "photos"))
    importer = coco.COCODetectionDatasetImporter(
        data_path=str(tmp_path / "photos"),
        labels_path=str(tmp_path / "f.json"),
        label_types="segmentations",
    )
    with importer:
        labels = {Path(path).name: label for path, _, label in importer}
    for d, mask, score in zip(
        labels["<a&b>.png"].detections, masks(), (0.9, 0.8, 0.7, 0.6), strict=True
    ):
        left, top = round(d.bounding_box[0] * W), round(d.bounding_box[1] * H)
        whole = np.zeros((H, W), bool)
        whole[top : top + d.mask.shape[0], left : left + d.mask.shape[1]] = d.mask
        np.testing.assert_array_equal(whole, mask > 0)
        assert d.confidence == score
    assert [d.label for d in labels["<a&b>.png"].detections] == ["<disc>", "cell"] * 2


def test_datumaro_which_imports_for_cvat_gives_polygons_and_scores(
    found: Path, tmp_path: Path
) -> None:
    dm = pytest.importorskip("datumaro")
    convert(found, "cvat", tmp_path / "c.zip")
    with zipfile.ZipFile(tmp_path / "c.zip") as archive:
        archive.extractall(tmp_path / "task")
    (tmp_path / "task/images").mkdir()
    for name in ("<a&b>.png", "b.png"):
        cv2.imwrite(str(tmp_path / "task/images" / name), np.zeros((H, W, 3), np.uint8))
    items = {
        item.id: item for item in dm.Dataset.import_from(str(tmp_path / "task"), "coco_instances")
    }
    polygons = [a for a in items["<a&b>"].annotations if a.type == dm.AnnotationType.polygon]
    polygons.sort(key=lambda a: a.group)
    assert [a.group for a in polygons] == [1, 2, 3, 3, 4] and not any(
        a.attributes["is_crowd"] for a in polygons
    )
    assert [a.attributes["score"] for a in polygons] == [0.9, 0.8, 0.7, 0.7, 0.6]


def test_a_least_score_leaves_out_the_rest(found: Path, tmp_path: Path) -> None:
    assert "2 instances" in convert(found, "fiftyone", tmp_path / "f.json", score=0.75).text()
    assert [a["id"] for a in read_json(tmp_path / "f.json")["annotations"]] == [1, 2]


def test_what_a_user_can_mend_is_named(
    found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"f.json: what cvat imports ends in .zip"):
        convert(found, "cvat", tmp_path / "f.json")
    with pytest.raises(CocoError, match="nowhere.json cannot be read"):
        convert(tmp_path / "nowhere.json", "fiftyone", tmp_path / "f.json")
    assert main(["convert", str(found), "--to", "cvat", "--out", str(tmp_path / "f.json")]) == 2
    assert "ends in .zip" in capsys.readouterr().err and not (tmp_path / "f.json").exists()
    for tool, out, more in (("cvat", "f.zip", "--images"), ("coco", "f.json", "--score")):
        assert (
            main(["convert", str(found), "--to", tool, "--out", str(tmp_path / out), more, "0.5"])
            == 2
        )
    said = capsys.readouterr().err
    assert said.count("leave it out") == 2 and "Traceback" not in said


def test_label_images_hold_what_the_json_holds(found: Path, tmp_path: Path) -> None:
    said = convert(found, "labels", tmp_path / "labels").text()
    assert said == f"{tmp_path / 'labels'}: 4 instances in 2 images, for labels"
    files = sorted(
        f.relative_to(tmp_path / "labels").as_posix() for f in (tmp_path / "labels").rglob("*.tif")
    )
    assert files == ["<a&b>.tif", "b.tif"]
    numbers = np.array(Image.open(tmp_path / "labels/<a&b>.tif"))
    assert numbers.dtype == np.uint16 and numbers.shape == (H, W)
    for n, mask in enumerate(masks(), start=1):  # the best first; none overlaps
        assert ((numbers == n) == (mask > 0)).all()
    assert not np.array(Image.open(tmp_path / "labels/b.tif")).any()
    few = tmp_path / "few"
    convert(found, "labels", few, score=0.75)
    assert np.unique(np.array(Image.open(few / "<a&b>.tif"))).tolist() == [0, 1, 2]


@pytest.mark.parametrize("ending", [".tif", "_cp_masks.png", "_label.tif"])
def test_label_images_become_coco_and_come_back(ending: str, tmp_path: Path) -> None:
    numbers = np.zeros((H, W), np.uint16)
    # with gaps, as after editing by hand
    for n, mask in zip((3, 700, 5, 40000), masks(), strict=True):
        numbers[mask > 0] = n
    for folder, name, x in (
        ("photos/in", "a.png", numbers),
        ("photos", "b.png", numbers),
        ("photos", "c.png", numbers),
        ("masks/in", f"a{ending}", numbers),
        ("masks", f"b{ending}", 0 * numbers),
    ):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / folder / name), x)
    out = tmp_path / "lists/train.json"
    said = convert(tmp_path / "masks", "coco", out, images=str(tmp_path / "photos")).text()
    assert said == f"{out}: 4 instances in 2 images; 1 image without a label image left out"
    content = read_json(out)
    assert [i["file_name"] for i in content["images"]] == ["../photos/b.png", "../photos/in/a.png"]
    ordered = [masks()[k] for k in (0, 2, 1, 3)]  # by their numbers
    for (_, got), want in zip(sorted(read_back(out).items()), ordered, strict=True):
        assert ((got > 0) == (want > 0)).all()
    assert len(list_images(out)) == 2  # genseg finds the images again
    labelled, _ = read_labelled(out, masks=True)
    assert [len(i.classes) for i in labelled.images] == [0, 4]


def test_what_is_no_label_image_is_told(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "photos/a.png"), np.zeros((H, W, 3), np.uint8))
    how = {"images": str(tmp_path / "photos")}
    with pytest.raises(
        CocoError, match=r"none of 1 images of .* has a label image there, as a.tif"
    ):
        convert(tmp_path / "masks", "coco", tmp_path / "t.json", **how)
    for pixels, message in (
        (np.zeros((H, W, 3), np.uint8), "a label image is grey, each value an instance; got RGB"),
        (np.zeros((H, W + 1), np.uint16), "has 81 x 60 pixels, its image .* 80 x 60"),
    ):
        cv2.imwrite(str(tmp_path / "masks/a.png"), pixels)
        with pytest.raises(CocoError, match=message):
            convert(tmp_path / "masks", "coco", tmp_path / "t.json", **how)
    (tmp_path / "masks/a.png").write_bytes(b"no image")
    with pytest.raises(CocoError, match="a.png cannot be read"):
        convert(tmp_path / "masks", "coco", tmp_path / "t.json", **how)
    write_label_image(tmp_path / "masks/a.png", np.zeros((H, W), int))
    (tmp_path / "photos/a.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="photos/a.png"):
        convert(tmp_path / "masks", "coco", tmp_path / "t.json", **how)
    with pytest.raises(ValueError, match="give that, and --images FOLDER"):
        convert(tmp_path / "masks", "coco", tmp_path / "t.json")
    with pytest.raises(ValueError, match="name a folder"):
        convert(tmp_path / "t.json", "labels", tmp_path / "t.tif")
    with pytest.raises(ValueError, match="65536 instances, and 16 bits tell 65535 apart"):
        write_label_image(tmp_path / "l.tif", np.arange(2**16 + 1).reshape(1, -1))


def test_boxes_alone_stay_boxes(found: Path, tmp_path: Path) -> None:
    content = read_json(found)
    boxes = {a["id"]: a["bbox"] for a in content["annotations"]}
    for a in content["annotations"]:
        del a["segmentation"]
    found.write_text(json.dumps(content))
    convert(found, "cvat", tmp_path / "c.zip")
    with zipfile.ZipFile(tmp_path / "c.zip") as archive:
        kept = json.loads(archive.read(INSIDE))["annotations"]
    assert {a["id"]: a["bbox"] for a in kept} == boxes and all(
        a["segmentation"] == [] for a in kept
    )
    convert(found, "labelstudio", tmp_path / "l.json")
    results = json.loads((tmp_path / "l.json").read_text())[0]["predictions"][0]["result"]
    for r in results:
        value = r["value"]
        box = [
            value["x"] * W / 100,
            value["y"] * H / 100,
            value["width"] * W / 100,
            value["height"] * H / 100,
        ]
        assert (
            box == pytest.approx(boxes[int(r["id"])])
            and r["type"] == "rectanglelabels"
            and r["from_name"] == "box"
        )
    with pytest.raises(
        CocoError, match="annotation 1 has no mask, and label images hold masks alone"
    ):
        convert(found, "labels", tmp_path / "labels")


def test_a_json_without_categories_has_some_and_maps_of_classes_are_no_instances(
    found: Path, tmp_path: Path
) -> None:
    content = read_json(found)
    del content["categories"]
    found.write_text(json.dumps(content))
    convert(found, "fiftyone", tmp_path / "f.json")
    assert read_json(tmp_path / "f.json")["categories"] == [
        {"id": 1, "name": "1"},
        {"id": 2, "name": "2"},
    ]
    content["images"][0]["mask"] = "masks/a.png"
    found.write_text(json.dumps(content))
    with pytest.raises(
        CocoError, match="its classes of pixels are no instances; the maps beside it in masks/"
    ):
        convert(found, "cvat", tmp_path / "c.zip")
