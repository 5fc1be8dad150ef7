"""Pages and sheets of a result that keeps all that was found, for its order: few are drawn at
first."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from genseg.cli import main
from genseg.core.names import INSTANCES_NAME
from genseg.data.instances.coco import annotation
from genseg.data.instances.instance import Instance

SIDE, MANY = 96, 120


def write_low(root: Path) -> Path:
    """Two images covered by instances of low scores, as a run of a recipe for AP leaves them."""
    (root / "images").mkdir()
    rng, notes = np.random.default_rng(0), list[dict[str, object]]()
    for n in (1, 2):
        pixels = rng.integers(90, 120, (SIDE, SIDE, 3), dtype=np.uint8)
        cv2.imwrite(str(root / f"images/{n}.png"), pixels)
        for k in range(MANY):
            y, x = rng.integers(0, SIDE - 20, 2).tolist()
            a = Instance(np.full((20, 20), 255, np.uint8), y, x, 0.08 * (1 - (2 * k + n) / 250))
            notes.append(annotation(a, number=1000 * n + k, image=n, height=SIDE, width=SIDE))
    images = [{"id": n, "file_name": f"{n}.png", "height": SIDE, "width": SIDE} for n in (1, 2)]
    categories = [{"id": 1, "name": "instance"}]
    content = {"images": images, "annotations": notes, "categories": categories}
    found = root / "found"
    found.mkdir()
    (found / INSTANCES_NAME).write_text(json.dumps(content))
    return found


def test_a_report_shows_the_best_few_with_a_word(tmp_path: Path) -> None:
    found = write_low(tmp_path)
    assert main(["visualize", str(found), str(tmp_path / "images")]) == 0
    html = (found / "report.html").read_text()
    (text,) = re.findall(r'id="page-data">(.*?)</script>', html, re.S)
    viewer = json.loads(text)["found"]
    rows = [row for picture in viewer["pictures"] for row in picture["found"]]
    shown = sum(row[6] >= viewer["threshold"] - 1e-9 for row in rows)
    assert len(rows) == 2 * MANY and shown == 6, "the slider reaches the others"
    assert viewer["low"] < 0.01
    assert "or more are shown, the best 3 an image or so: nothing scores much" in html
    assert "3 instances, 0.08" in html, "images are ranked by what is shown"


def test_a_sheet_draws_them_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = write_low(tmp_path)
    words = ["--images", str(tmp_path / "images"), "--out", str(tmp_path / "a.png"), "--side", "96"]
    assert main(["visualize", str(found / INSTANCES_NAME), *words]) == 0
    assert "or more are drawn; others are there for their order" in capsys.readouterr().out
    sheet = cv2.imread(str(tmp_path / "a.png")).astype(int)
    veiled = (np.ptp(sheet, axis=2) > 40).mean()
    assert 0 < veiled < 0.3, "most of each image is seen as it is"
