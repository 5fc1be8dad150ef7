"""Files that hold more than is said what to use of are refused, by their headers, with what they
hold and what to write."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from genseg.core.reading import Reading, reading
from genseg.data.images.counted import images_in
from genseg.data.images.files import fingerprint, list_files, list_images, listing
from genseg.data.images.source import ImageError, decode, decode_image

PAGE = np.arange(64, dtype=np.uint8).reshape(8, 8)


def made(folder: Path, name: str) -> Path:
    """A file of one of the kinds below."""
    file, stack = folder / name, np.arange(5 * 3 * 64, dtype=np.uint16).reshape(5, 3, 8, 8)
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
    elif name == "stack.npy":
        np.save(file, np.stack([PAGE] * 7))
    else:
        Image.fromarray(PAGE).save(file)
    return file


@pytest.mark.parametrize(
    ("name", "holds", "words"),
    [
        ("pages.tif", "5 pages (axes IYX) of 8 bits", "--pages max, each, mean, 1 or 1:5"),
        ("hyper.ome.tif", "3 channels x 5 z (axes ZCYX) of 16 bits", "--channels 1,2,3 and"),
        ("imagej.tif", "3 channels x 5 z (axes ZCYX) of 16 bits", "data.channels=1,2,3"),
        ("big.tif", "3 channels x 5 z (axes ZCYX) of 16 bits", "data.pages=max"),
        ("fourth.tif", "4 channels (1 red, 2 green, 3 blue, 4) (axes YXS)", "--channels 1,2,3,4"),
        ("moving.gif", "2 pages (axes IYXS) of 8 bits", "--pages max, each, mean, 1 or 1:2"),
        ("moving.webp", "2 pages (axes IYXS) of 8 bits", "--pages"),
        ("moving.png", "2 pages (axes IYXS) of 8 bits", "--pages"),
        ("stack.npy", "7 pages (axes QYX) of 8 bits", "--channels 1,2,3,4,5,6,7 where its pages"),
    ],
)
def test_what_is_ambiguous_is_refused(name: str, holds: str, words: str, tmp_path: Path) -> None:
    file = made(tmp_path, name)
    made(tmp_path, "b.jpg")
    with pytest.raises(ValueError) as refused:
        list_images(tmp_path)
    said = str(refused.value)
    assert said.startswith(f"{file}: it holds ") and holds in said and words in said
    with pytest.raises(ImageError, match="say what to use, by --"):
        decode(file)
    assert len(list_files(tmp_path)) == 2


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
    """A damaged file is left to its reader."""
    assert images_in((made(tmp_path, name), tmp_path / "missing.tif"), Reading()) == (1, 1)


def test_of_several_files_the_first_is_told_and_the_others_counted(tmp_path: Path) -> None:
    content = made(tmp_path, "pages.tif").read_bytes()
    for n in range(3):
        (tmp_path / f"z{n}.tif").write_bytes(content)
    with pytest.raises(ValueError, match=r"pages\.tif: it holds 5 pages .*; so do 3 more files"):
        list_images(tmp_path)


def test_each_page_is_an_image_of_its_own(tmp_path: Path) -> None:
    made(tmp_path, "a.png")
    made(tmp_path, "hyper.ome.tif")
    with reading(Reading("", "each")), pytest.raises(ValueError, match="say what to use"):
        list_images(tmp_path)  # its channels are open still
    with reading(Reading("2", "each")), pytest.raises(ImageError, match="no channel 2"):
        decode_image(list_images(tmp_path), 0)
    (tmp_path / "a.png").unlink()
    with reading(Reading("2", "each")):
        images = list_images(tmp_path)
    assert images.files == ("hyper.ome.tif",) * 5 and images.pages == (1, 2, 3, 4, 5)
    assert images.name(1) == "hyper.ome.tif (image 2)"
    whole = np.arange(5 * 3 * 64, dtype=np.uint16).reshape(5, 3, 8, 8)
    for i in range(5):  # a list keeps how it is read
        x = decode_image(images, i)
        own = whole[i, 1].astype(float)
        low, high = np.percentile(own, (0.1, 99.9))
        want = np.rint(np.clip((own - low) / (high - low), 0, 1) * 255)
        np.testing.assert_allclose(x[..., 0], want, atol=1)
    with reading(Reading("2", "max")):
        one = list_images(tmp_path)
    assert one.pages is None and len(one) == 1
    with reading(Reading("3", "max")):
        other = list_images(tmp_path)
    assert len({listing(images), listing(one), listing(other)}) == 3
    assert len({fingerprint(images), fingerprint(one), fingerprint(other)}) == 3


def test_an_enclosing_word_goes_before() -> None:
    with reading(Reading("", "max")), reading(Reading("1", "each")) as inner:
        assert inner == Reading("1", "max")
    kept = Reading("1,2", "", ((0.0, 9.0), (1.0, 2.0)))
    assert Reading("", "max").over(kept) == Reading("1,2", "max", kept.ranges)
    assert Reading("2").over(kept) == Reading("2")  # the ranges are those of other channels


def test_an_image_that_is_the_only_one_of_its_file_has_no_page(tmp_path: Path) -> None:
    made(tmp_path, "pages.tif")
    made(tmp_path, "plain.tif")
    with reading(Reading("", "each")):
        images = list_images(tmp_path)
    names = [f"pages.tif (image {n})" for n in range(1, 6)] + ["plain.tif"]
    assert [images.name(i) for i in range(6)] == names
    assert images.pages == (1, 2, 3, 4, 5, 0)
    np.testing.assert_array_equal(decode_image(images, 5)[..., 0], PAGE)


def test_a_json_keeps_the_pages_that_some_of_its_images_have(tmp_path: Path) -> None:
    made(tmp_path, "pages.tif")
    made(tmp_path, "plain.tif")
    size = {"height": 8, "width": 8}
    entries = [
        {"id": 4, "file_name": "pages.tif", "page": 2, **size},
        {"id": 7, "file_name": "plain.tif", **size},
    ]
    whole = {"images": entries, "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    (tmp_path / "a.json").write_text(json.dumps(whole))
    with reading(Reading("", "each")):
        images = list_images(tmp_path / "a.json")
    assert [images.page(i) for i in range(2)] == [2, 0] and images.number(1) == 7
    assert [images.name(i) for i in range(2)] == ["pages.tif (image 2)", "plain.tif"]


@pytest.mark.parametrize(
    ("channels", "pages", "said"),
    [
        ("1,,2", "", "give numbers from 1 or names"),
        ("1,1", "", "name each once"),
        ("", "last", "use each, max, mean, a page N"),
        ("", "0", "counted from 1"),
        ("", "1:2:3", "counted from 1"),
    ],
)
def test_words_that_mean_nothing(channels: str, pages: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Reading(channels, pages)
