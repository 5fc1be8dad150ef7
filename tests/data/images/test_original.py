"""All channels and bits of a file, against what was written into it."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from genseg.core.reading import Reading
from genseg.data.images.original import read_original
from genseg.data.images.source import ImageError

RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 65536, (3, 20, 30), dtype=np.uint16)


def test_channels_of_tiffs_keep_their_bits_and_names(tmp_path: Path) -> None:
    ome = tmp_path / "a.ome.tif"
    stack = RNG.integers(0, 4096, (2, 3, 20, 30), dtype=np.uint16)
    names = {"axes": "ZCYX", "Channel": {"Name": ["DAPI", "Actin (red)", "DAPI"]}}
    tifffile.imwrite(ome, stack, metadata=names)
    with pytest.raises(ImageError, match="--pages max, each, mean, 1 or 1:2; in a recipe"):
        read_original(ome)
    found = read_original(ome, reading=Reading(pages="2"))
    np.testing.assert_array_equal(found.pixels, np.moveaxis(stack[1], 0, -1))
    assert found.channels == ("channel_1", "actin_red", "channel_3")
    found = read_original(ome, reading=Reading("2", "max"))
    np.testing.assert_array_equal(found.pixels[..., 0], stack[:, 1].max(0))
    assert found.channels == ("actin_red",)
    tifffile.imwrite(tmp_path / "j.tif", DEEP, imagej=True, metadata={"axes": "CYX"})
    found = read_original(tmp_path / "j.tif")
    np.testing.assert_array_equal(found.pixels, np.moveaxis(DEEP, 0, -1))
    assert found.channels == ("channel_1", "channel_2", "channel_3")
    tifffile.imwrite(tmp_path / "p.tif", DEEP, photometric="rgb", planarconfig="separate")
    found = read_original(tmp_path / "p.tif")
    np.testing.assert_array_equal(found.pixels, np.moveaxis(DEEP, 0, -1))
    assert found.channels == ("red", "green", "blue")


def test_a_fourth_band_is_a_channel_and_pages_are_counted(tmp_path: Path) -> None:
    bands = RNG.random((20, 30, 4)).astype(np.float32)
    tifffile.imwrite(tmp_path / "n.tif", bands, photometric="rgb", extrasamples=["unspecified"])
    found = read_original(tmp_path / "n.tif")
    np.testing.assert_array_equal(found.pixels, bands)
    assert found.channels == ("red", "green", "blue", "channel_4")
    tifffile.imwrite(tmp_path / "z.tif", DEEP, photometric="minisblack")
    with pytest.raises(ImageError, match=r"it holds 3 pages \(axes QYX\)"):
        read_original(tmp_path / "z.tif")
    found = read_original(tmp_path / "z.tif", reading=Reading(pages="3"))
    np.testing.assert_array_equal(found.pixels[..., 0], DEEP[2])
    assert found.channels == ("grey",)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "I;16", "1", "P"])
def test_pictures(mode: str, tmp_path: Path) -> None:
    grey = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
    image = Image.fromarray(DEEP[0]) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    image.save(tmp_path / "a.png")
    found = read_original(tmp_path / "a.png").pixels
    truth = {"I;16": DEEP[0], "1": np.asarray(image)}.get(mode, grey)
    assert found.shape[2] == (3 if mode in ("RGB", "RGBA", "P") else 1)
    for c in range(found.shape[2]):
        np.testing.assert_array_equal(found[..., c], truth)


def test_exif_turns_and_what_is_no_image_is_said(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(
        read_original(tmp_path / "a.png").pixels[..., 0], [[3, 0], [4, 1], [5, 2]]
    )
    (tmp_path / "b.png").write_bytes(b"no")
    with pytest.raises(ImageError, match=r"b\.png: no image format that can be read"):
        read_original(tmp_path / "b.png")
    content = io.BytesIO()
    tifffile.imwrite(content, DEEP, photometric="minisblack")
    (tmp_path / "c.tif").write_bytes(content.getvalue()[:900])
    with pytest.raises(ImageError, match=r"c\.tif: "):
        read_original(tmp_path / "c.tif")
