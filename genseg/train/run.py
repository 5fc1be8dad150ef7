"""The run directory: `config.yaml env.json metrics.jsonl broken.txt checkpoints/ encoder.safetensors timm/`."""

import importlib.metadata
import json
import os
import platform
import secrets
import shutil
import sys
import weakref
from pathlib import Path
from typing import Any, TextIO

import torch

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl

BANKS = "banks"
SNAPSHOTS = "snapshots"
WEIGHTS = ("encoder.safetensors", "alpha.safetensors", "model.safetensors", "best.safetensors")
CONTENT = (
    *("config.yaml", "metrics.jsonl", "broken.txt", "preflight.txt", "scores.json", "report.html"),
    *WEIGHTS,
    "env.json",  # removed last: by it the others are known as genseg's
)
FOLDERS = ("checkpoints", BANKS, SNAPSHOTS, "timm", "tensorboard")
PACKAGES = ("genseg", "torch", "torchvision", "segmentation-models-pytorch", "albumentations", "kornia", "accelerate")


_held = weakref.WeakSet[TextIO]()


def _let_go() -> None:
    """In a process that this one has forked, such as a loader's: it may live on for seconds when this one is killed."""
    for file in _held:
        file.close()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_let_go)


class RunError(ValueError):
    """A run directory that cannot be used as asked."""


def lock(run: Path, name: str = ".lock") -> TextIO:
    """Hold `run`, or what `name` stands for in it, for this process until the returned file is closed.

    Where there are no locks (Windows, some network drives) nothing holds it, and that two processes do not work in it
    is for the user to see to. Raises RunError when another process holds it, and when it cannot be written to.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = (run / name).open("w")
    except OSError as error:
        raise RunError(f"{run}: cannot write there ({error.strerror}); choose another folder") from None
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise RunError(f"{run}: another process is at work in it; wait for it or choose another folder") from None
        except OSError:
            pass
    _held.add(file)
    return file


def refuse_foreign(run: Path) -> None:
    """Raise RunError when what a run would overwrite or remove was there before genseg ran in `run`."""
    found = [name for name in FOLDERS if (run / name).is_dir() and any((run / name).iterdir())]
    found += [name for name in CONTENT if (run / name).exists()]
    if not found or (run / "checkpoints" / "latest").is_file():
        return
    try:
        ours = "genseg" in json.loads((run / "env.json").read_bytes())["packages"]
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise RunError(
            f"run={run} holds {', '.join(found)}, and no env.json of genseg's: a run would overwrite what may be "
            "yours. Choose another run= folder, or remove them yourself"
        )


def clear(run: Path) -> None:
    """Remove what a run has left in its directory, and nothing else. Raises RunError where that is not a run's."""
    refuse_foreign(run)
    for name in FOLDERS:  # checkpoints first: without them the rest is a new run
        shutil.rmtree(run / name, ignore_errors=True)
    for name in CONTENT:
        (run / name).unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write all of a text or nothing, in UTF-8; what that lacks, as bytes of an odd file name, is written as \\udcNN.

    Several processes may write one file: the last one stays.
    """
    temporary = file.with_name(f"{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_text(text, "utf-8", errors="backslashreplace")
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def check_out(file: Path) -> None:
    """Before long work: make the folder of the file that is written at its end. Raises ValueError when the file is a
    folder."""
    if file.is_dir():
        raise ValueError(f"--out {file} is a folder; name a file in it")
    file.parent.mkdir(parents=True, exist_ok=True)


def write_environment(run: Path, *, device: torch.device, facts: dict[str, Any]) -> None:
    """env.json: what the run was made with."""
    known = {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        **facts,
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    write_text(run / "env.json", json.dumps(known, indent=2) + "\n")
