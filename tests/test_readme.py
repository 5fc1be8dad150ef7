"""The README's lines run as they stand there."""

import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from genseg.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TINY = ["batch_size=4", "data.cache=0", "data.workers=0"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def commands(start: str) -> list[str]:
    return [line for block in blocks("bash") for line in block.splitlines() if line.startswith(start)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with FOLDER/ full of images and the repository's configs/."""
    place = tmp_path_factory.mktemp("readme")
    (place / "configs").symlink_to(ROOT / "configs")
    (place / "FOLDER").mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        cv2.imwrite(str(place / "FOLDER" / f"{i}.jpg"), rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    return place


def test_the_commands_and_the_lines_that_load_the_encoder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    found = commands(".venv/bin/genseg ")
    assert len(found) == 6
    for line in found:
        words = shlex.split(line)[1:]
        trains = words[0] == "pretrain" and "--keys" not in words
        splits = ["method.splits=2"] if any("moco" in w for w in words) else []
        words = ["epochs=1" if w == "epochs=50" else w for w in words]
        assert main([*words, *TINY * trains, *splits]) == 0, line
    (python,) = blocks("python")
    exec(compile(python, "README.md", "exec"), {})


def test_the_launch_commands_name_files_and_keys_that_exist() -> None:
    """That two processes train is tested in tools/test_launch.py; here, that the README says the same words."""
    found = [c for start in ("accelerate", "torchrun", "ACCELERATE_USE_CPU=true accelerate") for c in commands(start)]
    assert len(found) == 3
    for line in found:
        for name in re.findall(r"(?:tools|configs)/\S+", line):
            assert (ROOT / name).is_file(), name
    assert "torchrun --nproc_per_node 2 tools/pretrain.py" in README
    assert "ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 tools/pretrain.py" in README


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
