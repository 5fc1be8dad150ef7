"""Files that are written whole or not at all."""

import os
from pathlib import Path

import pytest

from genseg.core.files import remove_leftovers, replacing, write_text


def test_an_error_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("before")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert [f.name for f in tmp_path.iterdir()] == ["a.txt"] and (
        tmp_path / "a.txt"
    ).read_text() == "before"


def test_no_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "a.txt").symlink_to(tmp_path / "mine")
    (tmp_path / "a.txt.tmp").symlink_to(tmp_path / "mine")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "a.txt").read_text() == "new" and not (tmp_path / "a.txt").is_symlink()


def test_a_file_has_the_rights_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "a") as temporary:
            temporary.unlink()
            temporary.touch(0o600)  # as safetensors writes
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_leftovers_of_kills_are_removed_and_nothing_else(tmp_path: Path) -> None:
    ours = (".tmpAb12cD", "report.html.0a1b2c3d.tmp", "0.npz.ffffffff.tmp")
    other = ("notes.tmp", "a.12345.tmp", ".tmp", ".tmpfolder1", "encoder.safetensors")
    for name in (*ours, *other):
        (tmp_path / name).touch()
    (tmp_path / ".tmpabcdef").mkdir()
    remove_leftovers(tmp_path)
    assert {f.name for f in tmp_path.iterdir()} == {*other, ".tmpabcdef"}
    remove_leftovers(tmp_path / "nowhere")
