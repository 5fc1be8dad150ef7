"""The page of several runs: a section and charts for each task, and what each comparison says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from genseg.reports.index import write_index
from genseg.reports.run import Run

PRETRAIN = "run: x\nmethod: {name: byol}\ndata: {path: images}\n"
FINETUNE = (
    "run: x\nencoder: random\ndata:\n  train: a.json\n# model:\n#   name: unet\nmodel: "
    "{name: fpn}\n"
)


def metrics(folder: Path, config: str, **last: float) -> None:
    folder.mkdir()
    (folder / "config.yaml").write_text(config)
    rows = [
        {"step": s, "images": 8 * s, "loss": 3.0 / s, **{k: v * s for k, v in last.items()}}
        for s in (1, 2)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A pretraining, a fine-tuning, and a comparison of two pairs each of one arm that is better,
    and none that is."""
    metrics(tmp_path / "pre", PRETRAIN, rank=4.0)
    metrics(tmp_path / "fine", FINETUNE, **{"val mIoU": 0.3})
    for name, mine in (("gain", [0.5, 0.6, 0.7]), ("noise", [0.1, 0.3, 0.2])):
        arms = (("random", [0.1, 0.21, 0.3]), ("mine", mine))
        cells = [
            {"arm": a, "labels": 4, "seed": s, "value": v}
            for a, found in arms
            for s, v in enumerate(found)
        ]
        content = {
            "metric": "mIoU",
            "arms": ["random", "mine"],
            "labels": [4],
            "cells": cells,
            "planned": 6,
        }
        (tmp_path / name).mkdir()
        (tmp_path / name / "compare.json").write_text(json.dumps(content))
    return tmp_path


def sections(html: str) -> dict[str, str]:
    found = re.split(r'<section id="(\w+)"', html)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def test_each_task_has_its_own_table_and_charts(runs: Path) -> None:
    made = sections(write_index(runs).read_text())
    assert list(made) == ["pretrain", "finetune", "compare"]
    assert (
        ">pre<" in made["pretrain"]
        and ">fine<" in made["finetune"]
        and ">fine<" not in made["pretrain"]
    )
    assert (
        "Loss: pre from 3 to 1.5" in made["pretrain"]
        and "Loss: fine from 3 to 1.5" in made["finetune"]
    )
    assert (
        "mIoU on the validation images" in made["finetune"]
        and "mIoU on the val" not in made["pretrain"]
    )
    assert (
        "Effective rank" not in made["finetune"]
        and '<td data-word="task">finetune fpn</td>' in made["finetune"]
    )


def test_a_comparison_says_its_verdict_and_a_damaged_one_why(runs: Path) -> None:
    made = sections(write_index(runs).read_text())["compare"]
    assert "mine against random, mIoU: better with 4 labelled images (+0.39" in made
    assert "mine against random, mIoU: no clear difference with 4 labelled images (-0.00" in made
    assert made.count("<svg") == 2 and "Loss" not in made
    (runs / "gain/compare.json").write_text('{"cells": [], "planned": 4}')
    assert (
        "needs arms, labels, metric and cells" in sections(write_index(runs).read_text())["compare"]
    )


def test_the_model_is_read_from_the_config_and_not_from_its_text(runs: Path) -> None:
    assert Run(runs / "fine").model == "fpn" and Run(runs / "pre").model == ""


@pytest.mark.parametrize("width", [390, 1280])
def test_runs_are_cards_on_a_phone_and_rows_on_a_screen(
    chromium: Any, runs: Path, width: int
) -> None:
    file = write_index(runs)
    page = chromium.new_context(viewport={"width": width, "height": 844}).new_page()
    page.goto(file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    heads = page.locator("#finetune thead th")
    cell = page.locator("#finetune td[data-word=mIoU]")
    told = cell.evaluate("e => getComputedStyle(e, '::before').content")
    box = page.locator("#finetune tbody tr").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width
    # without scrolling to the side
    assert cell.bounding_box()["x"] + cell.bounding_box()["width"] <= width
    assert (told == '"mIoU"') == (width == 390) and (heads.first.bounding_box()["x"] < 0) == (
        width == 390
    )
    page.context.close()
