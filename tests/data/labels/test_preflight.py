"""Each thing that may be wrong with a json: found, counted, and done with as is said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_made import code, note, square, write_image, write_json
from PIL import Image

from genseg.data.images import source
from genseg.data.images.coco_files import CocoError
from genseg.data.images.decode import rgb_pixels
from genseg.data.labels.findings import KINDS, Finding, format_findings
from genseg.data.labels.labelled_set import LabelledSet, read_labelled

GOOD = note(1)


def found(path: Path, masks: bool = True) -> tuple[LabelledSet, dict[str, tuple[int, str]]]:
    """What is read, and the count and the first of each kind of KINDS."""
    labelled, findings = read_labelled(path, masks=masks)
    kinds = {KINDS[kind]: kind for kind in KINDS}
    return labelled, {kinds[f.what, f.outcome]: (f.count, f.first) for f in findings}


def test_a_good_json_has_no_findings(tmp_path: Path) -> None:
    labelled, kinds = found(write_json(tmp_path, [GOOD]))
    assert kinds == {} and format_findings(()) == ""
    (image,) = labelled.images
    assert (image.path, image.name, image.number) == (tmp_path / "images/1.png", "1.png", 1)
    assert (image.height, image.width) == (40, 60)
    assert image.boxes_xyxy.tolist() == [[4, 5, 14, 15]] and image.classes.tolist() == [0]
    assert (
        labelled.outlined
        and image.masks is not None
        and isinstance(image.masks[0]["counts"], bytes)
    )


def test_images_are_found_in_cocos_own_layout(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    labels = tmp_path / "annotations" / "instances_train2017.json"
    write_json(tmp_path / "annotations", [GOOD]).rename(labels)
    (tmp_path / "annotations" / "images").rename(tmp_path / "train2017")
    labelled, kinds = found(labels)
    assert kinds == {} and [image.path for image in labelled.images] == [
        tmp_path / "train2017" / "1.png"
    ]


@pytest.mark.parametrize(
    ("bad", "kind", "where"),
    [
        (note(2, 9), "no image", "annotation 2 of image 9"),
        (note(2, 1, 4), "category", "annotation 2 of 1.png: 4"),
        ({**note(2), "image_id": [1]}, "no image", "annotation 2 of image [1]"),
        ({**note(2), "image_id": {"a": 1}}, "no image", "annotation 2 of image {'a': 1}"),
        ({**note(2), "category_id": [3]}, "category", "annotation 2 of 1.png: [3]"),
        ({**note(2), "category_id": {"id": 3}}, "category", "annotation 2 of 1.png: {'id': 3}"),
        ({**GOOD, "id": [1]}, "duplicate", "annotation at place 1 of 1.png"),
        ({**GOOD, "id": 2}, "duplicate", "annotation 2 of 1.png"),
        (note(2, segmentation=None), "no mask", "annotation 2"),
        (note(2, segmentation=[[1.0, 2, 3, 4]]), "polygon", "1 of 1"),
        (note(2, segmentation=[[1.0, 2, 3, 4, 9, 9, 5]]), "polygon", "1 of 1"),
        (note(2, segmentation=[[1.0, 2, 3, 4, 9, float("nan")]]), "polygon", "1 of 1"),
        (note(2, segmentation=[[1.0, 2, 3, 4, 9, 1e9]]), "polygon", "1 of 1"),
        (note(2, segmentation=[["a"]]), "polygon", "1 of 1"),
        (note(2, segmentation={"size": [40, 60], "counts": [3]}), "rle", "do not sum up"),
        (note(2, segmentation={"size": [60, 40], "counts": [2400]}), "rle", "its size is"),
        (note(2, segmentation={"size": [40, 60], "counts": "~~"}), "rle", "no run-length text"),
        (note(2, segmentation={"size": [40, 60], "counts": "é~"}), "rle", "ascii"),
        (note(2, segmentation={"size": [float("-inf"), 60], "counts": [2400]}), "rle", "infinity"),
        (note(2, segmentation="x"), "rle", "neither a list of polygons nor an RLE"),
        (note(2, segmentation={"size": [40, 60], "counts": [2400]}), "nothing", "annotation 2"),
    ],
)
def test_what_is_left_out(tmp_path: Path, bad: dict[str, Any], kind: str, where: str) -> None:
    labelled, kinds = found(write_json(tmp_path, [GOOD, bad]))
    assert list(kinds) == [kind]
    count, first = kinds[kind]
    assert count == 1 and where in first
    assert len(labelled.images[0].boxes_xyxy) == 1
    assert "left out" in KINDS[kind][1]


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ([70, 5, 10, 10], "outside"),
        ([-20, 5, 20, 10], "outside"),
        ([5, 5, 0.5, 10], "thin"),
        ([5, 39.5, 10, 10], "thin"),
        ([5, 5, -3, 10], "no box"),
        ([5, 5, 3], "no box"),
        ([5, 5, float("inf"), 4], "no box"),
        (None, "no box"),
    ],
)
def test_boxes_that_are_left_out(tmp_path: Path, box: list[float] | None, kind: str) -> None:
    path = write_json(tmp_path, [note(1, segmentation=None), note(2, segmentation=None, bbox=box)])
    labelled, kinds = found(path, masks=False)
    assert list(kinds) == [kind]
    assert labelled.images[0].boxes_xyxy.tolist() == [[4, 5, 14, 15]] and not labelled.outlined


def test_boxes_alone_are_the_jsons_clipped_and_else_those_of_masks(tmp_path: Path) -> None:
    notes = [note(1, bbox=[-3, 5.5, 10, 60]), note(2, bbox=None)]
    labelled, kinds = found(write_json(tmp_path, notes), masks=False)
    assert kinds == {"clipped": (1, "annotation 1 of 1.png: (-3.0, 5.5, 7.0, 65.5)")}
    assert labelled.images[0].boxes_xyxy.tolist() == [[0, 5.5, 7, 40], [4, 5, 14, 15]]
    assert labelled.images[0].masks is None


def test_the_mask_counts_where_box_and_area_differ(tmp_path: Path) -> None:
    notes = [
        note(1, bbox=[4, 5, 20, 10], area=100),
        note(2, segmentation=square(20, 5, 10), bbox=[20, 5, 10, 11], area=300),
        note(3, segmentation=square(40, 20, 9), bbox=[40, 20, 9, 9], area=90),
    ]
    labelled, kinds = found(write_json(tmp_path, notes))
    assert kinds == {
        "box": (1, "annotation 1 of 1.png"),
        "area": (1, "annotation 2 of 1.png: json 300, mask 100"),
    }
    assert labelled.images[0].boxes_xyxy[:2].tolist() == [[4, 5, 14, 15], [20, 5, 30, 15]]


def test_ids_in_quotes_are_numbers(tmp_path: Path) -> None:
    labelled, kinds = found(
        write_json(tmp_path, [{**GOOD, "image_id": "1", "category_id": str(GOOD["category_id"])}])
    )
    assert kinds == {} and labelled.images[0].classes.tolist() == [0]


def test_ids_with_a_point_are_whole_numbers_and_others_are_told(tmp_path: Path) -> None:
    """As pandas writes a column in which a value is missing."""
    labelled, kinds = found(
        write_json(tmp_path, [{**GOOD, "image_id": 1.0, "category_id": float(GOOD["category_id"])}])
    )
    assert kinds == {} and labelled.images[0].classes.tolist() == [0]
    with pytest.raises(CocoError, match="none of its 1 annotations can be used"):
        read_labelled(write_json(tmp_path, [{**GOOD, "image_id": 1.5}]), masks=True)
    path = write_json(tmp_path, [GOOD])
    content = json.loads(path.read_text())
    content["images"][0]["id"] = 1.5
    path.write_text(json.dumps(content))
    with pytest.raises(CocoError, match=r"images\[0\] needs an id.*1.5 is no whole number"):
        read_labelled(path, masks=True)


def test_a_bad_polygon_leaves_the_others(tmp_path: Path) -> None:
    labelled, kinds = found(
        write_json(tmp_path, [note(1, segmentation=[*square(4, 5, 10), [1.0, 2.0]])])
    )
    why = "it has 2 numbers; three points or more are 6, 8, 10, ..."
    assert kinds == {"polygon": (1, f"annotation 1 of 1.png: 1 of 2: {why}")}
    assert labelled.images[0].boxes_xyxy.tolist() == [[4, 5, 14, 15]]


def test_crowds_are_kept_apart_and_ids_numbered_anew(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[20:30, 20:50] = 1
    crowd = note(1, 1, 7, iscrowd=1, segmentation=code(mask), bbox=[20, 20, 30, 10], area=300)
    labelled, kinds = found(write_json(tmp_path, [GOOD, crowd]))
    assert kinds == {"crowd": (1, "annotation 1 of 1.png"), "number": (1, "annotation 1 of 1.png")}
    assert labelled.images[0].crowd.tolist() == [False, True] and labelled.images[
        0
    ].classes.tolist() == [0, 1]


def test_an_id_that_is_a_list_or_a_mapping_is_none(tmp_path: Path) -> None:
    notes = [
        {**note(1, segmentation=square(4, 5 + n, 10), bbox=[4, 5 + n, 10, 10]), "id": odd}
        for n, odd in enumerate(([1], [1], {"a": 1}))
    ]
    labelled, kinds = found(write_json(tmp_path, notes))
    assert kinds == {} and len(labelled.images[0].boxes_xyxy) == 3


def test_images(tmp_path: Path) -> None:
    for name in ("1.png", "2.png", "5.png"):
        write_image(tmp_path / "images" / name, 40, 60)
    write_image(tmp_path / "beside.png", 40, 60)
    (tmp_path / "images/4.png").write_bytes(b"")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "images/6.jpg", exif=turned)
    Image.new("RGB", (60, 40)).save(tmp_path / "images/7.jpg", exif=turned)
    size = {"height": 40, "width": 60}
    images = [
        {"id": 1, "file_name": "1.png", **size},
        {"id": 1, "file_name": "./1.png", **size},
        {"id": 2, "file_name": "2.png", "height": 60, "width": 40},
        {"id": 3, "file_name": "3.png", **size},
        {"id": 4, "file_name": "4.png", **size},
        {"id": 5, "file_name": "images/5.png"},
        {"id": 6, "file_name": "6.jpg", **size},
        {"id": 7, "file_name": "7.jpg", "height": 60, "width": 40},
        {"id": 8, "file_name": "images/1.png", **size},
        {"id": 9, "file_name": "beside.png", **size, "kind": "x"},
        {"id": 10, "file_name": "long" * 75, **size},
    ]
    labelled, kinds = found(write_json(tmp_path, [GOOD, note(2, 3), note(3, 8)], images))
    assert [(i.number, i.height, i.width) for i in labelled.images] == [
        (1, 40, 60),
        (5, 40, 60),
        (7, 60, 40),
        (9, 40, 60),
    ]
    assert labelled.images[3].path == tmp_path / "beside.png" and labelled.images[3].kind == "x"
    assert kinds == {
        "twice": (1, "./1.png, image 1"),
        "same file": (1, "images/1.png, images 1 and 8"),
        "missing": (3, "3.png: No such file or directory"),
        "size": (2, "2.png: json 40 x 60, file 60 x 40 (height and width are swapped)"),
        "empty": (3, "images/5.png"),
    }


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_truncated_images_are_left_out(tmp_path: Path, kind: str) -> None:
    """Their headers are whole; training would read on."""
    write_image(tmp_path / "images/1.png", 40, 60)
    path = write_json(
        tmp_path,
        [GOOD, note(2, 2)],
        [
            {"id": 1, "file_name": "1.png", "height": 40, "width": 60},
            {"id": 2, "file_name": f"2.{kind}", "height": 40, "width": 60},
        ],
    )
    file = tmp_path / f"images/2.{kind}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    labelled, kinds = found(path)
    assert [i.number for i in labelled.images] == [1] and set(kinds) == {"missing"}
    assert kinds["missing"][1].startswith(f"2.{kind}: ") and "truncated" in kinds["missing"][1]


def test_a_file_is_decoded_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comparison reads the same labels for every cell; a large set takes minutes to decode."""
    decoded = list[int]()

    def counted(data: bytes, *, short_side: int = 0) -> np.ndarray:
        decoded.append(1)
        return rgb_pixels(data)

    monkeypatch.setattr(source, "rgb_pixels", counted)
    path = write_json(tmp_path, [GOOD])
    for _ in range(2):
        assert found(path)[1] == {} and len(decoded) == 1
    write_image(tmp_path / "images/1.png", 40, 60, seed=2)
    assert found(path)[1] == {} and len(decoded) == 2
    (tmp_path / "images/1.png").write_bytes(b"no image")
    for n in (3, 4):
        with pytest.raises(CocoError, match="none of its 1 images"):
            found(path)
        assert len(decoded) == n


def test_the_table_says_all() -> None:
    table = format_findings(
        (Finding("crowds", 12, "a", "ignored"), Finding("empty images", 3, "b", "kept"))
    )
    assert table.splitlines() == [
        "12 crowds        ignored  first: a",
        " 3 empty images  kept     first: b",
    ]


@pytest.mark.parametrize(
    ("annotations", "images", "message"),
    [
        (
            [GOOD],
            [{"id": 1, "file_name": "no.png"}],
            "none of its 1 images can be used; the first is no.png: No such",
        ),
        ([GOOD], [], "none of its 0 images can be used. Looked in .*/images, .*: move or link"),
        (
            [GOOD],
            [{"id": 1, "file_name": "images"}],
            "none of its 1 images can be used; the first is images: .*[^.]$",
        ),
        ([GOOD], [{"id": 1}], r"images\[0\] needs an id, a file_name"),
        (
            [GOOD],
            [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}],
            "image 1 is both a and b",
        ),
        (
            [note(1, 1, 5)],
            None,
            "none of its 1 annotations can be used .*1 annotations of an unknown category",
        ),
        ([note(1, iscrowd=1)], None, "none of its 1 annotations can be used"),
        ([], None, "none of its 0 annotations can be used"),
        (
            [note(1, segmentation=None)],
            None,
            "none of its 1 annotations has a segmentation; train a detector",
        ),
        ([[1]], None, "an annotation is no mapping"),
        (True, None, "annotations is True, and has to be a list"),
        ([GOOD], 3, "images is 3, and has to be a list"),
    ],
)
def test_what_cannot_be_used_at_all(
    tmp_path: Path, annotations: Any, images: Any, message: str
) -> None:
    with pytest.raises(CocoError, match=message):
        read_labelled(write_json(tmp_path, annotations, images), masks=True)
