"""The run directory: `config.yaml env.json metrics.jsonl broken.txt checkpoints/
encoder.safetensors timm/`."""

import errno
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
import weakref
from pathlib import Path
from typing import Any, TextIO

import torch

from genseg.core.files import write_text
from genseg.core.names import (
    BANKS,
    BROKEN_NAME,
    CHECKPOINTS,
    CONFIG_NAME,
    ENVIRONMENT_NAME,
    METRICS_NAME,
    PREDICTED,
    PREFLIGHT_NAME,
    REPORT_NAME,
    SCORES_NAME,
    SNAPSHOTS,
    TENSORBOARD,
    TIMM,
    WEIGHTS,
)

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl

CONTENT = (
    *(CONFIG_NAME, METRICS_NAME, BROKEN_NAME, PREFLIGHT_NAME, SCORES_NAME, REPORT_NAME),
    *WEIGHTS,
    ENVIRONMENT_NAME,  # removed last: by it the others are known as genseg's
)
STEP = re.compile(r"step_\d{8,}")  # the folder of a checkpoint
# names in checkpoints/; with an ending, what a kill leaves of writing them
OURS = re.compile(r"(step_\d{8,}|latest)(\.tmp-[0-9a-f]{8})?")
FOLDERS = (CHECKPOINTS, BANKS, SNAPSHOTS, PREDICTED, TIMM, TENSORBOARD)
PACKAGES = (
    "genseg",
    "torch",
    "torchvision",
    "segmentation-models-pytorch",
    "albumentations",
    "kornia",
    "accelerate",
)


_held = weakref.WeakSet[TextIO]()


def _let_go() -> None:
    """In a process that this one has forked, such as a loader's: it may live on for seconds when
    this one is killed."""
    for file in _held:
        file.close()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_let_go)


class RunError(ValueError):
    """A run directory that cannot be used as asked."""


def lock(run: Path, name: str = ".lock") -> TextIO:
    """Hold `run`, or what `name` stands for in it, for this process until the returned file is
    closed.

    Where there are no locks (Windows, some network drives) nothing holds it, and that two processes
    do not work in it is for the user to see to. Raises RunError when another process holds it, and
    when it cannot be written to.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        # never through a link, which a run directory from elsewhere may hold, and without emptying
        # anything
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        file = os.fdopen(os.open(run / name, flags, 0o666), "r+")
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RunError(
                f"{run / name} is a link; remove it: genseg writes its lock there"
            ) from None
        raise RunError(
            f"{run}: cannot write there ({error.strerror}); choose another folder"
        ) from None
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise RunError(
                f"{run}: another process is at work in it; wait for it or choose another folder"
            ) from None
        except OSError:
            pass
    _held.add(file)
    return file


def refuse_foreign(run: Path) -> None:
    """Raise RunError when what a run would overwrite or remove was there before genseg ran in
    `run`."""
    found = [name for name in FOLDERS if (run / name).is_dir() and any((run / name).iterdir())]
    found += [name for name in CONTENT if (run / name).exists()]
    if not found or _has_checkpoint(run):
        return
    try:
        ours = "genseg" in json.loads((run / ENVIRONMENT_NAME).read_bytes())["packages"]
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise RunError(
            f"run={run} holds {', '.join(found)}, and no env.json of genseg's: a run would "
            "overwrite what may be yours. Choose another run= folder, or remove them yourself"
        )


def _has_checkpoint(run: Path) -> bool:
    """Whether `checkpoints/latest` is ours: other tools have a file of that name, too, as DeepSpeed
    does."""
    folder = run / CHECKPOINTS
    try:
        name = (folder / "latest").read_text("utf-8").strip()
        return bool(STEP.fullmatch(name)) and "sha256" in json.loads(
            (folder / name / "state.json").read_bytes()
        )
    except (OSError, ValueError, TypeError):
        return False


def clear(run: Path) -> None:
    """Remove what a run has left in its directory, and nothing else.

    Raises RunError where that is not a run's, and when something cannot be removed: a new run must
    not find old weights.
    """
    refuse_foreign(run)
    linked = [name for name in FOLDERS if (run / name).is_symlink()]
    if linked:
        where = ", ".join(f"{name} -> {os.readlink(run / name)}" for name in linked)
        raise RunError(
            f"run={run}: {where} is a link, and --fresh removes nothing outside of a run "
            "directory; empty the folder that it names, or remove the link, and give the command "
            "again"
        )
    kept = run / CHECKPOINTS
    if foreign := [
        f.name for f in (kept.iterdir() if kept.is_dir() else ()) if not OURS.fullmatch(f.name)
    ]:
        raise RunError(
            f"run={run}: checkpoints/ holds {', '.join(sorted(foreign))}, not written by genseg; "
            "move that elsewhere, or choose another run="
        )
    left = list[str]()
    for name in FOLDERS:  # checkpoints first: without them the rest is a new run
        left += _removed(run / name, name)
    for name in CONTENT:
        try:
            (run / name).unlink(missing_ok=True)
        except OSError as error:
            left.append(f"{name} ({error.strerror})")
    if left:
        raise RunError(
            f"run={run}: --fresh cannot remove {', '.join(left)}; remove it yourself, or choose "
            "another run="
        )


def _removed(folder: Path, name: str) -> list[str]:
    """Remove a folder of a run. Returns what could not be removed."""
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        return [f"{name} ({error.strerror})"]
    return []


def check_out(file: Path) -> None:
    """Before long work: make the folder of the file that is written at its end. Raises ValueError
    when the file is a folder."""
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
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or "cpu",
        **facts,
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    write_text(run / ENVIRONMENT_NAME, json.dumps(known, indent=2) + "\n")
