"""What goes out to a labelling tool comes back: masks with holes and at borders, ids, classes."""

import json
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from coco_made import code, write_image

import genseg
from genseg.data.images.coco_files import CocoError
from genseg.data.images.files import list_images
from genseg.data.instances.coco import annotation
from genseg.data.instances.instance import Instance
from genseg.data.instances.run_length import windowed
from genseg.data.labels.labelled_set import read_labelled
from genseg.workflows.labels.convert import INSIDE, convert
from genseg.workflows.labels.corrections import Corrections

H, W = 60, 80
CATEGORIES = [{"id": 4, "name": "cell"}, {"id": 9, "name": "de/bris #1"}]


def masks() -> list[np.ndarray]:
    """A ring with an island, two pieces that meet at a corner, a corner of the image, its whole
    upper border, one pixel."""
    out = [np.zeros((H, W), np.uint8) for _ in range(5)]
    cv2.circle(out[0], (55, 30), 15, 1, -1)
    cv2.circle(out[0], (55, 30), 8, 0, -1)
    cv2.circle(out[0], (55, 30), 3, 1, -1)
    out[1][40:45, 10:15] = out[1][45:50, 15:22] = 1
    out[2][H - 7 :, W - 9 :] = 1
    out[3][0, :] = 1
    out[4][20, 20] = 1
    return out


@pytest.fixture
def json_file(tmp_path: Path) -> Path:
    """Two images with all masks each; ids are no 1, 2, 3."""
    annotations = []
    images = []
    for i, name in ((7, "a b.png"), (3, "in/ü.png")):
        write_image(tmp_path / "images" / name, H, W)
        images.append({"id": i, "file_name": name, "height": H, "width": W})
        for n, mask in enumerate(masks()):
            x, y, w, h = cv2.boundingRect(mask)
            annotations.append(
                {
                    "id": 1000 * i + n,
                    "image_id": i,
                    "category_id": (4, 9)[n % 2],
                    "iscrowd": 0,
                    "bbox": [x, y, w, h],
                    "area": int(mask.sum()),
                    "segmentation": code(mask),
                    "score": 0.9 - n / 10,
                }
            )
    file = tmp_path / "found.json"
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    file.write_text(json.dumps(content))
    return file


def read(file: Path) -> dict[int, tuple[int, str, np.ndarray]]:
    """Annotation id -> image id, category, mask; as finetune reads it."""
    content = json.loads(file.read_text())
    names = {c["id"]: c["name"] for c in content["categories"]}
    assert set(names.items()) >= {(c["id"], c["name"]) for c in CATEGORIES}
    read_labelled(file, masks=True)
    return {
        a["id"]: (
            a["image_id"],
            names[a["category_id"]],
            windowed(a["segmentation"]).paint(H, W) > 0,
        )
        for a in content["annotations"]
    }


def equal(file: Path, truth: Path) -> None:
    found, wanted = read(file), read(truth)
    assert found.keys() == wanted.keys()
    for number, (image, name, mask) in wanted.items():
        assert found[number][:2] == (image, name)
        np.testing.assert_array_equal(found[number][2], mask)


@pytest.mark.parametrize("tool", ["geojson", "imagej"])
def test_polygons_come_back_to_the_pixel_with_their_ids(
    tool: str, json_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said = convert(json_file, tool, out).text()
    assert said == f"{out}: 10 instances in 2 images, for {tool}"
    ending = {"geojson": ".geojson", "imagej": ".zip"}[tool]
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == {
        f"a b{ending}",
        f"in/ü{ending}",
    }
    back = convert(out, "coco", tmp_path / "back.json", images=str(json_file))
    assert back.text() == f"{tmp_path / 'back.json'}: 10 instances in 2 images"
    equal(tmp_path / "back.json", json_file)


def test_label_images_with_features_come_back_where_nothing_overlaps(
    json_file: Path, tmp_path: Path
) -> None:
    convert(json_file, "napari", tmp_path / "out")
    convert(tmp_path / "out", "coco", tmp_path / "back.json", images=str(json_file))
    equal(tmp_path / "back.json", json_file)
    rows = (tmp_path / "out/in/ü.csv").read_text().splitlines()
    assert rows[0].startswith("index,id,category,score,area_px") and len(rows) == 6
    assert rows[1].startswith("1,3000,cell,0.9,")


def test_slides_are_put_together_and_cut_again(tmp_path: Path) -> None:
    images, annotations = [], []
    for n, (x, y) in enumerate(((0, 0), (160, 40)), start=1):
        name = f"s lide [d=2,x={x},y={y},w=160,h=120].png"
        write_image(tmp_path / "images" / name, H, W)
        images.append({"id": n, "file_name": name, "height": H, "width": W})
        mask = masks()[0]
        annotations.append(
            {"id": 40 + n, "image_id": n, "category_id": 4, "segmentation": code(mask)}
            | {"bbox": list(cv2.boundingRect(mask)), "area": int(mask.sum())}
        )
    file = tmp_path / "f.json"
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    file.write_text(json.dumps(content))
    convert(file, "geojson", tmp_path / "out", offset="names")
    (slide,) = (tmp_path / "out").iterdir()
    assert slide.name == "s lide.geojson"
    features = json.loads(slide.read_text())["features"]
    at = [np.min(f["geometry"]["coordinates"][0][0], 0).tolist() for f in features]
    assert at == [[80, 30], [240, 70]], "twice the pixels of the tile, and its place"
    assert features[0]["properties"]["objectType"] == "detection"
    convert(tmp_path / "out", "coco", tmp_path / "b.json", images=str(file), offset="names")
    equal(tmp_path / "b.json", file)
    convert(file, "geojson", tmp_path / "xy", offset="-3.5,100")
    convert(tmp_path / "xy", "coco", tmp_path / "c.json", images=str(file), offset="-3.5,100")
    equal(tmp_path / "c.json", file)
    with pytest.raises(ValueError, match="--offset 3: give X,Y"):
        convert(file, "geojson", tmp_path / "no", offset="3")
    with pytest.raises(ValueError, match="--offset is for geojson"):
        convert(file, "imagej", tmp_path / "no", offset="3,4")


def test_yolo_keeps_holes_and_pieces(json_file: Path, tmp_path: Path) -> None:
    convert(json_file, "yolo", tmp_path / "y")
    assert (tmp_path / "y/images/a b.png").is_symlink()
    line = (tmp_path / "y/labels/in/ü.txt").read_text().splitlines()[2]
    assert line == "0 0.8875 0.8833333 1 0.8833333 1 1 0.8875 1"
    convert(tmp_path / "y/data.yaml", "coco", tmp_path / "back.json")
    content = json.loads((tmp_path / "back.json").read_text())
    labelled, found = read_labelled(tmp_path / "back.json", masks=True)
    assert not found and [n for _, n in labelled.categories] == ["cell", "de/bris #1"]
    for image in labelled.images:
        for mask, truth in zip(image.masks or (), masks(), strict=True):
            np.testing.assert_array_equal(windowed(mask).paint(H, W) > 0, truth)
    assert len(content["annotations"]) == 10


def test_what_is_drawn_anew_gets_a_new_id_and_points_are_left_out(
    json_file: Path, tmp_path: Path
) -> None:
    """As QuPath writes it: a random id, an annotation of another class, a point."""
    convert(json_file, "geojson", tmp_path / "out")
    file = tmp_path / "out/a b.geojson"
    content = json.loads(file.read_text())
    square = [[[1, 1], [5, 1], [5, 4], [1, 4], [1, 1]]]
    content["features"] = [
        *content["features"][1:],
        {
            "type": "Feature",
            "id": "9c5b94b1-35ad-49bb-b118-8e8fc24abf80",
            "geometry": {"type": "Polygon", "coordinates": square},
            "properties": {"objectType": "annotation", "classification": {"name": "mitosis"}},
        },
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}},
    ]
    file.write_text(json.dumps(content))
    said = convert(file, "coco", tmp_path / "back.json", images=str(json_file)).text()
    assert "5 instances in 1 image; 1 image without a GeoJSON left out" in said
    assert "1 shape without an area" in said
    found = read(tmp_path / "back.json")
    assert set(found) == {7001, 7002, 7003, 7004, 7005}
    assert found[7005][1] == "mitosis" and found[7005][2].sum() == 12
    assert found[7001][1] == "de/bris #1"


def cvat_xml(root: Path) -> Path:
    (root / "annotations.xml").write_text(
        f"""<annotations><version>1.1</version><meta/>
        <image id="0" name="a b.png" width="{W}" height="{H}">
          <polygon label="cell" occluded="0" points="10,10;20,10;20,15;10,15" z_order="0">
            <attribute name="id">7000</attribute></polygon>
          <polygon label="cell" points="30,30;34,30;34,34;30,34" group_id="2"/>
          <polygon label="cell" points="40,30;44,30;44,34;40,34" group_id="2"/>
          <box label="new" xtl="1" ytl="2" xbr="5" ybr="4"/>
          <mask label="cell" rle="1, 2, 3" left="70" top="50" width="3" height="2"/>
          <polyline label="cell" points="1,1;2,2"/>
        </image>
        <image id="1" name="gone.png" width="5" height="5"/></annotations>"""
    )
    return root / "annotations.xml"


@pytest.mark.parametrize("zipped", [False, True])
def test_cvats_xml(zipped: bool, json_file: Path, tmp_path: Path) -> None:
    file = cvat_xml(tmp_path)
    if zipped:
        with zipfile.ZipFile(tmp_path / "cvat.zip", "w") as archive:
            archive.write(file, "annotations.xml")
        file = tmp_path / "cvat.zip"
    said = convert(file, "coco", tmp_path / "back.json", images=str(json_file)).text()
    assert "1 shape without an area" in said and "for example gone.png" in said
    found = read(tmp_path / "back.json")
    sizes = {n: (name, int(mask.sum())) for n, (_, name, mask) in found.items()}
    assert sizes == {7000: ("cell", 50), 7001: ("cell", 32), 7002: ("new", 8), 7003: ("cell", 2)}
    np.testing.assert_array_equal(np.argwhere(found[7003][2]), [[50, 71], [50, 72]])


def test_cvats_coco_keeps_ids_by_an_attribute(json_file: Path, tmp_path: Path) -> None:
    """As CVAT writes it: numbered anew, brush masks as crowds, what was an attribute kept."""
    convert(json_file, "cvat", tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        content = json.loads(archive.read(INSIDE))
    truth = read(json_file)
    for n, a in enumerate(content["annotations"], start=1):
        mask = truth[a["id"]][2].astype(np.uint8)
        a |= {"id": n, "iscrowd": 1, "segmentation": code(mask)}
    with zipfile.ZipFile(tmp_path / "back.zip", "w") as archive:
        archive.writestr(INSIDE, json.dumps(content))
    convert(tmp_path / "back.zip", "coco", tmp_path / "back.json", images=str(json_file))
    equal(tmp_path / "back.json", json_file)


def test_label_studio(json_file: Path, tmp_path: Path) -> None:
    convert(json_file, "labelstudio", tmp_path / "out.json")
    tasks = json.loads((tmp_path / "out.json").read_text())
    for task in tasks:
        (prediction,) = task["predictions"]
        task["annotations"] = [{"result": [], "was_cancelled": True}, prediction]
    size = {"original_width": W, "original_height": H}
    polygon = [[0, 0], [50, 0], [50, 50], [0, 50]]
    turned = {"x": 50, "y": 50, "width": 10, "height": 10, "rotation": 90}
    tasks[0]["annotations"][1]["result"] = [
        *({"id": "xZ3", "type": "polygonlabels", "value": v} | size
          for v in [{"points": polygon, "polygonlabels": ["cell"]}]),
        {"id": "yy", "type": "rectanglelabels", "value": turned | {"rectanglelabels": ["cell"]}},
        {"id": "k", "type": "keypointlabels", "value": {"x": 1, "y": 2}},
    ]  # fmt: skip
    tasks[1]["data"]["image"] = "https://host/data/upload/1/0123abcd-%C3%BC.png"
    (tmp_path / "e.json").write_text(json.dumps([*tasks, {"data": {"image": "c.png"}}]))
    made = convert(tmp_path / "e.json", "coco", tmp_path / "back.json", images=str(json_file))
    assert "1 task without an annotation" in made.text() and "1 shape without" in made.text()
    found, truth = read(tmp_path / "back.json"), read(json_file)
    kept = {n: v for n, v in truth.items() if n < 4000}
    for number, (image, name, mask) in kept.items():
        assert found.pop(number)[:2] == (image, name) and mask.any()
    areas = sorted(int(mask.sum()) for _, _, mask in found.values())
    assert areas == [8 * 6, 40 * 30], "10 % of the width across, of the height down, turned"


def damaged(kind: str) -> Any:
    return {
        "FeatureCollection": {"type": kind, "features": [{"geometry": {"type": "Polygon"}}]},
        "tasks": [{"data": {}}],
        "coco": {"images": [{"id": 1}], "annotations": []},
    }[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("FeatureCollection", "feature 0 has bad coordinates"),
        ("tasks", "task 0 cannot be read: KeyError"),
        ("coco", "cannot be read as COCO: KeyError"),
    ],
)
def test_damaged_exports_are_told(kind: str, message: str, json_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    if kind == "FeatureCollection":
        file = tmp_path / "a b.geojson"
    file.write_text(json.dumps(damaged(kind)))
    with pytest.raises(CocoError, match=message):
        convert(file, "coco", tmp_path / "o.json", images=str(json_file))


def test_files_that_are_none_are_told(json_file: Path, tmp_path: Path) -> None:
    def fails(name: str, content: bytes, message: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CocoError, match=message):
            convert(tmp_path / name, "coco", tmp_path / "o.json", images=str(json_file))

    fails("a.zip", b"no", "cannot be opened")
    fails("a b.roi", b"no", "cannot be read as ImageJ's regions")
    fails("a.xml", b"<a", "cannot be read as CVAT's xml")
    fails("a.txt", b"", "coco is made of a folder of label images")
    fails("c.geojson", b"{}", "none of 2 images is called so")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/other.geojson").write_text("[]")
    with pytest.raises(CocoError, match="nothing in it belongs to one of 2 images"):
        convert(tmp_path / "empty", "coco", tmp_path / "o.json", images=str(json_file))


@pytest.mark.parametrize("tool", ["geojson", "imagej"])
def test_many_instances(tool: str, tmp_path: Path) -> None:
    """Those of one image; 10,000 take the same time each."""
    write_image(tmp_path / "images/a.png", 40, 1000)
    ring = np.ones((7, 7), np.uint8)
    ring[3, 3] = 0
    annotations = []
    for n in range(200):
        mask = np.zeros((40, 1000), np.uint8)
        y, x = 10 * (n // 50), 20 * (n % 50)
        mask[y : y + 7, x : x + 7] = ring
        annotations.append(
            {"id": n + 1, "image_id": 1, "category_id": 4, "segmentation": code(mask)}
            | {"bbox": [x, y, 7, 7], "area": 48}
        )
    image = {"id": 1, "file_name": "a.png", "height": 40, "width": 1000}
    content = {"images": [image], "annotations": annotations, "categories": CATEGORIES}
    (tmp_path / "f.json").write_text(json.dumps(content))
    convert(tmp_path / "f.json", tool, tmp_path / "out")
    convert(tmp_path / "out", "coco", tmp_path / "b.json", images=str(tmp_path / "f.json"))
    back = json.loads((tmp_path / "b.json").read_text())["annotations"]
    for found, truth in zip(back, annotations, strict=True):
        assert found["id"] == truth["id"] and found["segmentation"] == truth["segmentation"]


@pytest.mark.parametrize("tool", ["geojson", "imagej", "napari"])
def test_pages_that_are_images_of_their_own_come_back(tool: str, tmp_path: Path) -> None:
    """They were one image to what came back, and its json said neither pages nor channels."""
    (tmp_path / "images").mkdir()
    stack = np.zeros((3, 2, 40, 60), np.uint16)
    tifffile.imwrite(tmp_path / "images/a.ome.tif", stack, ome=True, metadata={"axes": "TCYX"})
    images = [
        {"id": n, "file_name": "a.ome.tif", "page": n, "height": 40, "width": 60} for n in (1, 2, 3)
    ]
    notes = [
        annotation(
            Instance(np.full((n + 3, 9), 255, np.uint8), 5 * n, 7),
            number=n,
            image=n,
            height=40,
            width=60,
        )
        | {"category_id": 1}
        for n in (1, 3)
    ]
    content = {
        "info": {"reading": {"channels": "1", "pages": "each"}},
        "images": images,
        "annotations": notes,
        "categories": [{"id": 1, "name": "cell"}],
    }
    source, back = tmp_path / "images/found.json", tmp_path / "images/back.json"
    source.write_text(json.dumps(content))
    convert(source, tool, tmp_path / "out")
    convert(tmp_path / "out", "coco", back, images=str(source))
    found = json.loads(back.read_text())
    assert found["info"] == content["info"]
    assert [(i["id"], i["page"]) for i in found["images"]] == [(1, 1), (2, 2), (3, 3)]
    assert [(a["id"], a["image_id"], a["bbox"]) for a in found["annotations"]] == [
        (a["id"], a["image_id"], a["bbox"]) for a in notes
    ]
    assert list_images(back).pages == (1, 2, 3)


def test_the_json_of_a_result_knows_where_its_images_lie(tmp_path: Path) -> None:
    """As the guide has it; it was looked for beside the json alone."""
    (tmp_path / "photos").mkdir()
    write_image(tmp_path / "photos/a.png", 60, 80)
    genseg.generate("otsu", tmp_path / "photos", out=tmp_path / "found")
    source = tmp_path / "found/instances.json"
    convert(source, "geojson", tmp_path / "q")
    convert(tmp_path / "q", "coco", tmp_path / "back.json", images=str(source))
    (image,) = json.loads((tmp_path / "back.json").read_text())["images"]
    assert image["file_name"] == "photos/a.png"
    corrected = tmp_path / "found/corrected.json"
    convert(tmp_path / "q", "coco", corrected, images=str(source))
    found = Corrections(str(corrected)).listed
    assert found.path(0).samefile(tmp_path / "photos/a.png"), "beside a result, of its own place"
