"""A command's processes end with it, however it ends, and its exit code says which signal ended
it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from coco_made import write_blobs
from noise import write_classes
from processes import CONTEXT
from small import ENCODER

from genseg.cli import main
from genseg.runs.checkpoint import load_latest
from genseg.runs.metrics import read_metrics

ROOT = Path(__file__).parents[2]


def started(arguments: list[str]) -> subprocess.Popen[str]:
    """A command as the first process of a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "genseg.cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def _commanded(arguments: list[str], said: str) -> None:
    """In a process of its own: a command as the first of a session."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in the background
    with open(said, "w") as file:
        os.dup2(file.fileno(), 2)
    sys.exit(main(arguments))


def of_session(number: int) -> list[psutil.Process]:
    """The processes of a session that are at work."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == number and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_compare_leaves_no_trainer_behind(number: signal.Signals, tmp_path: Path) -> None:
    for split, seed in (("train", 0), ("val", 1)):
        write_blobs(tmp_path / split, count=2, each=4, seed=seed)
    out = tmp_path / "out"
    command = [
        "compare",
        "--config",
        "unet",
        "--arms",
        "random",
        "--labels",
        "1,2",
        "--seeds",
        "1",
        "--jobs",
        "2",
        "--out",
        str(out),
        f"data.train={tmp_path}/train/labels.json",
        f"data.val={tmp_path}/val/labels.json",
        f"architecture={ENCODER}",
        "steps=20000",
        "batch_size=2",
        "augment.size=32",
        "threads=1",
        "data.workers=0",
        "log_every=1 steps",
    ]
    said = tmp_path / "said.txt"
    job = CONTEXT.Process(target=_commanded, args=(command, str(said)))
    job.start()
    assert job.pid is not None
    metrics = [out / f"cells/random/{n}-labels/seed-0/run/metrics.jsonl" for n in (1, 2)]
    limit = time.monotonic() + 240
    while not all(m.is_file() and m.stat().st_size for m in metrics) and time.monotonic() < limit:
        assert job.is_alive(), said.read_text()
        time.sleep(0.1)
    assert len(of_session(job.pid)) > 2
    os.kill(job.pid, number)
    job.join(120)
    assert job.exitcode == (-signal.SIGKILL if number == signal.SIGKILL else 128 + number)
    limit = time.monotonic() + 120
    while of_session(job.pid) and time.monotonic() < limit:  # multiprocessing's tracker ends last
        time.sleep(0.1)
    assert of_session(job.pid) == []
    assert "Traceback" not in said.read_text(), said.read_text()
    for m in metrics:
        saved = load_latest(m.parent)
        assert saved is not None and saved[1]["step"] > 0, "each cell goes on from where it was"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_training_is_saved_and_the_exit_code_is_that_of_the_signal(
    number: signal.Signals, tmp_path: Path
) -> None:
    """The whole group of processes gets the signal, as from a launcher or a batch system: workers
    must not take the run down."""
    (tmp_path / "photos").mkdir()
    write_classes(tmp_path / "photos", 6, ".png")
    run = tmp_path / "run"
    job = started(
        [
            "pretrain",
            "--config",
            "simclr",
            f"data.path={tmp_path / 'photos'}",
            f"run={run}",
            f"encoder.name={ENCODER}",
            "steps=20000",
            "batch_size=4",
            "data.workers=2",
            "data.cache=0",
            "views.both.size=32",
            "threads=1",
            "probe.every=0 steps",
            "log_every=1 steps",
        ]
    )
    limit = time.monotonic() + 240
    while (
        not ((run / "metrics.jsonl").is_file() and (run / "metrics.jsonl").stat().st_size)
        and job.poll() is None
    ):
        assert time.monotonic() < limit
        time.sleep(0.05)
    os.killpg(job.pid, number)
    said = job.communicate(timeout=120)[1]
    assert job.returncode == 128 + number, said
    assert "the same command goes on from there" in said and "Traceback" not in said
    saved = load_latest(run)
    assert saved is not None and saved[1]["step"] == read_metrics(run / "metrics.jsonl")[-1]["step"]
