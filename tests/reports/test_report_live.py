"""The reports of commands that go on: they say how far those are, show what is done, and read
themselves again."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_made import write_blobs
from live import watched
from small import ENCODER

from genseg.cli import main
from genseg.reports.report import write_report
from genseg.reports.run import Run
from genseg.show.paths import short_paths
from genseg.workflows.generate.records import as_coco, read_rows, rows_so_far

CONFIGS = Path(__file__).parents[2] / "configs/finetune"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright discs, as many in each image as its name says."""
    root = tmp_path_factory.mktemp("discs")
    for n in range(1, 5):
        pixels = np.full((64, 96, 3), 20, np.uint8)
        for k in range(n):
            cv2.circle(pixels, (12 + 22 * k, 30), 7, (230, 220, 210), -1, cv2.LINE_AA)
        cv2.imwrite(str(root / f"{n}.png"), pixels)
    return root


def test_generate_tells_how_far_it_is(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watched(monkeypatch)
    assert main(["generate", "tree", str(images), "--out", str(tmp_path)]) == 0
    assert seen == [("20", f"running: {n} %") for n in (25, 50, 75)] + [
        ("20", "finished"),
        ("0", "finished"),
    ]


def test_what_generate_has_done_is_shown_before_it_ends(images: Path, tmp_path: Path) -> None:
    assert main(["generate", "tree", str(images), "--out", str(tmp_path)]) == 0
    (part,) = (tmp_path / "parts").iterdir()
    whole = json.loads((tmp_path / "instances.json").read_text())
    assert as_coco(rows_so_far(tmp_path)) == whole
    # a kill
    part.write_text("".join(part.read_text().splitlines(keepends=True)[:3]) + '{"id": 4, "fi')
    (tmp_path / "instances.json").unlink()
    html = write_report(tmp_path).read_text()
    assert "What was found in 3 images" in html and ">stopped: 75 %<" in html
    run = Run(tmp_path)
    assert [i.name for i in run.listed] == ["1.png", "2.png", "3.png"]
    assert [len(i.instances) for i in run.listed] == [
        sum(a["image_id"] == n for a in whole["annotations"]) for n in (1, 2, 3)
    ]
    # a later command, on other shards
    (tmp_path / "parts/1-of-2.jsonl").write_bytes(part.read_bytes())
    assert rows_so_far(tmp_path) == read_rows(part)


@pytest.mark.parametrize("model", ["unet", "faster_rcnn"])
def test_finetune_and_predict_tell_how_far_they_are(
    images: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_blobs(tmp_path, count=2, each=5)
    seen, run, out = watched(monkeypatch), tmp_path / "run", tmp_path / "out"
    keys = [
        f"architecture={ENCODER}",
        "steps=4",
        "batch_size=2",
        "augment.size=32",
        "threads=1",
        "data.workers=0",
        "log_every=1 steps",
    ]
    small = (
        ["model.width=16", "model.hidden=32", "model.box_batch=16"]
        if model == "faster_rcnn"
        else []
    )
    labels = tmp_path / "labels.json"
    assert (
        main(
            [
                "finetune",
                "--config",
                str(CONFIGS / f"{model}.yaml"),
                f"data.train={labels}",
                f"run={run}",
                *keys,
                *small,
            ]
        )
        == 0
    )
    assert seen == [("20", f"running: {n} %") for n in (25, 50, 75)] + [("0", "finished")]
    seen.clear()
    assert main(["predict", str(run), str(images), "--out", str(out), "--score", "0.0"]) == 0
    assert seen[:3] == [("20", f"running: {n} %") for n in (25, 50, 75)] and seen[-1] == (
        "0",
        "finished",
    )
    html = (out / "report.html").read_text()
    assert (
        'id="made"' in html and short_paths(str(images)) in html and str(images.parent) not in html
    )
    assert "What was found in 4 images" in html
