"""Two processes, started in the ways that the README shows."""

import json
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from processes import forked
from small import ENCODER

from genseg.alpha.decoder import AlphaDecoder, DecoderConfig
from genseg.alpha.kept import GenerateConfig
from genseg.alpha.model import AlphaModel, Look, save_alpha
from genseg.core.names import ALPHA_NAME, INSTANCES_NAME
from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.runs.metrics import read_metrics
from genseg.workflows.generate.generate import GenerateOptions, generate_folder

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
LAUNCHERS = {
    "torchrun": ([str(BIN / "torchrun"), "--nproc_per_node", "2", "--master_port", "29611"], {}),
    "accelerate": (
        [
            str(BIN / "accelerate"),
            "launch",
            "--multi_gpu",
            "--num_processes",
            "2",
            "--main_process_port",
            "29612",
        ],
        {"ACCELERATE_USE_CPU": "true"},
    ),
}


RECIPES = {
    "torchrun": (
        "moco",
        [
            "batch_size=8",
            f"encoder.name={ENCODER}",
            "views.both.size=32",
            "method.queue=16",
            "method.splits=2",
            "data.cache=0",
        ],
    ),
    "accelerate": (
        "alpha",
        [
            "batch_size=4",
            f"encoder.name={ENCODER}",
            "alpha.compose.size=64",
            "alpha.side=64",
            "alpha.decoder.channels=[16,16,8,8]",
        ],
    ),
}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for i in range(10):
        cv2.imwrite(str(folder / f"{i}.png"), rng.integers(0, 255, (40, 40, 3), dtype=np.uint8))
    return folder


def launch(launcher: str, *arguments: str) -> str:
    """What two processes say."""
    words, more = LAUNCHERS[launcher]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    done = subprocess.run(
        [*words, *arguments], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _tool(rank: int, file: str, port: int, words: list[str]) -> None:
    """A tool as torchrun starts it: with the same variables."""
    of_all = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2", **of_all}
    torch.set_num_threads(1)
    with open(file, "a") as said:
        os.dup2(said.fileno(), 1)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")


def both(tmp_path: Path, *words: str) -> str:
    """What two processes of a tool say, without a launcher, which takes seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    forked(_tool, str(tmp_path / "said.txt"), port, list(words), count=2)
    return (tmp_path / "said.txt").read_text()


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_train_one_run(launcher: str, images: Path, tmp_path: Path) -> None:
    """A method, and the alpha task alone."""
    recipe, more = RECIPES[launcher]
    said = launch(
        launcher,
        str(ROOT / "tools/pretrain.py"),
        "--config",
        str(ROOT / f"configs/pretrain/{recipe}.yaml"),
        f"data.path={images}",
        f"run={tmp_path / 'run'}",
        "steps=2",
        "data.workers=0",
        "log_every=1 steps",
        *more,
    )
    assert said.count(f"{recipe}, {2 * int(more[0].split('=')[1])} images seen") == 1
    assert json.loads((tmp_path / "run" / "env.json").read_text())["processes"] == 2
    assert [
        row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in row
    ] == [1, 2]
    assert (tmp_path / "run" / ALPHA_NAME).exists() == (recipe == "alpha")


def test_one_of_two_processes_tells_of_a_dry_run(images: Path, tmp_path: Path) -> None:
    # with the alpha task: one process makes the proposals of both
    recipe, more = RECIPES["accelerate"]
    said = both(
        tmp_path,
        str(ROOT / "tools/pretrain.py"),
        "--config",
        str(ROOT / f"configs/pretrain/{recipe}.yaml"),
        f"data.path={images}",
        f"run={tmp_path / 'run'}",
        "steps=2",
        "data.workers=0",
        "--dry-run",
        *more,
    )
    assert said.count("10 images in") == said.count("memory ") == 1


def test_two_processes_generate_the_bytes_of_one(images: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig())[0]
    decoder = AlphaDecoder(encoder, DecoderConfig(channels=(16, 16, 8, 8), tower=8))
    look = Look((0.5, 0.5, 0.5), (0.2, 0.2, 0.2), side=0, stretch=True)
    model = AlphaModel(encoder, decoder, look, GenerateConfig(candidate=0, score=0))
    save_alpha(model, tmp_path / ALPHA_NAME, EncoderConfig())
    (images / "broken.png").write_bytes(b"no image")
    tool, run = str(ROOT / "tools/generate.py"), str(tmp_path / ALPHA_NAME)
    said = both(tmp_path, tool, run, str(images), "--out", str(tmp_path / "two"))
    assert said.count("instances in 10 images; 1 image cannot be read") == 1
    assert len(list((tmp_path / "two" / "parts").iterdir())) == 2
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each of the two has
    try:
        generate_folder(Path(run), str(images), tmp_path / "one", GenerateOptions())
    finally:
        torch.set_num_threads(threads)
    for name in (INSTANCES_NAME, "broken.txt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert json.loads((tmp_path / "one" / INSTANCES_NAME).read_text())["annotations"]


def test_the_tool_is_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pretrain.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(ROOT / "tools/pretrain.py"), run_name="__main__")
    assert "Pretrain an encoder on a folder of unlabelled images" in capsys.readouterr().out
