"""A run directory is held by one process where the system has locks; its texts are whole, whoever
writes them."""

import errno
import os
import runpy
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from genseg.core.files import write_text
from genseg.runs import checkpoint
from genseg.runs import folder as run
from genseg.runs.folder import CONTENT, RunError, clear, lock, refuse_foreign


def test_a_file_name_that_is_no_text_is_written_all_the_same(tmp_path: Path) -> None:
    write_text(tmp_path / "broken.txt", os.fsdecode(b"M\xfcller.jpg") + "\tMüller\n")
    assert (tmp_path / "broken.txt").read_bytes() == b"M\\udcfcller.jpg\tM\xc3\xbcller\n"


def test_of_several_writers_one_stays_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    texts = [str(n) * 100_000 for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_text(file, text), texts * 4))
    assert file.read_text() in texts and [f.name for f in tmp_path.iterdir()] == [file.name]


def test_one_at_a_time(tmp_path: Path) -> None:
    with (
        lock(tmp_path / "new"),
        pytest.raises(RunError, match="new: another process is at work in it; wait for it"),
    ):
        lock(tmp_path / "new")
    lock(tmp_path / "new").close()


# of forks beside threads, from Python 3.12
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_killed_process_leaves_its_loaders_no_lock(tmp_path: Path) -> None:
    """They find out after seconds, and the same command goes on at once."""
    begun, told = os.pipe()
    with lock(tmp_path):
        child = os.fork()
        if not child:
            os.write(told, b"!")
            time.sleep(60)
            os._exit(0)
        os.read(begun, 1)
    try:  # closing alone lets nothing go that a child has open, too
        lock(tmp_path).close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_used_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """As Lustre and NFS may be mounted."""

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    with lock(tmp_path) as one, lock(tmp_path) as two:
        assert not one.closed and not two.closed


def test_a_system_without_locks_is_used_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "fcntl", None)  # importing it raises, as on Windows
    there = runpy.run_path(str(run.__file__))
    with there["lock"](tmp_path) as one, there["lock"](tmp_path) as two:
        assert not one.closed and not two.closed


@pytest.mark.parametrize("name", CONTENT)
def test_each_file_of_a_run_s_names_that_is_not_genseg_s_is_refused(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match=f"holds {name}, and no env.json of genseg's"):
        refuse_foreign(tmp_path)
    with pytest.raises(RunError):
        clear(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_a_run_is_known_as_genseg_s_until_all_of_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what a kill leaves of it could neither be gone on with nor cleared."""
    for name in CONTENT:
        (tmp_path / name).write_text("{}")
    (tmp_path / "env.json").write_text('{"packages": {"genseg": "0"}}')
    unlink, left = Path.unlink, list[set[str]]()

    def watched(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        left.append({f.name for f in tmp_path.iterdir()})

    monkeypatch.setattr(Path, "unlink", watched)
    clear(tmp_path)
    assert all("env.json" in names or not names for names in left) and left[-1] == set()


def test_another_tool_s_checkpoints_are_no_proof_of_a_run(tmp_path: Path) -> None:
    """DeepSpeed writes a file `latest`, too."""
    kept = tmp_path / "checkpoints/global_step100/states.pt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    (tmp_path / "checkpoints/latest").write_text("global_step100")
    (tmp_path / "config.yaml").write_text("user: me")
    for act in (clear, refuse_foreign):
        with pytest.raises(
            RunError, match="holds checkpoints, config.yaml, and no env.json of genseg's"
        ):
            act(tmp_path)
    (tmp_path / "env.json").write_text('{"packages": {"genseg": "0"}}')
    with pytest.raises(RunError, match="checkpoints/ holds global_step100, not written by genseg"):
        clear(tmp_path)
    assert kept.read_text() == "mine" and (tmp_path / "config.yaml").read_text() == "user: me"


def test_what_a_kill_leaves_of_a_checkpoint_is_a_run_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else --fresh refuses a run that was killed while it saved."""
    # as if killed before it
    monkeypatch.setattr(checkpoint, "_remove_unfinished", lambda root: None)
    checkpoint.save(tmp_path, 1, {"a": torch.zeros(2)}, {"step": 1}, keep=1)
    checkpoint.save(tmp_path, 2, {"a": torch.zeros(2)}, {"step": 2}, keep=1)  # puts step 1 aside
    pointer = tmp_path / "checkpoints/latest"
    checkpoint._aside(pointer).write_text("step_00000002")
    assert len([f for f in pointer.parent.iterdir() if checkpoint._UNFINISHED in f.name]) == 2
    clear(tmp_path)
    assert not pointer.parent.exists()


@pytest.mark.parametrize("name", ["latest_universal", "notes.tmp", "step_1", "step_00000001.zip"])
def test_a_name_like_ours_in_checkpoints_is_not_removed(name: str, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, {"a": torch.zeros(2)}, {"step": 1}, keep=1)
    (tmp_path / "checkpoints" / name).write_text("mine")
    with pytest.raises(RunError, match=f"checkpoints/ holds {name}, not written by genseg"):
        clear(tmp_path)
    assert (tmp_path / "checkpoints" / name).read_text() == "mine"


def test_a_linked_folder_is_told_and_what_it_names_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch/step_00000001").mkdir()
    run = tmp_path / "run"
    run.mkdir()
    (run / "env.json").write_text('{"packages": {"genseg": "0"}}')
    (run / "checkpoints").symlink_to(tmp_path / "scratch")
    with pytest.raises(
        RunError, match="checkpoints -> .*scratch is a link, and --fresh removes nothing outside"
    ):
        clear(run)
    assert (tmp_path / "scratch/step_00000001").is_dir() and (run / "env.json").exists()


def test_what_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "env.json").write_text('{"packages": {"genseg": "0"}}')
    (tmp_path / "banks").mkdir()

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("shutil.rmtree", refused)
    with pytest.raises(RunError, match=r"--fresh cannot remove banks \(Permission denied\)"):
        clear(tmp_path)


def test_a_lock_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").symlink_to(tmp_path / "mine")
    with pytest.raises(RunError, match=".lock is a link; remove it"):
        lock(tmp_path / "run")
    assert (tmp_path / "mine").read_text() == "mine"
