"""A labelled json in two: nothing in both, what belongs together stays together, and the same again
is the same."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from genseg.cli import main
from genseg.data.labels.labelled_set import read_labelled
from genseg.workflows.labels.split import split_labels

GROUPS = ["a", "a", "a", None, "", "b", "b", "", "", ""]


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Ten images, some in groups; numbers 3 and 5 have the same bytes, so the first is with group
    b."""
    folder = tmp_path / "images"
    folder.mkdir()
    for n in range(10):
        Image.new("RGB", (9, 9), (3 if n == 5 else n, 0, 0)).save(folder / f"{n}.png")
    content = {
        "info": {"from": "here"},
        "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "rare"}],
        "images": [
            {
                "id": n + 1,
                "file_name": f"{n}.png",
                "height": 9,
                "width": 9,
                **({} if g is None else {"group": g}),
            }
            for n, g in enumerate(GROUPS)
        ],
        "annotations": [
            {
                "id": n + 1,
                "image_id": n + 1,
                "category_id": 1 + (n == 0),
                "bbox": [1, 1, 3, 3],
                "area": 9,
                "iscrowd": 0,
            }
            for n in range(10)
        ],
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    return tmp_path / "labels.json"


def halves(file: Path) -> list[dict[str, Any]]:
    return [
        json.loads(file.with_name(f"labels-{name}.json").read_bytes()) for name in ("train", "val")
    ]


@pytest.mark.parametrize("seed", range(12))
def test_each_image_is_in_one_of_both_with_its_group(labels: Path, seed: int) -> None:
    said = split_labels(labels, part=0.4, seed=seed).text()
    train, val = halves(labels)
    numbers = [{i["id"] - 1 for i in half["images"]} for half in (train, val)]
    assert numbers[0] | numbers[1] == set(range(10)) and not numbers[0] & numbers[1]
    assert 3 <= len(numbers[1]) <= 5
    for together in ({0, 1, 2}, {3, 5, 6}):
        assert together <= numbers[0] or together <= numbers[1]
    for half, there in zip((train, val), numbers, strict=True):
        assert {a["image_id"] - 1 for a in half["annotations"]} == there
        made = {"of": "labels.json", "val": 0.4, "by": "group", "seed": seed}
        assert (
            half["info"] == {"from": "here", "genseg split": made} and len(half["categories"]) == 2
        )
    lacks = "labels-val.json" if 0 in numbers[0] else "labels-train.json"
    (line,) = [line for line in said.splitlines() if lacks in line]
    assert line.endswith("; none of rare")
    assert "6 groups" in said
    assert len(read_labelled(labels.with_name("labels-val.json"), masks=False)[0].images) == len(
        numbers[1]
    )


def test_the_same_again_is_the_same_and_another_seed_is_not(labels: Path) -> None:
    parts = []
    for seed in (0, 0, 1, 2, 3):
        split_labels(labels, part=0.4, seed=seed)
        parts.append(labels.with_name("labels-val.json").read_bytes())
    assert parts[0] == parts[1] and len(set(parts)) > 1


@pytest.mark.parametrize("part", [0.0, 1.0])
def test_neither_half_is_ever_empty(labels: Path, part: float) -> None:
    split_labels(labels, part=part)
    assert all(half["images"] for half in halves(labels))


def test_what_a_user_can_mend(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["split", str(labels), "--val", "2"]) == 2
    assert main(["split", str(labels.with_name("no.json"))]) == 2
    assert main(["split", str(labels), "--by", "groop"]) == 2
    content = json.loads(labels.read_bytes())
    labels.write_text(
        json.dumps({**content, "images": [{**i, "field": "one"} for i in content["images"]]})
    )
    assert main(["split", str(labels), "--by", "field"]) == 2
    labels.write_text(
        json.dumps({**content, "images": [{**i, "id": 7} for i in content["images"]]})
    )
    assert main(["split", str(labels)]) == 2
    labels.write_text(
        json.dumps(
            {**content, "images": [{"file_name": i["file_name"]} for i in content["images"]]}
        )
    )
    assert main(["split", str(labels)]) == 2
    for broken in ([7], [{"id": 1}], [{"id": 1, "image_id": [3]}]):
        labels.write_text(json.dumps({**content, "annotations": broken}))
        assert main(["split", str(labels)]) == 2
    said = capsys.readouterr().err
    for words in (
        "val=2",
        "no.json",
        "are one group; give more images, or --by",
        "--by groop: no image has this key; their keys are file_name, group, height, id, width",
        "image 7 is both 0.png and 1.png",
        "images[0] needs an id",
        "is no mapping",
    ):
        assert words in said
    assert (
        said.count(
            "none of its 1 annotations can be used (1 annotations of images that are not listed"
        )
        == 2
    )
    assert "Traceback" not in said
    assert not labels.with_name("labels-val.json").exists()


def test_what_somebody_else_has_made_is_not_written_over(
    labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = labels.with_name("labels-val.json")
    other.write_bytes(labels.read_bytes())
    assert main(["split", str(labels)]) == 2
    assert "labels-val.json exists and was not written by genseg split" in capsys.readouterr().err
    assert (
        other.read_bytes() == labels.read_bytes()
        and not labels.with_name("labels-train.json").exists()
    )


def test_annotations_of_no_image_are_left_out_and_counted(labels: Path) -> None:
    content = json.loads(labels.read_bytes())
    content["annotations"] += [{**content["annotations"][0], "id": 99, "image_id": 99}]
    labels.write_text(json.dumps(content))
    assert (
        split_labels(labels)
        .text()
        .endswith("\n1 annotation of images that are not listed: left out")
    )
    assert sum(len(half["annotations"]) for half in halves(labels)) == 10


def test_an_image_that_is_missing_is_for_fine_tuning_to_say(labels: Path) -> None:
    (labels.parent / "images/8.png").unlink()
    assert "10 annotation" not in split_labels(labels).text()
    assert sum(len(half["images"]) for half in halves(labels)) == 10
    shutil.rmtree(labels.parent / "images")
    with pytest.raises(ValueError, match="none of its 10 images is there"):
        split_labels(labels)


def test_a_json_without_groups_is_not_said_to_have_some(labels: Path) -> None:
    content = json.loads(labels.read_bytes())
    alone = [{k: v for k, v in image.items() if k != "group"} for image in content["images"]]
    labels.write_text(json.dumps({**content, "images": alone}))
    assert (
        "9 groups by equal bytes alone: no image has the key group; none is in both"
        in split_labels(labels).text()
    )
