"""Checkpoints when the process is killed, the disk full or the folder closed: the last good one
stays."""

import errno
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from numbered import content, found, names, put

from genseg.runs import checkpoint
from genseg.runs.checkpoint import CheckpointError, save

ROOT = Path(__file__).parents[2]


WRITES = (
    (Path, "mkdir"),
    (checkpoint, "save_file"),
    (Path, "write_text"),
    (os, "fsync"),
    (os, "rename"),
    (os, "replace"),
)
REMOVALS = ((os, "unlink"), (os, "rmdir"))


def interrupt(patch: pytest.MonkeyPatch, at: int, act: Callable[[], None], calls: Any) -> list[str]:
    """Call `act` before the `at`-th of the calls that change the disk; the list returned fills with
    them."""
    made: list[str] = []

    def spied(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            made.append(name)
            if len(made) == at + 1:
                act()
            return original(*args, **kwargs)

        return call

    for owner, name in calls:
        patch.setattr(owner, name, spied(name, getattr(owner, name)))
    return made


def killed(at: int, folder: Path) -> bool:
    """Save step 15 in a process that dies before its `at`-th change of the disk; False when it has
    fewer."""
    child = os.fork()
    if child == 0:
        with pytest.MonkeyPatch.context() as patch:
            interrupt(patch, at, lambda: os._exit(9), WRITES + REMOVALS)
            put(folder, 15)
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_all_of_it_is_on_the_disk_before_a_name_points_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    renamed: list[str] = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def spied_fsync(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        fsync(handle)

    def spied_rename(source: Path, target: Path) -> None:
        assert {path.stat().st_ino for path in (tmp_path, source, *source.iterdir())} <= set(synced)
        synced.clear()
        renamed.append(target.name)
        rename(source, target)

    def spied_replace(source: Path, target: Path) -> None:
        assert {source.stat().st_ino, source.parent.stat().st_ino} <= set(synced), (
            "the folder's new name comes first"
        )
        synced.clear()
        renamed.append(target.name)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spied_fsync)
    monkeypatch.setattr(os, "rename", spied_rename)
    monkeypatch.setattr(os, "replace", spied_replace)
    put(tmp_path, 5)
    assert renamed == ["step_00000005", "latest"]
    assert synced == [(tmp_path / "checkpoints").stat().st_ino]


@pytest.mark.parametrize("before", [(), (3, 5, 10)])
def test_a_kill_between_any_two_changes_of_the_disk(
    tmp_path: Path, before: tuple[int, ...]
) -> None:
    seen = []
    for step in before:
        put(tmp_path / "before", step)
    for at in range(100):
        folder = tmp_path / str(at)
        if before:
            shutil.copytree(tmp_path / "before", folder)
        dead = killed(at, folder)
        seen.append(found(folder))
        for path in (folder / "checkpoints").glob("step_????????"):
            assert len(list(path.iterdir())) == 2, "no half checkpoint has a name"
        put(folder, 20)
        assert found(folder) == 20 and len(names(folder)) <= 3
        assert not [name for name in names(folder) if ".tmp-" in name]
        if not dead:
            break
    assert len(seen) > 12 and seen[-1] == 15
    assert set(seen) == {before[-1] if before else None, 15}


def test_sigkill_at_random_moments(tmp_path: Path) -> None:
    draw = random.Random(0)
    last = 0
    for _ in range(8):
        child = os.fork()
        if child == 0:
            for step in range(last + 1, 100_000):
                put(tmp_path, step)
            os._exit(1)
        time.sleep(draw.uniform(0.02, 0.2))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        step = found(tmp_path) or 0
        assert step >= last
        last = step
    assert last > 0


def test_a_full_disk_at_any_moment(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for step in (3, 5, 10):
        put(tmp_path / "before", step)
    for at in range(100):
        folder = tmp_path / str(at)
        shutil.copytree(tmp_path / "before", folder)
        try:
            with pytest.MonkeyPatch.context() as patch:
                made = interrupt(patch, at, fail, WRITES)
                put(folder, 15)
            break
        except CheckpointError as error:
            good = found(folder)
            assert f"step_{good:08d} is untouched" in str(error) and "make room there" in str(error)
            assert not [name for name in names(folder) if ".tmp-" in name]
            assert good == (15 if made[: at + 1].count("replace") and made[at] != "replace" else 10)
    assert at > 10 and found(folder) == 15


def test_a_failure_while_a_step_is_replaced_brings_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, 5)
    rename = os.rename

    def spied_rename(source: Path, target: Path) -> None:
        if ".tmp-" in source.name and (source / "state.json").read_text().endswith('{"step": 6}}'):
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", spied_rename)
    with pytest.raises(CheckpointError, match="Input/output error"):
        save(tmp_path, 5, content(6), {"step": 6}, keep=1)
    assert found(tmp_path) == 5 and names(tmp_path) == ["latest", "step_00000005"]


def test_unfinished_work_makes_room_before_the_next_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, 5)
    dead = tmp_path / "checkpoints" / "step_00000010.tmp-1234"
    dead.mkdir()
    (dead / "tensors.safetensors").write_bytes(bytes(1000))
    assert found(tmp_path) == 5 and dead.exists(), (
        "it may be another process's: reading removes nothing"
    )
    save_file = checkpoint.save_file

    def spied(*args: Any) -> None:
        assert not dead.exists()
        save_file(*args)

    monkeypatch.setattr(checkpoint, "save_file", spied)
    put(tmp_path, 10)


def test_a_file_that_may_not_grow_is_really_cut_off_by_the_kernel(tmp_path: Path) -> None:
    put(tmp_path, 5)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(
            CheckpointError,
            match="File too large; it takes 4.0 MB: make room.*step_00000005 is untou",
        ):
            save(tmp_path, 10, {"weight": torch.zeros(1_000_000)}, {}, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found(tmp_path) == 5 and names(tmp_path) == ["latest", "step_00000005"]


FILL = """
import sys
from pathlib import Path
import torch
from genseg.runs.checkpoint import CheckpointError, load_latest, save
folder = Path(sys.argv[1])
save(folder, 5, {"weight": torch.ones(1000)}, {"step": 5}, keep=2)
for size in (1_000_000, 240_000):  # the tensors do not fit; they do, and state.json does not
    try:
        save(folder, 10, {"weight": torch.ones(size)}, {"log": "x" * 200_000}, keep=2)
    except CheckpointError as error:
        print(error)
print(sorted(path.name for path in (folder / "checkpoints").iterdir()), load_latest(folder)[1])
"""


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    mount = (
        f'mount -t tmpfs -o size=1m tmpfs "{tmp_path}" && exec "{sys.executable}" -c "$0" '
        f'"{tmp_path}"'
    )
    # seen by nobody else, and gone when it ends
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*own, "true"], capture_output=True).returncode
    ):
        pytest.skip("this machine allows no mount of one's own")
    done = subprocess.run([*own, "sh", "-c", mount, FILL], cwd=ROOT, capture_output=True, text=True)
    if "mount:" in done.stderr:
        pytest.skip(done.stderr)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    for line in lines[:2]:
        assert re.search(
            "step_00000010 cannot be written: No space left .*step_00000005 is untouched", line
        )
    assert lines[2] == "['latest', 'step_00000005'] {'step': 5}"


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        CheckpointError,
        match="file/checkpoints/step_00000005 cannot be written.*there is no earlier one",
    ):
        put(tmp_path / "file", 5)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    put(tmp_path, 5)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(
        CheckpointError,
        match="Permission denied; make the folder writable.*step_00000005 is untouched",
    ):
        put(tmp_path, 10)
    assert found(tmp_path) == 5


def test_a_failure_of_another_kind_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, 5)
    with pytest.raises(TypeError, match="JSON"):
        save(tmp_path, 10, {}, {"set": {1}}, keep=1)

    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        put(tmp_path, 10)
    assert names(tmp_path) == ["latest", "step_00000005"]
