"""One reader of COCO: what one command takes the others take, and what is left out is counted and
said by all."""

import copy
import gzip
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from genseg.cli import main
from genseg.workflows.labels.convert import INSIDE

H, W = 40, 60
SQUARES = ((6, 4, 13), (32, 6, 17), (15, 23, 15), (45, 27, 11))  # left, top, side
LABELS = 2 * len(SQUARES)
Content = dict[str, Any]
OUTS = {
    "cvat": "out.zip",
    "labels": "out",
    "labelstudio": "tasks.json",
    "fiftyone": "fiftyone.json",
}
COMMANDS = ("finetune", *OUTS, "visualize", "evaluate", "split")
POLYGON, RLE = "bad polygons", "bad segmentation"


def corners(a: Content) -> list[float]:
    x, y, w, h = a["bbox"]
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def coded(a: Content) -> Content:
    code: Content = rle.merge(rle.frPyObjects([corners(a)], H, W))
    return {"size": code["size"], "counts": code["counts"].decode()}


def content() -> Content:
    annotations: list[Content] = [
        {
            "image_id": image,
            "category_id": 1 + n % 2,
            "iscrowd": 0,
            "bbox": [x, y, side, side],
            "area": side * side,
        }
        for image in (1, 2)
        for n, (x, y, side) in enumerate(SQUARES)
    ]
    for n, a in enumerate(annotations, start=1):
        a |= {"id": n, "segmentation": [corners(a)]}
    images = [
        {"id": n, "file_name": name, "height": H, "width": W}
        for n, name in ((1, "leaf.png"), (2, "stem.png"))
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "leaf"}, {"id": 2, "name": "stem"}],
    }


def write(folder: Path, made: Content, *, images: str = ".", file: str = "labels.json") -> Path:
    """A data set of two images that differ."""
    for seed, name in enumerate(("leaf.png", "stem.png")):
        place = folder / images / name
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (H, W, 3), np.uint8)).save(
            place
        )
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(made))
    return folder / file


def written(command: str, out: Path) -> int:
    """How many instances are in what a converter has written."""
    if command == "cvat":
        with zipfile.ZipFile(out) as archive:
            return sum(
                bool(a["segmentation"]) for a in json.loads(archive.read(INSIDE))["annotations"]
            )
    if command == "labels":
        return sum(np.unique(np.array(Image.open(file))).size - 1 for file in out.rglob("*.tif"))
    made = json.loads(out.read_text())
    if command == "fiftyone":
        return len(made["annotations"])
    return sum(
        bool(r["value"]["rle"]) for task in made for p in task["predictions"] for r in p["result"]
    )


def run(
    command: str, labels: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, int | None]:
    """The exit code, what was said, and how many labels there were, where a command says so."""
    out = labels.parent / OUTS.get(command, "out.png")
    (labels.parent / "none.json").write_text("[]")
    code = main(
        {
            "finetune": [
                "finetune",
                "--config",
                "mask_rcnn",
                f"data.train={labels}",
                f"data.val={labels}",
                "--check",
            ],
            "visualize": ["visualize", str(labels), "--images", str(images), "--out", str(out)],
            "evaluate": [
                "evaluate",
                "alpha",
                str(labels.parent / "none.json"),
                "--data",
                str(labels),
            ],
            "split": ["split", str(labels)],
        }.get(command, ["convert", str(labels), "--to", command, "--out", str(out)])
    )
    printed = capsys.readouterr()
    said = printed.out + printed.err
    if code:
        assert code == 2 and not out.exists() and "Traceback" not in said, said
        return code, said, None
    count = re.search(r"(\d+) (?:labels|instances?)", said)
    if command in OUTS:
        assert count is not None and int(count[1]) == written(command, out)
    return code, said, int(count[1]) if count else None


def scaled(a: Content) -> list[list[float]]:
    return [[n / (H if k % 2 else W) for k, n in enumerate(corners(a))]]


# what is wrong with an annotation, and the words that each command has for it
BAD: dict[str, tuple[Callable[[Content], Content], str]] = {
    "points as pairs": (
        lambda a: {"segmentation": [np.reshape(corners(a), (-1, 2)).tolist()]},
        POLYGON,
    ),
    "no inner list": (lambda a: {"segmentation": corners(a)}, POLYGON),
    "one list too many": (lambda a: {"segmentation": [[corners(a)]]}, POLYGON),
    "two points": (lambda a: {"segmentation": [corners(a)[:4]]}, POLYGON),
    "an odd count": (lambda a: {"segmentation": [corners(a)[:7]]}, POLYGON),
    "an empty polygon": (lambda a: {"segmentation": [[]]}, POLYGON),
    "numbers as text": (lambda a: {"segmentation": [[str(n) for n in corners(a)]]}, POLYGON),
    "a null": (lambda a: {"segmentation": [[*corners(a)[:7], None]]}, POLYGON),
    "a nan": (lambda a: {"segmentation": [[*corners(a)[:7], float("nan")]]}, POLYGON),
    "far away": (lambda a: {"segmentation": [[*corners(a)[:7], 1e9]]}, POLYGON),
    "mappings": (lambda a: {"segmentation": [{"x": 1, "y": 2}]}, POLYGON),
    "from 0 to 1": (lambda a: {"segmentation": scaled(a)}, "from 0 to 1"),
    "text": (lambda a: {"segmentation": "polygon"}, RLE),
    "a size of another image": (lambda a: {"segmentation": coded(a) | {"size": [W, H]}}, RLE),
    "counts too short": (lambda a: {"segmentation": {"size": [H, W], "counts": [7, 5]}}, RLE),
    "counts of no code": (lambda a: {"segmentation": {"size": [H, W], "counts": "~~"}}, RLE),
    "no counts": (lambda a: {"segmentation": {"size": [H, W]}}, RLE),
    "no pixel": (lambda a: {"segmentation": {"size": [H, W], "counts": [H * W]}}, "holds no pixel"),
    "outside": (lambda a: {"segmentation": [[n + 100 for n in corners(a)]]}, "holds no pixel"),
    "iscrowd of words": (lambda a: {"iscrowd": "maybe"}, "iscrowd is neither 0 nor 1"),
    "iscrowd 2": (lambda a: {"iscrowd": 2}, "iscrowd is neither 0 nor 1"),
    "a score of words": (lambda a: {"score": "high"}, "no finite number"),
    "a score of nan": (lambda a: {"score": float("nan")}, "no finite number"),
    "another category": (lambda a: {"category_id": 9}, "unknown category"),
    "no category": (lambda a: {"category_id": None}, "unknown category"),
    "a list for a category": (lambda a: {"category_id": [1]}, "unknown category"),
    "another image": (lambda a: {"image_id": 9}, "images that are not listed"),
    "a list for an image": (lambda a: {"image_id": [1]}, "images that are not listed"),
}
SOME = {  # these are no fault where all are so
    "no segmentation": (lambda a: {"segmentation": None}, "without a segmentation"),
    "an empty segmentation": (lambda a: {"segmentation": []}, "without a segmentation"),
    "a repetition": (
        lambda a: {k: v for k, v in content()["annotations"][1].items() if k != "id"},
        "repeat another",
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("form", [*BAD, *SOME])
def test_one_bad_annotation_is_left_out_and_said_by_all(
    form: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = (BAD | SOME)[form]
    made = content()
    made["annotations"][0] |= change(made["annotations"][0])
    code, said, count = run(command, write(tmp_path, made), tmp_path, capsys)
    assert code == 0 and "1 annotation" in said and words in said, said
    assert count in (None, LABELS - 1) and (count or command in ("visualize", "split"))


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in OUTS or c == "cvat"])
@pytest.mark.parametrize("form", BAD)
def test_a_json_of_bad_annotations_is_refused_by_all_with_the_reason(
    form: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = BAD[form]
    made = content()
    for a in made["annotations"]:
        a |= change(copy.deepcopy(a))
    code, said, _ = run(command, write(tmp_path, made), tmp_path, capsys)
    assert code == 2 and f"none of its {LABELS} annotations can be used" in said and words in said


def each(key: str, change: Callable[[Content], Content]) -> Callable[[Content], None]:
    """A change of all images, annotations or categories."""

    def apply(made: Content) -> None:
        made[key] = [change(record) for record in made[key]]

    return apply


def without(key: str, *names: str) -> Callable[[Content], None]:
    return each(key, lambda record: {k: v for k, v in record.items() if k not in names})


def add_root(made: Content) -> None:
    made["categories"] = [{"id": 0, "name": "leaf", "supercategory": "none"}] + [
        c | {"supercategory": "leaf"} for c in made["categories"]
    ]


GOOD: dict[str, Callable[[Content], None]] = {
    "as it should be": lambda made: None,
    "no height and width": without("images", "height", "width"),
    "no box, area and iscrowd": without("annotations", "bbox", "area", "iscrowd"),
    "no ids of annotations": without("annotations", "id"),
    "one id for all annotations": each("annotations", lambda a: a | {"id": 5}),
    "ids of annotations as words": each("annotations", lambda a: a | {"id": f"x{a['id']}"}),
    "ids as text": each(
        "annotations", lambda a: a | {k: str(a[k]) for k in ("id", "image_id", "category_id")}
    ),
    "ids of images as text": each("images", lambda i: i | {"id": str(i["id"])}),
    "ids of categories as text": each("categories", lambda c: c | {"id": str(c["id"])}),
    "ids with a point": each(
        "annotations", lambda a: a | {k: float(a[k]) for k in ("image_id", "category_id")}
    ),
    "boxes of nan": each("annotations", lambda a: a | {"bbox": [float("nan")] * 4}),
    "boxes as text": each("annotations", lambda a: a | {"bbox": [str(n) for n in a["bbox"]]}),
    "an area of words": each("annotations", lambda a: a | {"area": "large"}),
    "compressed codes": each("annotations", lambda a: a | {"segmentation": coded(a)}),
    "a score of null": each("annotations", lambda a: a | {"score": None}),
    "names with backslashes": each("images", lambda i: i | {"file_name": f".\\{i['file_name']}"}),
    "a root of the same name": add_root,
    "an image that is listed twice": lambda made: made["images"].append(dict(made["images"][0])),
    **{
        f"iscrowd {value!r}": each("annotations", lambda a, value=value: a | {"iscrowd": value})  # type: ignore[misc]
        for value in ("0", "false", "False", " 0 ", "0.0", 0.0, False, None, "")
    },
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("form", GOOD)
def test_what_has_one_right_reading_is_taken_by_all(
    form: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = content()
    GOOD[form](made)
    code, said, count = run(command, write(tmp_path, made), tmp_path, capsys)
    assert code == 0 and count in (None, LABELS), said
    assert (count or command in ("visualize", "split")) and "left out" not in said.replace(
        "root)  left out", ""
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("images", "file"),
    [
        ("images", "labels.json"),
        ("images/default", "annotations/instances_default.json"),
        ("images/my_set", "annotations/instances_my_set.json"),
        ("images", "annotations/instances_default.json"),
        ("val2017", "annotations/instances_val2017.json"),
    ],
)
def test_layouts_that_tools_write_are_found_by_all(
    images: str, file: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = content()
    GOOD["no height and width"](made)  # so that none can do without the images
    code, said, count = run(
        command, write(tmp_path, made, images=images, file=file), tmp_path / images, capsys
    )
    assert code == 0 and count in (None, LABELS), said


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("value", [1, "1", "true", "True", True, 1.0, "1.0"])
def test_a_crowd_is_one_for_all(
    value: Any, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = content()
    made["annotations"][0]["iscrowd"] = value
    code, said, count = run(command, write(tmp_path, made), tmp_path, capsys)
    assert code == 0 and count in (None, LABELS - (command == "evaluate")), said
    assert "1 crowd" in said or command in ("visualize", "split")  # which take it as any other


@pytest.mark.parametrize("command", ["finetune", "evaluate"])
def test_brush_masks_of_cvat_are_named(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = content()
    each("annotations", lambda a: a | {"iscrowd": 1, "segmentation": coded(a)})(made)
    code, said, _ = run(command, write(tmp_path, made), tmp_path, capsys)
    assert (
        code == 2
        and "CVAT writes its brush masks as crowds" in said
        and "set its iscrowd to 0" in said
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_height_and_width_that_are_swapped_are_named(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = content()
    each("images", lambda i: i | {"height": W, "width": H})(made)
    code, said, _ = run(command, write(tmp_path, made), tmp_path, capsys)
    assert code == 2 and ("height and width are swapped" in said) and "EXIF" not in said


@pytest.mark.parametrize("command", [*COMMANDS, "scan"])
def test_a_json_that_is_compressed_is_named(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = write(tmp_path, content())
    labels.write_bytes(gzip.compress(labels.read_bytes()))
    if command == "scan":
        assert main(["scan", str(labels)]) == 2
        said = capsys.readouterr().err
    else:
        code, said, _ = run(command, labels, tmp_path, capsys)
        assert code == 2
    assert "compressed (gzip); unpack it" in said


def test_predictions_may_lose_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A score is of all of them: also of one that repeats another, or holds no pixel."""
    labels, found = write(tmp_path, content()), tmp_path / "found.json"
    scored = [a | {"score": 0.5} for a in content()["annotations"]]
    empty = {"segmentation": {"size": [H, W], "counts": [H * W]}}
    found.write_text(json.dumps([*scored, scored[0], scored[1] | empty]))
    assert main(["evaluate", "alpha", str(found), "--data", str(labels)]) == 0
    assert f"{LABELS + 2} predictions" in capsys.readouterr().out
    for form, (change, words) in BAD.items():
        if words == "unknown category" or words == "holds no pixel":
            continue
        found.write_text(json.dumps([scored[0] | change(copy.deepcopy(scored[0])), *scored[1:]]))
        assert main(["evaluate", "alpha", str(found), "--data", str(labels)]) == 2, form
        said = capsys.readouterr().err
        assert words in said and "predictions are taken as they are" in said


def test_measures_of_masks_of_boxes_are_left_out_with_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As CVAT and Label Studio write boxes: with an empty segmentation."""
    made = content()
    each("annotations", lambda a: a | {"segmentation": []})(made)
    labels, found = write(tmp_path, made), tmp_path / "found.json"
    found.write_text(json.dumps([a | {"score": 0.5} for a in content()["annotations"]]))
    out = tmp_path / "out.json"
    assert main(["evaluate", "alpha", str(found), "--data", str(labels), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"boxes alone, no masks: {labels}. Measures of masks are left out" in said
    assert (
        "box AP " in said and "mask AP" not in said and "mBO" not in said and "FG-ARI" not in said
    )
    numbers = json.loads(out.read_text())
    assert numbers["notes"] and numbers["notes"][0] in said
    group = numbers["predictions"][str(found)]["all"]
    assert (
        group["box AP"] == pytest.approx(1)
        and group.get("mask AP") is None
        and group.get("mBO") is None
    )
