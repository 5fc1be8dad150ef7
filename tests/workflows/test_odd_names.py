"""Images whose names are no UTF-8, or as long as a name can be, go through every command that
writes by their names."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from genseg.cli import main
from genseg.data.images.png import write_png
from genseg.data.instances.coco import NAME_BYTES, named_after

LATIN = os.fsdecode(b"bl\xe4tter.png")
LONG = "a" * (NAME_BYTES - 4) + ".png"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What otsu finds in two images of odd names and a broken one, with alphas, cut-outs and the
    report."""
    root = tmp_path_factory.mktemp("names")
    pixels = np.full((40, 60, 3), 30, np.uint8)
    pixels[8:30, 10:40] = 220
    for name in (LATIN, LONG):
        write_png(root / "photos" / name, pixels)
    (root / "photos" / os.fsdecode(b"br\xe4.png")).write_bytes(b"no image")
    assert (
        main(
            [
                "generate",
                "otsu",
                f"{root}/photos",
                "--out",
                f"{root}/found",
                "--alphas",
                "--cutouts",
            ]
        )
        == 0
    )
    return root


def test_alphas_cutouts_and_the_report_are_made(found: Path) -> None:
    assert "report" in {f.stem for f in (found / "found").iterdir()}
    for kind in ("alphas", "cutouts"):
        names = sorted((found / "found" / kind).iterdir(), key=os.fsencode)
        assert [os.fsencode(f.name)[:3] for f in names] == [b"aaa", b"bl\xe4"]
    assert main(["visualize", f"{found}/found"]) == 0


def test_the_json_serves_the_other_commands(
    found: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    json_file, out = (
        found / "found/instances.json",
        Path(os.fsdecode(os.fsencode(found) + b"/\xe4")),
    )
    assert (
        main(["visualize", str(json_file), "--images", f"{found}/photos", "--out", f"{out}.png"])
        == 0
    )
    assert Path(f"{out}.png").is_file() and r"\udce4.png: 2 images" in capsys.readouterr().out
    for kind, end in (
        ("cvat", ".zip"),
        ("labels", ""),
        ("fiftyone", ".json"),
        ("labelstudio", ".json"),
    ):
        images = ["--images", f"{found}/photos"] if end == ".json" else []
        assert (
            main(["convert", str(json_file), "--to", kind, "--out", f"{out}{kind}{end}", *images])
            == 0
        )
    assert len(list(Path(f"{out}labels").iterdir())) == 2


def test_an_image_that_could_not_be_read_is_known_by_its_odd_name(
    found: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((found / "found/instances.json").read_bytes())
    content["images"].append(
        {"id": 99, "file_name": os.fsdecode(b"br\xe4.png"), "width": 60, "height": 40}
    )
    (found / "labels.json").write_text(json.dumps(content))
    assert (
        main(
            ["evaluate", "alpha", f"{found}/found/instances.json", "--data", f"{found}/labels.json"]
        )
        == 0
    )
    assert "1 images that could not be read count as nothing found" in capsys.readouterr().out


def test_a_name_that_becomes_too_long_is_shortened_and_stays_unique() -> None:
    names = [f"deep/{'ä' * 120}{n}" for n in range(3)]
    made = [named_after(Path(name), "-100001.png") for name in names]
    assert len({*made}) == 3 and all(len(os.fsencode(Path(m).name)) <= NAME_BYTES for m in made)
    assert all(m.startswith("deep/ääää") and m.endswith("-100001.png") for m in made)
    assert named_after(Path("/a/../b"), "-1.png") == "a/b-1.png"
    fits = "a" * (NAME_BYTES - 6)
    assert named_after(Path(fits), "-1.png") == f"{fits}-1.png"
