"""genseg probe: encoders beside random weights and raw pixels, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
from coco_made import note, write_json
from noise import write_classes
from small import ENCODER

from genseg.cli import main

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("images"), 12, ".jpg")


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one epoch."""
    run = tmp_path_factory.mktemp("runs") / "byol"
    words = [
        "pretrain",
        "--config",
        str(ROOT / "configs/pretrain/byol.yaml"),
        f"data.path={images}",
        f"run={run}",
    ]
    tiny = [
        "epochs=1",
        f"encoder.name={ENCODER}",
        "batch_size=4",
        "views.first.size=32",
        "views.second.size=32",
        "method.hidden=16",
    ]
    assert main([*words, *tiny, "data.workers=0", "data.cache=0", "probe.every=0 steps"]) == 0
    return run


@pytest.fixture(scope="module")
def asked(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other files of the same images."""
    return Path(shutil.copytree(images, tmp_path_factory.mktemp("asked") / "images"))


def test_probes_stand_beside_random_weights_and_raw_pixels(
    run: Path, images: Path, asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", str(run), "--train", str(images), "--test", str(asked)]) == 0
    said = capsys.readouterr().out
    assert "raw pixels" in said and "random weights" in said and "byol, 12 images seen" in said
    assert len(said.splitlines()) == 5
    assert (
        main(["probe", str(run), "--train", str(images), "--test", str(asked), "--kind", "linear"])
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "linear classifier on frozen features: 12 images by 12" and len(lines) == 5
    few = ["--kind", "fewshot", "--shots", "1,3", "--seeds", "2"]
    assert (
        main(["probe", str(run), str(run), "--train", str(images), "--test", str(asked), *few]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 and lines[5].startswith("linear classifier on 3 images of each class")
    assert "over fitted random" in lines[1] and "over" not in lines[3]
    assert lines[4].split(": ")[0].strip() == str(run) and " ± " in lines[4]
    one = ["--kind", "fewshot", "--shots", "3", "--seeds", "1"]
    assert main(["probe", str(run), "--train", str(images), "--test", str(asked), *one]) == 0
    assert " ± " not in capsys.readouterr().out  # of one draw there is no deviation
    assert (
        main(["probe", str(run), "--train", str(images), "--test", f"{images}/../{images.name}"])
        == 2
    )
    assert "each image would find itself" in capsys.readouterr().err


def test_a_probe_on_boxes_names_what_is_wrong_with_the_json(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = [note(n, 1, (3, 7)[n % 2], bbox=[4 * n, 5, 10, 10]) for n in range(8)]
    path = str(write_json(tmp_path, [*notes, note(99, 1, 5)]))
    other = shutil.copy(path, path.replace(".json", "-test.json"))
    assert main(["probe", str(run), "--train", path, "--test", other, "-k", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        f"{path}:",
        "1 annotations of an unknown category  left out  first: annotation 99 of 1.png: 5",
    ]
    assert lines[4] == "1-nearest neighbours: 8 images by 8" and len(lines) == 9
    content = json.loads(Path(path).read_bytes())
    Path(path).write_text(json.dumps({**content, "categories": content["categories"][:1]}))
    assert main(["probe", str(run), "--train", path, "--test", other]) == 2
    assert "has one category, so there is nothing to tell apart" in capsys.readouterr().err
    assert "top-1 100.0 %" in lines[8]  # each crop is its own neighbour


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--kind", "fewshot", "--shots", "7"],
            "class 0 has 6 training images, fewer than 7 shots; ask for fewer",
        ),
        (["--seeds", "0"], "seeds=0: use 1 or more"),
        (["--margin", "-1"], "margin=-1: use 0 or more"),
        (["--test", "x.json"], "are not of one kind: give two class folders or two COCO jsons"),
    ],
)
def test_a_probe_that_cannot_be(
    run: Path,
    images: Path,
    asked: Path,
    more: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["probe", str(run), "--train", str(images), "--test", str(asked), *more]) == 2
    assert message in capsys.readouterr().err


def test_shots_are_numbers(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("1,x", "0", ""):
        with pytest.raises(SystemExit) as stop:
            main(["probe", str(run), "--train", "a", "--test", "b", "--shots", wrong])
        assert stop.value.code == 2
        assert "is no list of whole numbers from 1, such as 1,5,10" in capsys.readouterr().err
