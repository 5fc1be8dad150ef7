"""The lines of docs/guides/targets.md work as they stand there."""

import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from genseg.cli import main
from genseg.methods.targets import TARGETS

GUIDE = (Path(__file__).parents[3] / "docs/guides/targets.md").read_text()
SMALL = [
    *("steps=1", "batch_size=4", "threads=1", "data.workers=0", "data.cache=0", "precision=no"),
    *("views.first.size=32", "views.second.size=32", "probe.every=0 steps", "method.hidden=16"),
    "method.dim=4",
]


def test_its_commands_and_its_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder in ("FOLDER", "TRAIN", "TEST"):
        for name in ("red", "blue", "tshirt"):
            (tmp_path / folder / name).mkdir(parents=True)
            for i in range(2):
                pixels = rng.integers(0, 255, (36, 34, 3), dtype=np.uint8)
                cv2.imwrite(str(tmp_path / folder / name / f"{i}.png"), pixels)
    (tmp_path / "WORDS").write_text("red 1 0\nblue 0 1\nshort 1 2\nshirt 1 1\nsky 1 -1\n")
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE, re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == 6 and all(line.startswith("genseg ") for line in lines)
    for line in lines:
        words = shlex.split(line)[1:]
        assert main([*words, *(SMALL if words[0] == "pretrain" else [])]) == 0, line
    (python,) = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
    capsys.readouterr()
    exec(compile(python, "targets.md", "exec"), {})
    assert "never saw: blue" in capsys.readouterr().out


def test_its_table_has_all_targets() -> None:
    table = GUIDE.split("| `method.target.name` |")[1].split("\n\n")[0]
    assert set(re.findall(r"(?m)^\| `(\w+)`", table)) == set(TARGETS)
