"""Two processes, started in the ways that the README shows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from genseg.train.log import read_metrics

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
LAUNCHERS = {
    "torchrun": ([str(BIN / "torchrun"), "--nproc_per_node", "2", "--master_port", "29611"], {}),
    "accelerate": (
        [str(BIN / "accelerate"), "launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "29612"],
        {"ACCELERATE_USE_CPU": "true"},
    ),
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_train_one_run(launcher: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(10):
        cv2.imwrite(str(tmp_path / f"{i}.png"), rng.integers(0, 255, (40, 40, 3), dtype=np.uint8))
    words, more = LAUNCHERS[launcher]
    arguments = [
        str(ROOT / "tools/pretrain.py"), "--config", str(ROOT / "configs/pretrain/moco.yaml"), f"data.path={tmp_path}",
        f"run={tmp_path / 'run'}", "steps=2", "batch_size=8", "views.both.size=32", "method.queue=16",
        "method.splits=2", "data.workers=0", "log_every=1 steps", "data.cache=0",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    done = subprocess.run([*words, *arguments], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("moco, 16 images seen") == 1
    assert json.loads((tmp_path / "run" / "env.json").read_text())["processes"] == 2
    assert [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [1, 2]


def test_the_tool_is_the_command() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "tools/pretrain.py"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "Pretrain an encoder on a folder of unlabelled images" in done.stdout
