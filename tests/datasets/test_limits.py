"""Archives that unpack to more than they should."""

import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from archives import encoded, noise, nothing_left, tarred, zipped

IMAGE = encoded(noise(20, 20, 3))
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FILES = {
    "prepare_clothing": {
        f"{s}/dress/{n}.png": IMAGE for s in ("train", "test", "validation") for n in range(2)
    },
    "prepare_cifar10": {
        f"{s}/{c}/0.png": encoded(noise(32, 32, 3)) for s in ("train", "test") for c in CLASSES
    },
    "prepare_dsb2018": {
        **{f"stage1_train/{n}/images/{n}.png": IMAGE for n in "ab"},
        **{f"stage1_train/{n}/masks/{n}.png": encoded(noise(20, 20)) for n in "ab"},
    },
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_unpacks_without_end_is_refused(
    name: str,
    scripts: dict[str, ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sources = sys.modules["sources"]
    monkeypatch.setattr(sources, "MOST_OF_A_FILE", 20_000)
    files = dict(FILES[name])
    first = next(iter(files))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file, data in files.items():
            archive.writestr(file, data + bytes(10_000_000) if file == first else data)
    assert (tmp_path / "a.zip").stat().st_size < 200_000
    assert scripts[name].main([str(tmp_path / "a.zip"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert (
        f"{first} in {tmp_path / 'a.zip'} unpacks to more than" in said
        and "give the folder" in said
    )
    nothing_left(tmp_path, "a.zip")


def test_many_files_that_unpack_to_too_much_are_refused(
    scripts: dict[str, ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.modules["sources"], "MOST_OF_ALL", 3 * len(IMAGE))
    zipped(tmp_path / "a.zip", FILES["prepare_clothing"])
    script = scripts["prepare_clothing"]
    assert script.main([str(tmp_path / "a.zip"), "--out", str(tmp_path / "out")]) == 2
    assert "a.zip unpacks to more than" in capsys.readouterr().err
    nothing_left(tmp_path, "a.zip")


def test_a_tar_has_the_limit_too(
    scripts: dict[str, ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.modules["sources"], "MOST_OF_A_FILE", 20_000)
    batches = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    tarred(
        tmp_path / "a.tar.gz",
        {f"cifar-10-batches-bin/{name}.bin": bytes(10_000_000) for name in batches},
    )
    assert (
        scripts["prepare_cifar10"].main(
            [str(tmp_path / "a.tar.gz"), "--out", str(tmp_path / "out")]
        )
        == 2
    )
    assert "data_batch_1.bin in" in capsys.readouterr().err
