"""Pretraining takes squares of images that are read by windows, and decodes none of them whole."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

import genseg.data.images.ranges as ranges
import genseg.data.images.source as source
import genseg.data.regions.opened as opened
from genseg.data.images.cache import build_cache
from genseg.data.images.files import list_images
from genseg.data.images.png import write_png
from genseg.data.images.ranges import fitted_ranges
from genseg.data.images.source import ImageSource
from genseg.data.regions.opened import in_windows, read_image
from genseg.data.regions.scene import Scene, windows_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TIFF of 2 x 3 windows and a rest, and a small PNG."""
    monkeypatch.setattr(opened, "LARGE", 1000)
    monkeypatch.setattr(opened, "WINDOW", 40)
    x = np.random.default_rng(0).integers(0, 256, (95, 130, 3)).astype(np.uint8)
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "b.tif", x, photometric="rgb", tile=(32, 32))
    write_png(tmp_path / "images" / "a.png", x[:9, :9])
    monkeypatch.setenv("GENSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "images"


def test_squares_of_a_large_image_are_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = tifffile.imread(folder / "b.tif")
    decoded = list[str]()
    decode = source.decode
    monkeypatch.setattr(
        source, "decode", lambda path, **how: decoded.append(path.name) or decode(path, **how)
    )
    images = in_windows(list_images(folder))
    assert images.files == ("a.png", *("b.tif",) * 6)
    for side in (0, 20):
        cached = None if not side else build_cache(images, side=side, workers=1, read=read_image)
        read = ImageSource(images, cached, read_image)
        pixels = [read.read(i)[0] for i in range(len(images))]
        assert pixels[0].shape == (9, 9, 3)
        want = [x[t : t + 40, a : a + 40] for t in (0, 40) for a in (0, 40, 80)]
        if side:
            assert all(p.shape == (20, 20, 3) for p in pixels[1:])
        else:
            assert all(np.array_equal(p, w) for p, w in zip(pixels[1:], want, strict=True))
    assert decoded == ["a.png", "a.png"]


def test_lists_without_large_images_stay_as_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "LARGE", 10**8)
    images = list_images(folder)
    assert in_windows(images) is images
    whole = replace(images, windows=((0, 0, 9, 9), (0, 0, 5, 5)))
    assert in_windows(whole) is whole


@pytest.mark.parametrize("samples", [1, 3, 4])
def test_ranges_of_a_set_are_those_of_windows_and_no_file_is_read_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch, samples: int
) -> None:
    """Each window of a large image stood for all of it, which was decoded anew each time."""
    x = np.random.default_rng(0).integers(0, 9000, (80, 120, samples)).astype(np.uint16)
    x[..., 3:] = 65535
    (folder / "a.png").unlink()
    kind = "rgb" if samples > 1 else "minisblack"
    more = ["unassalpha"] if samples == 4 else None
    file = folder / "b.tif"
    tifffile.imwrite(file, x, photometric=kind, tile=(32, 32), extrasamples=more)
    images = list_images(folder)
    (want,) = fitted_ranges(images)
    monkeypatch.delattr(ranges, "read_original")
    (found,) = fitted_ranges(in_windows(images), opened.window_values)
    assert found == pytest.approx(want, abs=1)


def test_a_file_that_is_written_anew_is_read_anew(folder: Path) -> None:
    """The scene of the former one was taken, whose tiles lay elsewhere."""
    (folder / "a.png").unlink()
    for seed, tile in ((1, 32), (2, 16)):
        x = np.random.default_rng(seed).integers(0, 256, (80, 120, 3)).astype(np.uint8)
        file = folder / "b.tif"
        tifffile.imwrite(file, x, photometric="rgb", tile=(tile, tile), compression="zlib")
        os.utime(file, ns=(0, seed))
        assert np.array_equal(read_image(in_windows(list_images(folder)), 0), x[:40, :40])


def test_what_a_kill_has_cut_is_made_again(tmp_path: Path) -> None:
    scene = Scene(windows_of(np.zeros((4, 4, 3), np.uint8)), (4, 4, 3), folder=tmp_path)
    for cut in (None, 100, 10, 0):
        if cut is not None:
            file = tmp_path / "row.npz"
            file.write_bytes(file.read_bytes()[:cut])
        assert scene.kept("row", lambda: {"a": np.arange(9)})["a"].tolist() == list(range(9))
