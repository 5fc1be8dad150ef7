"""Arguments that are paths."""

import argparse
import json
from pathlib import Path

import pytest

from genseg.cli import main
from genseg.commands.arguments import path, source
from genseg.core.paths import EMBEDDED


def test_home_and_embedded_data_are_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert path("~/a") == Path("/somewhere/a") and path("tree") == Path("tree")
    assert source("embedded:nuclei/test") == str(EMBEDDED / "nuclei/test")
    with pytest.raises(
        argparse.ArgumentTypeError, match="embedded:cells does not exist; genseg ships"
    ):
        path("embedded:cells")


def test_commands_take_the_shipped_images_and_their_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "otsu", "embedded:nuclei/test", "--out", "found"]) == 0
    assert (
        main(
            [
                "evaluate",
                "alpha",
                "otsu",
                "--data",
                "embedded:nuclei/test.json",
                "--out",
                "scores.json",
            ]
        )
        == 0
    )
    scores = json.loads((tmp_path / "scores.json").read_text())["predictions"]["otsu"]["all"]
    assert scores["images"] == 10 and scores["labels"] == 207
    assert scores["TP/(TP+FP+FN) at IoU 0.5"] > 0.5, (
        "nuclei on a dark ground: a threshold finds most of them"
    )
    assert (
        main(
            [
                "visualize",
                "found/instances.json",
                "--images",
                "embedded:nuclei/test",
                "--out",
                "grid.png",
            ]
        )
        == 0
    )
    assert main(["scan", "embedded:nuclei/test.json"]) == 0
    assert "207 masks in 10 images" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", "alpha", "otsu", "--data", "embedded:nuclei/nothing.json"])
    assert "does not exist; genseg ships embedded:nuclei/test" in capsys.readouterr().err
