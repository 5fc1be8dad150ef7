"""metrics.jsonl is JSON whatever happens, and what is read from it is what was measured."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from genseg.core.names import METRICS_NAME
from genseg.runs.metrics import MetricsFile, ProgressLine, read_metrics

TIME = {"images_per_second": 5.0, "data_wait": 0.1, "eta_seconds": 60.0}


def refuse(word: str) -> Any:
    raise AssertionError(f"{word} is no JSON")


def test_a_number_that_is_not_finite_is_null_in_the_file_and_nan_for_readers(
    tmp_path: Path,
) -> None:
    file = tmp_path / METRICS_NAME
    metrics = MetricsFile(file, 0)
    for step, norm in enumerate((math.inf, -math.inf, math.nan, 2.5), 1):
        metrics.write({"step": step, "grad_norm": norm})
    metrics.file.close()
    MetricsFile(file, 3).file.close()  # a resumed run writes the lines that it keeps
    lines = file.read_text().splitlines()
    assert [json.loads(line, parse_constant=refuse) for line in lines] == [
        {"step": step, "grad_norm": None} for step in (1, 2, 3)
    ]
    with file.open("a") as more:
        more.write('{"step": 4, "grad_norm": 2.5}\n{"step": 5, "gra')
    rows = read_metrics(file)
    assert [row["step"] for row in rows] == [1, 2, 3, 4] and rows[3]["grad_norm"] == 2.5
    assert all(math.isnan(row["grad_norm"]) for row in rows[:3])


def test_on_a_terminal_the_line_is_no_wider_than_that(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    row = {"step": 1, "epoch": 0.5, **{f"term{n}": 1.25 for n in range(20)}, **TIME}
    ProgressLine().show(row, 2, force=True)
    line = capsys.readouterr().err.removeprefix("\r\x1b[2K")
    assert len(line) == 71 and "5 images/s" in line and "ETA 1m00s | term0" in line


def test_the_progress_line_says_nan(capsys: pytest.CaptureFixture[str]) -> None:
    ProgressLine().show(
        {"step": 1, "epoch": 0.5, "loss": 1.25, "grad_norm": math.nan, **TIME}, 2, force=True
    )
    assert "loss 1.25  grad_norm nan" in capsys.readouterr().err
