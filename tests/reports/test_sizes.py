"""The first numbers of a report: they count all that was found, also where pictures are of a part
of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from genseg.reports import run as report_run
from genseg.reports.report import figures, verdict, write_report
from genseg.reports.run import Run
from genseg.reports.sizes import tally

IMAGES = 40


def write_json(folder: Path) -> Path:
    """predictions.json of boxes of n x n pixels: n in the n-th image for n up to 20, none in the
    others."""
    images = [
        {"id": n, "file_name": f"{n}.png", "width": 64, "height": 64} for n in range(1, IMAGES + 1)
    ]
    annotations = [
        {"id": 100 * n + k, "image_id": n, "category_id": 1, "bbox": [0, 0, n, n], "score": 0.9}
        for n in range(1, 21)
        for k in range(n)
    ]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cell"}],
    }
    (folder / "predictions.json").write_text(json.dumps(content))
    return folder


def test_count_median_and_the_share_with_none_are_of_all_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_run, "MOST", 7)  # images that are looked through for pictures
    run = Run(write_json(tmp_path))
    t, each = tally(run), np.repeat(np.arange(1, 21), np.arange(1, 21))
    assert t is not None and len(run.listed) == 7
    assert (t.images, t.empty, len(t.areas)) == (IMAGES, 20, 210) and np.median(
        t.areas
    ) == np.median(each**2)
    assert figures(run) == [
        ("210", "instances in 40 images"),
        ("16.4 px", "median diameter (210 px²)"),
        ("50 %", "of the images have none"),
    ]
    assert verdict(run).startswith(
        "210 instances in 40 images, 5.2 in each; 20 images without any."
    )
    html = write_report(tmp_path).read_text()
    assert (
        "How large the 210 instances are" in html
        and "Sizes: 210 instances from 1.13 to 22.6 pixels across" in html
    )
    assert "These are 7 of the 40 images, drawn at random." in html


def test_loss_and_rank_are_folded(tmp_path: Path) -> None:
    logged = [{"step": s, "images": 8 * s, "loss": 3.0 - s / 4, "rank": 2.0 + s} for s in (1, 8)]
    rows = [row | {"images_per_second": 30.0} for row in logged]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    run = Run(tmp_path)
    assert figures(run) == [("64", "images seen in training")]
    html = write_report(tmp_path).read_text()
    folded = html.partition("<details>")[2].partition("</details>")[0]
    assert "loss 1.000, from 2.750; effective rank 10.0, from 3.0; 30 images a second" in folded
    assert "Loss and its terms" in folded and html.count("Loss and its terms") == folded.count(
        "Loss and its terms"
    )
