"""Class folders copied, linked or shrunk."""

import io
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from archives import contents, encoded, noise, unpacked, zipped
from PIL import Image


def clothing() -> dict[str, bytes]:
    return {
        "small-master/README.md": b"text",
        "small-master/cover.jpg": encoded(noise(10, 10, 3), "JPEG"),
        "small-master/train/hat/a.png": encoded(noise(30, 20, 3)),
        "small-master/train/t-shirt/b.jpg": encoded(noise(40, 60, 3), "JPEG"),
        "small-master/test/hat/c.png": encoded(noise(8, 9, 3)),
        "small-master/test/hat/broken.jpg": b"not a picture",
    }


def kept(files: dict[str, bytes]) -> dict[str, bytes]:
    return {
        name.removeprefix("small-master/"): data for name, data in files.items() if "/t" in name
    }


@pytest.mark.parametrize("make", [zipped, unpacked])
def test_clothing_is_copied(
    make, tmp_path: Path, scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    source = make(tmp_path / "set.zip", clothing())
    assert scripts["prepare_clothing"].main([str(source), "--out", str(tmp_path / "out")]) == 0
    assert contents(tmp_path / "out") == kept(clothing())
    said = capsys.readouterr().out
    assert "train 2 images, test 2 images in 2 classes" in said
    assert "1 images lie outside SPLIT/CLASS/" in said


def test_clothing_links_work_from_elsewhere(
    tmp_path: Path, scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked(tmp_path / "set", clothing())
    monkeypatch.chdir(tmp_path)
    assert scripts["prepare_clothing"].main(["set", "--link", "--out", "out"]) == 0
    os.chdir("/")
    assert contents(tmp_path / "out") == kept(clothing())
    assert all(f.is_symlink() for f in (tmp_path / "out").rglob("*.png"))


def test_clothing_links_into_an_archive_are_refused(
    tmp_path: Path, scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    source = zipped(tmp_path / "set.zip", clothing())
    assert (
        scripts["prepare_clothing"].main([str(source), "--link", "--out", str(tmp_path / "out")])
        == 2
    )
    assert "leave --link out" in capsys.readouterr().err


def test_clothing_is_shrunk_upright_and_never_enlarged(
    tmp_path: Path, scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    files = clothing()
    upright = np.zeros((40, 20, 3), np.uint8)
    upright[:20] = 200  # bright above
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise for display
    Image.fromarray(np.rot90(upright).copy()).save(turned, "JPEG", exif=exif, quality=95)
    files["small-master/train/hat/turned.jpg"] = turned.getvalue()
    source = unpacked(tmp_path / "set", files)
    command = [str(source), "--short-side", "10", "--out", str(tmp_path / "out")]
    assert scripts["prepare_clothing"].main(command) == 0
    made = contents(tmp_path / "out")
    sizes = {
        name: Image.open(io.BytesIO(data)).size
        for name, data in made.items()
        if "broken" not in name
    }
    assert sizes == {
        "train/hat/a.png": (10, 15),
        "train/t-shirt/b.jpg": (15, 10),
        "train/hat/turned.jpg": (10, 20),
        "test/hat/c.png": (9, 8),
    }
    assert made["test/hat/c.png"] == files["small-master/test/hat/c.png"]
    assert made["test/hat/broken.jpg"] == b"not a picture"
    assert "1 could not be decoded" in capsys.readouterr().out
    shown = Image.open(io.BytesIO(made["train/hat/turned.jpg"]))
    assert 0x0112 not in shown.getexif()
    assert np.asarray(shown)[:8].mean() > 180 > 20 > np.asarray(shown)[12:].mean()


def test_clothing_twice_in_one_source_is_refused(
    tmp_path: Path, scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    files = clothing() | {"old/train/hat/a.png": encoded(noise(8, 8, 3))}
    source = zipped(tmp_path / "set.zip", files)
    assert scripts["prepare_clothing"].main([str(source), "--out", str(tmp_path / "out")]) == 2
    assert "give one of the folders old, small-master" in capsys.readouterr().err


def test_clothing_wants_a_positive_side(scripts: dict[str, ModuleType]) -> None:
    with pytest.raises(SystemExit, match="2"):
        scripts["prepare_clothing"].main(["set", "--short-side", "0"])
