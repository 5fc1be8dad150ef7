"""What files hold beyond the picture that is used is found in their headers, and said in one
sentence."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from genseg.data.images.unused import OPENED, unused
from PIL import Image

PAGE = np.arange(64, dtype=np.uint8).reshape(8, 8)


def made(folder: Path, name: str) -> Path:
    """A file of one of the kinds below."""
    file, stack = folder / name, np.zeros((5, 3, 8, 8), np.uint16)
    if name == "plain.tif":
        tifffile.imwrite(file, PAGE)
    elif name == "pages.tif":
        tifffile.imwrite(file, np.stack([PAGE] * 5), metadata=None)
    elif name in ("hyper.ome.tif", "imagej.tif", "big.tif"):
        kind = {
            "hyper.ome.tif": {},
            "imagej.tif": {"imagej": True},
            "big.tif": {"bigtiff": True, "ome": True},
        }[name]
        tifffile.imwrite(file, stack, metadata={"axes": "ZCYX"}, **kind)
    elif name == "planes.tif":
        tifffile.imwrite(
            file, np.zeros((3, 8, 8), np.uint16), photometric="rgb", planarconfig="separate"
        )
    elif name in ("alpha.tif", "fourth.tif"):
        kind = "unassalpha" if name == "alpha.tif" else "unspecified"
        tifffile.imwrite(
            file, np.zeros((8, 8, 4), np.uint16), photometric="rgb", extrasamples=[kind]
        )
    elif name == "pyramid.tif":
        with tifffile.TiffWriter(file) as writer:
            for level in range(3):
                writer.write(np.zeros((64 >> level, 64 >> level), np.uint8), subfiletype=level > 0)
    elif name.startswith("moving"):
        Image.fromarray(PAGE).save(file, save_all=True, append_images=[Image.fromarray(PAGE.T)])
    elif name == "cut.tif":
        file.write_bytes(made(folder, "pages.tif").read_bytes()[:200])
    else:
        Image.fromarray(PAGE).save(file)
    return file


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("pages.tif", "5 pages; the first page is used"),
        ("hyper.ome.tif", "15 pages (axes ZCYX); the first page is used"),
        ("imagej.tif", "15 pages (axes ZCYX); the first page is used"),
        ("big.tif", "15 pages (axes ZCYX); the first page is used"),
        ("fourth.tif", "4 channels (axes YXS); the first page is used, of its channels the first"),
        ("moving.gif", "2 frames; the first page is used"),
        ("moving.webp", "2 frames; the first page is used"),
        ("moving.png", "2 frames; the first page is used"),
    ],
)
def test_what_is_not_used_is_said(name: str, what: str, tmp_path: Path) -> None:
    assert (
        unused((made(tmp_path, name), made(tmp_path, "b.jpg")))
        == f"1 of 2 files holds more than is used: {what}"
    )


def test_of_one_file_the_word_is_short(tmp_path: Path) -> None:
    said = "the file holds more than is used: 2 frames; the first page is used"
    assert unused((made(tmp_path, "moving.gif"),)) == said


@pytest.mark.parametrize(
    "name",
    [
        "plain.tif",
        "planes.tif",
        "alpha.tif",
        "pyramid.tif",
        "a.png",
        "a.webp",
        "a.gif",
        "a.bmp",
        "cut.tif",
    ],
)
def test_one_picture_needs_no_word(name: str, tmp_path: Path) -> None:
    assert unused((made(tmp_path, name), tmp_path / "missing.tif")) == ""


def test_of_many_files_all_are_counted_and_some_opened(tmp_path: Path) -> None:
    content = made(tmp_path, "pages.tif").read_bytes()
    files = [tmp_path / f"{n}.tif" for n in range(3 * OPENED)]
    for file in files:
        file.write_bytes(content)
    assert unused(tuple(files)).startswith(
        f"{3 * OPENED} of {3 * OPENED} files hold more than is used: 5 pages;"
    )
