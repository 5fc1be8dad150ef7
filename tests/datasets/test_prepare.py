"""Every prepare script: it teaches, refuses what it cannot read, and a rerun is safe."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from archives import encoded, noise, nothing_left, unpacked, zipped

SCRIPTS = Path(__file__).parents[2] / "datasets"
NAMES = ("prepare_cifar10", "prepare_clothing", "prepare_dsb2018")


@pytest.mark.parametrize("name", NAMES)
def test_help_teaches_from_any_folder(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(SCRIPTS / f"{name}.py"), "--help"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    for word in (
        "examples",
        f"python datasets/{name}.py",
        "genseg pretrain",
        "again does nothing",
        "https://",
    ):
        assert word in answer.stdout


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_source_is_two_and_one_line(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / f"{name}.py"), "nowhere.zip", "--out", "out"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 2
    assert answer.stderr == (
        f"{name}.py: error: nowhere.zip does not exist: give the archive or the folder that you "
        "have\n"
    )
    nothing_left(tmp_path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"readme.txt": b"text"}, "has no"),
        ({"../train/cat/a.png": b"x"}, "leads outside"),
        ({"/train/cat/a.png": b"x"}, "leads outside"),
        (None, "neither a folder nor a zip archive"),
    ],
)
def test_a_wrong_archive_is_refused(
    name: str,
    files: dict[str, bytes] | None,
    message: str,
    tmp_path: Path,
    scripts: dict[str, ModuleType],
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = tmp_path / "set.zip"
    if files is None:
        source.write_bytes(b"this is no archive")
    else:
        zipped(source, files)
    assert scripts[name].main([str(source), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    nothing_left(tmp_path, "set.zip")


def test_a_damaged_member_leaves_no_half_made_folder(
    tmp_path: Path, scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    files = {f"train/cat/{i}.png": encoded(noise(8, 8, 3, seed=i)) for i in range(4)}
    source = zipped(tmp_path / "set.zip", files)
    data = bytearray(source.read_bytes())
    # stored uncompressed: its checksum no longer holds
    at = data.index(files["train/cat/2.png"]) + 60
    data[at] ^= 0xFF
    source.write_bytes(data)
    assert scripts["prepare_clothing"].main([str(source), "--out", str(tmp_path / "out")]) == 2
    assert "train/cat/2.png" in capsys.readouterr().err
    nothing_left(tmp_path, "set.zip")


def test_a_rerun_does_nothing_and_never_overwrites(
    tmp_path: Path, scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    run = scripts["prepare_clothing"].main
    source = unpacked(tmp_path / "set", {"train/hat/a.png": encoded(noise(8, 8, 3))})
    out = tmp_path / "out"
    out.mkdir()  # an empty folder is no obstacle
    assert run([str(source), "--out", str(out)]) == 0
    before = {f: f.stat().st_mtime_ns for f in out.rglob("*")}
    assert run([str(source), "--out", str(out)]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run([str(source), "--out", str(out), "--short-side", "4"]) == 2
    assert "how differ" in capsys.readouterr().err
    unpacked(source, {"train/hat/b.png": encoded(noise(8, 8, 3))})
    assert run([str(source), "--out", str(out)]) == 2
    assert "source differ" in capsys.readouterr().err
    assert {f: f.stat().st_mtime_ns for f in out.rglob("*")} == before

    precious = unpacked(tmp_path / "mine", {"notes.txt": b"mine"})
    assert run([str(source), "--out", str(precious)]) == 2
    assert "was not made by this script" in capsys.readouterr().err
    assert (precious / "notes.txt").read_bytes() == b"mine"


def test_an_unwritable_place_is_two(
    tmp_path: Path, scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    source = unpacked(tmp_path / "set", {"train/hat/a.png": encoded(noise(8, 8, 3))})
    (tmp_path / "file").write_bytes(b"")
    assert (
        scripts["prepare_clothing"].main([str(source), "--out", str(tmp_path / "file" / "out")])
        == 2
    )
    assert "file" in capsys.readouterr().err
