"""The table of measures: numbers computed by hand, two formats of predictions, and files that
cannot be used."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from genseg.cli import main
from genseg.data.images.coco_files import CocoError
from genseg.data.instances.coco import annotate, annotation
from genseg.data.instances.instance import Instance
from genseg.data.proposals.propose import PROPOSERS
from genseg.data.scenes.scenes import write_scenes
from genseg.measure.class_agnostic import by_kind, class_agnostic
from genseg.workflows.evaluate.alpha import evaluate_alpha
from genseg.workflows.generate.finder import Wanted
from genseg.workflows.generate.generate import generated

HEIGHT, WIDTH = 60, 80


def square(top: int, left: int, size: int, score: float = 1.0) -> Instance:
    return Instance(np.full((size, size), 255, np.uint8), top, left, score)


LABELS = {
    "a.png": [square(0, 0, 10), square(20, 0, 11)],
    "b.png": [square(0, 0, 4), square(10, 10, 40)],
}
CROWD = square(20, 20, 10)  # of a.png
FOUND = {
    # right, eroded, in the crowd
    "a.png": [square(0, 0, 10, 0.9), square(21, 1, 9, 0.8), square(22, 22, 5, 0.95)],
    "b.png": [square(10, 10, 40, 0.7), square(10, 10, 40, 0.6)],  # one missed, one found twice
}
ERODED = 81 / 121
COUNTS = ("images", "labels", "predictions")
EXPECTED = {
    "images": 2,
    "labels": 4,
    "predictions": 5,
    # 0.669 passes 0.5, 0.55, 0.6, 0.65
    "box AR@100": (10 + 4 + 0 + 10) / 40,
    "mask AR@100": (10 + 4 + 0 + 10) / 40,
    # precision is 1 up to a recall of 2 / 3, from IoU 0.7 on 1 / 3, at 101 recalls; of 1600 pixels
    # the one is found
    "mask AP, small": (4 * 67 + 6 * 34) / 1010,
    "mask AP, medium": 1,
    "mask AP, large": math.nan,
    "TP/(TP+FP+FN) at IoU 0.5": (1 + 1 / 3) / 2,
    "TP/(TP+FP+FN) at IoU 0.75": (1 / 3 + 1 / 3) / 2,
    "mBO": (1 + ERODED + 0 + 1) / 4,
    "CorLoc": 1 / 2,  # the best box of a.png lies in the crowd
    "FG-ARI": (adjusted_rand_score([0] * 100 + [1] * 121, [0] * 100 + [1] * 81 + [2] * 40) + 1) / 2,
    # the one in the crowd is neither right nor wrong
    "calibration error": (0.1 + 0.2 + 0.3 + 0.6) / 4,
    "recall, small": 2 / 3,
    "recall, medium": 1,
    "recall, large": math.nan,
    # up to 100, 121, 1600
    "recall, smallest third": 1 / 2,
    "recall, middle third": 1,
    "recall, largest third": 1,
}


def coco(
    instances: dict[str, list[Instance]], *, first: int = 1, prefix: str = "", **more: Any
) -> dict[str, Any]:
    """A COCO json; image ids count from `first`."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, found) in enumerate(instances.items(), start=first):
        images.append(
            {"id": number, "file_name": prefix + name, "height": HEIGHT, "width": WIDTH} | more
        )
        for i in found:
            annotations.append(
                annotation(i, number=len(annotations) + 1, image=number, height=HEIGHT, width=WIDTH)
            )
    return {"images": images, "annotations": annotations}


def data_json() -> dict[str, Any]:
    content = coco(LABELS)
    for image, kind in zip(content["images"], ("dark", "bright"), strict=True):
        image["kind"] = kind
    crowd = annotation(CROWD, number=5, image=1, height=HEIGHT, width=WIDTH) | {"iscrowd": 1}
    for a in content["annotations"]:
        del a["score"]
        a["category_id"] = a["id"]
    content["annotations"].append(crowd)
    return content


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def numbers(
    predictions: Sequence[Path], data: Path, **options: Any
) -> list[dict[str, dict[str, Any]]]:
    """The json that is written, by file and group, with nan where it has null."""
    out = data.parent / "numbers" / "out.json"  # there is no such folder yet
    evaluate_alpha(predictions, data, out=out, **options)
    files = json.loads(out.read_text())["predictions"].values()
    return [
        {g: {k: math.nan if v is None else v for k, v in m.items()} for g, m in f.items()}
        for f in files
    ]


def subset(measures: dict[str, float], expected: dict[str, float]) -> dict[str, float]:
    return {k: measures[k] for k in expected}


def test_all_measures_are_as_computed_by_hand(tmp_path: Path) -> None:
    data = write(tmp_path / "data.json", data_json())
    found = write(tmp_path / "run" / "found.json", coco(FOUND, first=40, prefix="images/"))
    (measures,) = numbers([found], data)
    assert list(measures) == ["all", "bright", "dark"]
    assert subset(measures["all"], EXPECTED) == pytest.approx(EXPECTED, nan_ok=True)
    dark = {
        "images": 1,
        "labels": 2,
        "predictions": 3,
        "TP/(TP+FP+FN) at IoU 0.5": 1,
        "mBO": (1 + ERODED) / 2,
        "recall, smallest third": 1,
        "recall, middle third": 1,
        "CorLoc": 0,
    }
    assert subset(measures["dark"], dark) == pytest.approx(dark)
    assert math.isnan(measures["all"]["alpha MAD"])


def test_labels_against_themselves_are_perfect(tmp_path: Path) -> None:
    data = write(tmp_path / "data.json", data_json())
    (measures,) = numbers([data], data)
    for group in measures.values():
        rest = {k: v for k, v in group.items() if k not in COUNTS and not math.isnan(v)}
        assert rest.pop("calibration error") == 0
        assert rest == pytest.approx(dict.fromkeys(rest, 1.0)) and len(rest) >= 15


def test_a_list_of_results_is_measured_as_the_json_of_the_same(tmp_path: Path) -> None:
    data = write(tmp_path / "data.json", data_json())
    whole = write(tmp_path / "found.json", coco(FOUND, first=40))
    plain = [
        {
            "image_id": a["image_id"],
            "category_id": 3,
            "segmentation": a["segmentation"],
            "score": a["score"],
        }
        for a in coco(FOUND)["annotations"]
    ]
    one, other = numbers([whole, write(tmp_path / "results.json", plain)], data)
    assert one["all"] == pytest.approx(other["all"], nan_ok=True)
    (nothing,) = numbers([write(tmp_path / "empty.json", [])], data)
    assert (
        nothing["all"]["mask AP"]
        == nothing["all"]["mBO"]
        == nothing["all"]["TP/(TP+FP+FN) at IoU 0.5"]
        == 0
    )


def test_the_threshold_concerns_the_ratio_alone(tmp_path: Path) -> None:
    data = write(tmp_path / "data.json", data_json())
    found = write(tmp_path / "found.json", coco(FOUND))
    (free,), (cut,) = numbers([found], data), numbers([found], data, threshold=0.65)
    ratio = "TP/(TP+FP+FN) at IoU 0.5"
    assert cut["bright"][ratio] == pytest.approx(1 / 2) and free["bright"][ratio] == pytest.approx(
        1 / 3
    )
    rest = [k for k in free["all"] if not k.startswith("TP")]
    assert [cut["all"][k] for k in rest] == pytest.approx(
        [free["all"][k] for k in rest], nan_ok=True
    )


def test_the_table_has_a_column_for_each_group_or_for_each_file(tmp_path: Path) -> None:
    data = write(tmp_path / "data.json", data_json())
    found = write(tmp_path / "found.json", coco(FOUND))
    one = evaluate_alpha([found], data).text()
    assert "2 images, 4 labels" in one and "found.json: 5 predictions" in one
    rows = {line[:28].strip(): line[28:].split() for line in one.splitlines()}
    assert rows["mBO"] == ["0.6674", "0.5000", "0.8347"] and rows["labels"] == ["4", "2", "2"]
    assert rows["recall, medium"] == ["1.0000", "1.0000", "-"]
    assert "recall, large" not in rows and "alpha MAD" not in rows  # known in no column
    blocks = evaluate_alpha([found, data], data).text().split("\n\n")[1:]
    assert [b.split()[:4] for b in blocks] == [
        [g, "images", "1", "2"] for g in ("all", "bright", "dark")
    ]
    assert next(line.split() for line in blocks[0].splitlines() if "mBO" in line) == [
        "mBO",
        "0.6674",
        "1.0000",
    ]


def test_boxes_alone_are_measured_as_boxes(tmp_path: Path) -> None:
    content = data_json()
    for a in content["annotations"]:
        del a["segmentation"]
    data = write(tmp_path / "data.json", content)
    (measures,) = numbers([write(tmp_path / "found.json", coco(FOUND))], data)
    got = measures["all"]
    assert (
        got["box AR@100"] == pytest.approx(0.6)
        and got["CorLoc"] == 0.5
        and got["recall, small"] == 2 / 3
    )
    assert all(
        math.isnan(got[k])
        for k in ("mask AP", "mask AP, small", "TP/(TP+FP+FN) at IoU 0.5", "mBO", "FG-ARI")
    )


def test_instances_in_memory_need_no_files() -> None:
    size = {"height": HEIGHT, "width": WIDTH}
    truth = [annotate(i, **size) for i in LABELS.values()]
    found = [annotate(i, **size) for i in FOUND.values()]
    measures = dict(class_agnostic(found, truth))
    assert measures["mBO"] == pytest.approx(EXPECTED["mBO"]) and list(by_kind(found, truth)) == [
        "all"
    ]
    # opaque squares: where they differ, by 1
    assert measures["alpha MAD"] == pytest.approx((0 + (1 - ERODED) + 0) / 3)
    unlabelled = dict(class_agnostic([annotate([], **size)] * 2, [truth[0], annotate([], **size)]))
    assert unlabelled["TP/(TP+FP+FN) at IoU 0.5"] == 0.5  # nothing where nothing is
    # no label at all
    assert math.isnan(dict(class_agnostic(found, [annotate([], **size)] * 2))["mBO"])
    assert unlabelled["CorLoc"] == 0 and unlabelled["FG-ARI"] == 0  # of the image with labels alone


def scenes_with_predictions(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two scenes, predictions equal to their labels, and the alphas of these, in folders as the
    images."""
    write_scenes(tmp_path / "scenes", count=2, size=48, seed=0, split="train", alphas=True)
    data = tmp_path / "scenes" / "annotations.json"
    content = json.loads(data.read_text())
    for image in content["images"]:
        image["file_name"] = "images/" + image["file_name"]
    found = write(tmp_path / "run" / "found.json", content)
    soft = tmp_path / "run" / "alphas" / "images"
    soft.mkdir(parents=True)
    for a in content["annotations"]:
        stem = f"{a['image_id'] - 1:06d}"
        (soft / f"{stem}-{a['id']}.png").write_bytes(
            (tmp_path / "scenes" / "alphas" / f"{stem}-{a['depth']}.png").read_bytes()
        )
    return data, found, soft


def test_soft_alphas_are_compared_where_both_are_known(tmp_path: Path) -> None:
    data, found, soft = scenes_with_predictions(tmp_path)
    alphas = tmp_path / "scenes" / "alphas"
    (same,) = numbers([found], data, alphas=alphas)
    assert same["all"]["alpha MAD"] == same["all"]["alpha MSE"] == 0 and same["all"]["FG-ARI"] == 1
    means = []
    for file in soft.iterdir():
        alpha = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        means.append(np.mean((alpha[alpha > 0] - alpha[alpha > 0] // 2) / 255.0))
        cv2.imwrite(str(file), alpha // 2)
    (half,) = numbers([found], data, alphas=alphas)
    assert half["all"]["alpha MAD"] == pytest.approx(np.mean(means)) and half["all"][
        "mask AP"
    ] == pytest.approx(1)
    (bare,) = numbers(
        [write(tmp_path / "bare.json", json.loads(found.read_text()))], data, alphas=alphas
    )
    assert math.isnan(bare["all"]["alpha MAD"])


def test_alphas_that_do_not_fit_are_named(tmp_path: Path) -> None:
    data, found, soft = scenes_with_predictions(tmp_path)
    alphas = tmp_path / "scenes" / "alphas"
    file = soft / "000000-1.png"
    mask = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    for content, message in (
        (np.where(mask, 0, 255).astype(np.uint8), "its number is that of another annotation"),
        (np.zeros((48, 40), np.uint8), r"8-bit grey image of shape \(48, 48\)"),
        (np.zeros((48, 48), np.uint16), "holds uint16"),
    ):
        cv2.imwrite(str(file), content)
        with pytest.raises(CocoError, match=f"000000-1.png .*{message}"):
            evaluate_alpha([found], data, alphas=alphas)
    file.unlink()
    with pytest.raises(CocoError, match="000000-1.png is missing or no image"):
        evaluate_alpha([found], data, alphas=alphas)
    with pytest.raises(CocoError, match="000000-0.png is missing"):
        evaluate_alpha([found], data, alphas=tmp_path / "nowhere")


def without(content: dict[str, Any], name: str) -> dict[str, Any]:
    gone = {i["id"] for i in content["images"] if i["file_name"] == name}
    return {
        "images": [i for i in content["images"] if i["id"] not in gone],
        "annotations": [a for a in content["annotations"] if a["image_id"] not in gone],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            without(coco(FOUND), "b.png"),
            r"lacks 1 of the 2 images of the data, the first is b.png \(its own first is a",
        ),
        (
            {"images": [], "annotations": []},
            r"lacks 2 of the 2 .* first is a.png \(its own first is missing\)",
        ),
        (coco(FOUND | {"images/a.png": []}), "1 images with the file of another"),
        (coco({n: [] for n in LABELS}, height=9), "a.png has 80 x 9 pixels, in the data 80 x 60"),
        ({"annotations": []}, "it has no images"),
        (
            [{"image_id": 77, "bbox": [0, 0, 1, 1], "score": 1}],
            "1 annotations of images .* not listed, .* image 77",
        ),
        (
            [{"image_id": 1, "segmentation": {"size": [60, 80], "counts": "x"}}],
            "of a.png: its counts are damaged",
        ),
    ],
)
def test_predictions_that_cannot_be_used_are_named(
    tmp_path: Path, content: Any, message: str
) -> None:
    data = write(tmp_path / "data.json", data_json())
    found = write(tmp_path / "found.json", content)
    with pytest.raises(CocoError, match=f"found.json.*{message}"):
        evaluate_alpha([found], data)


def test_data_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    found = write(tmp_path / "found.json", coco(FOUND))
    with pytest.raises(CocoError, match="data.json cannot be read"):
        evaluate_alpha([found], tmp_path / "data.json")
    data = write(tmp_path / "data.json", coco({"a.png": []}))
    with pytest.raises(CocoError, match="data.json has 1 images and no label in them"):
        evaluate_alpha([found], data)


def test_images_that_the_data_lack_are_left_out_and_counted(tmp_path: Path) -> None:
    data = write(tmp_path / "data.json", without(data_json(), "a.png"))
    found = write(tmp_path / "found.json", coco(FOUND))
    table = evaluate_alpha([found], data).text()
    assert "found.json: 2 predictions; 1 more images, which the data lack, are left out" in table


def test_images_that_could_not_be_read_count_as_nothing_found_and_are_said(tmp_path: Path) -> None:
    data = write(tmp_path / "data.json", data_json())
    empty = write(tmp_path / "empty.json", coco(FOUND | {"b.png": []}, prefix="images/"))
    found = write(
        tmp_path / "run" / "found.json", without(coco(FOUND, prefix="images/"), "images/b.png")
    )
    listed = tmp_path / "run" / "broken.txt"
    listed.write_text("images/b.png\t/photos/images/b.png: truncated\nimages/c.png\tit is empty\n")
    one, other = numbers([found, empty], data)
    assert one["all"] == pytest.approx(other["all"], nan_ok=True)
    note = (
        "found.json: 3 predictions; 1 images that could not be read count as nothing found, see "
        f"{listed}"
    )
    assert note in evaluate_alpha([found], data).text()
    listed.write_text("c.png\tit is empty\n")
    with pytest.raises(CocoError, match=r"lacks 1 of the 2 images of the data, the first is b.png"):
        evaluate_alpha([found], data)


def test_labels_are_read_before_anything_is_generated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(
        tmp_path / "data.json",
        {"images": [{"id": 1, "file_name": "0.png", "height": 8, "width": 8}], "annotations": []},
    )
    for wrong in (data, tmp_path):
        assert main(["evaluate", "alpha", "otsu", "--data", str(wrong), "--score", "0.1"]) == 2
        said = capsys.readouterr()
        assert (
            "--score is for runs" in said.out
            and "generate:" not in said.err
            and str(wrong) in said.err
        )


def test_a_json_is_taken_as_it_is_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, found = (
        write(tmp_path / "data.json", data_json()),
        write(tmp_path / "found.json", coco(FOUND)),
    )
    tables = []
    for more in (
        [],
        ["--score", "0.9", "--min-area", "9", "--threshold", "0.5"],
        ["--threshold", "0.5"],
    ):
        assert main(["evaluate", "alpha", str(found), "--data", str(data), *more]) == 0
        tables.append(capsys.readouterr().out)
    note = (
        f"note: --score, --min-area and --side are for runs and proposers; {found} is taken as it "
        "is\n"
    )
    assert note not in tables[0] and tables[1] == note + tables[2]


def test_images_beside_the_json_and_broken_ones_are_measured_as_others(tmp_path: Path) -> None:
    """From the images to the errors of soft alphas: one lies above the json, one is no image."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "0.png"), pixels)
    centre = PROPOSERS["centre"](pixels)[0]
    data = write(
        tmp_path / "lists" / "data.json", coco({"../0.png": [centre], "bad.png": [centre]})
    )
    (tmp_path / "lists" / "bad.png").write_bytes(b"no image")
    (tmp_path / "soft").mkdir()
    for name in ("0-0.png", "bad-0.png"):
        cv2.imwrite(str(tmp_path / "soft" / name), centre.paint(HEIGHT, WIDTH))
    found = generated(Path("centre"), data, tmp_path / "made", alphas=True, wanted=Wanted())
    (measures,) = numbers([found], data, alphas=tmp_path / "soft")
    got = measures["all"]
    assert got["alpha MAD"] == 0 and got["recall, smallest third"] == 0.5 and got["images"] == 2
