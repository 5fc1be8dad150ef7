"""A run directory is held by one process where the system has locks; its texts are whole, whoever writes them."""

import errno
import os
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from genseg.train import run
from genseg.train.run import RunError, lock, write_text


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
    with lock(tmp_path / "new"), pytest.raises(RunError, match="new: another process is at work in it; wait for it"):
        lock(tmp_path / "new")
    lock(tmp_path / "new").close()


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


def test_a_system_without_locks_is_used_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "fcntl", None)  # importing it raises, as on Windows
    there = runpy.run_path(str(run.__file__))
    with there["lock"](tmp_path) as one, there["lock"](tmp_path) as two:
        assert not one.closed and not two.closed
