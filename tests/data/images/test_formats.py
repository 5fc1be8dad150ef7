"""Files as microscopes, satellites and cameras write them, each made here: the pixels are right,
against what was written, or what Pillow and tifffile read."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from genseg.core.reading import Reading
from genseg.data.images import values
from genseg.data.images.counted import held_by_file
from genseg.data.images.original import read_original
from genseg.data.images.source import ImageError, decode

RNG = np.random.default_rng(0)
H, W = 40, 56  # tiles of 16 do not divide them
GREY = RNG.integers(0, 65536, (H, W), dtype=np.uint16)
TWELVE = (GREY >> 4).astype(np.uint16)
RGB = RNG.integers(0, 256, (H, W, 3), dtype=np.uint8)
HYPER = RNG.integers(0, 4096, (2, 3, 2, H, W), dtype=np.uint16)  # t z c
FLOAT = RNG.normal(0, 5, (H, W)).astype(np.float32)
FLOAT[3:5, 7:9] = np.nan
BANDS = RNG.integers(0, 10_000, (5, H, W), dtype=np.uint16)
NAMES = ("blue", "green", "red", "red edge", "nir")
GDAL = "".join(
    f'<Item name="DESCRIPTION" sample="{n}" role="description">{name}</Item>'
    for n, name in enumerate(NAMES)
)
ALPHA = np.where(np.arange(W) < W // 2, 0, 255)[None].repeat(H, 0).astype(np.uint8)
ALPHA[:, W // 2] = 128


@dataclass(frozen=True)
class Case:
    """write: makes the file; truth: its values, `h w c`, that `read_original` gives with `words`;
    names: of its channels."""

    name: str
    write: Callable[[Path], Any]
    truth: np.ndarray
    words: Reading = Reading()
    names: tuple[str, ...] = ("grey",)


def tiff(x: np.ndarray, **how: Any) -> Callable[[Path], None]:
    return lambda file: tifffile.imwrite(file, x, **how)


def channels_last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 0, -1)


def ome(file: Path) -> None:
    metadata = {"axes": "TZCYX", "Channel": {"Name": ["DAPI", "GFP"]}, "SignificantBits": 12}
    tifffile.imwrite(file, HYPER, ome=True, metadata=metadata)


def geotiff(file: Path) -> None:
    """Five named bands, in one plane, and a value that stands for none."""
    bands = channels_last(BANDS).copy()
    bands[:2, :3] = 65535
    tags = [
        (42112, 2, 0, f"<GDALMetadata>{GDAL}</GDALMetadata>", True),
        (42113, 2, 0, "65535", True),
    ]
    how: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(file, bands, extratags=tags, metadata=None, **how)


def infrared(file: Path) -> None:
    """The fourth band is declared to be alpha, as GDAL does."""
    x = np.dstack([RGB, (GREY >> 8).astype(np.uint8)])
    geo = (34735, 3, 4, (1, 1, 0, 0), True)
    tifffile.imwrite(
        file, x, photometric="rgb", extrasamples=["unassalpha"], extratags=[geo], metadata=None
    )


COLOURS = ("red", "green", "blue")
NIR = np.dstack([RGB, (GREY >> 8).astype(np.uint8)])
MASKED = channels_last(BANDS).copy()
MASKED[:2, :3] = 65535
CASES = (
    Case("ome.tif", ome, HYPER[1, 2][1][..., None], Reading("GFP", "6"), ("gfp",)),
    Case(
        "ome-max.tif",
        ome,
        channels_last(HYPER[1].max(0))[..., [1, 0]],
        Reading("GFP,DAPI", "max z"),
        ("gfp", "dapi"),
    ),
    Case(
        "imagej.tif",
        tiff(HYPER, imagej=True, metadata={"axes": "TZCYX"}),
        channels_last(HYPER[0, 1]),
        Reading("", "2"),
        ("channel_1", "channel_2"),
    ),
    Case(
        "planar.tif",
        tiff(np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate"),
        RGB,
        names=COLOURS,
    ),
    Case("tiled.tif", tiff(GREY, tile=(16, 16)), GREY[..., None]),
    Case("bigendian.tif", tiff(GREY, byteorder=">"), GREY[..., None]),
    Case("big.tif", tiff(GREY, bigtiff=True), GREY[..., None]),
    *(
        Case(f"{packed}.tif", tiff(GREY, compression=packed), GREY[..., None])
        for packed in ("lzw", "zlib", "zstd", "jpeg2000", "lzma")
    ),
    Case("predicted.tif", tiff(RGB, compression="zlib", predictor=2), RGB, names=COLOURS),
    Case("float.tif", tiff(FLOAT), FLOAT[..., None]),
    Case("twelve.tif", tiff(TWELVE), TWELVE[..., None]),
    Case("wide.tif", tiff(GREY.astype(np.uint32) << 8), (GREY.astype(np.uint32) << 8)[..., None]),
    Case(
        "signed.tif",
        tiff((GREY.astype(np.int32) - 30000).astype(np.int16)),
        (GREY.astype(np.int32) - 30000).astype(np.int16)[..., None],
    ),
    Case("five.tif", geotiff, MASKED, names=("blue", "green", "red", "red_edge", "nir")),
    Case("five-nir.tif", geotiff, MASKED[..., [4, 2]], Reading("nir,red"), ("nir", "red")),
    Case("infrared.tif", infrared, NIR, Reading("1,2,3,4"), (*COLOURS, "channel_4")),
    Case(
        "stack.npy", lambda f: np.save(f, HYPER[0, 0]), HYPER[0, 0, 1][..., None], Reading("", "2")
    ),
    Case(
        "stack.npz",
        lambda f: np.savez_compressed(f, image=HYPER[0, 0]),
        channels_last(HYPER[0, 0])[..., ::-1],
        Reading("2,1"),
        ("channel_2", "channel_1"),
    ),
    Case("pages.tif", tiff(BANDS, metadata=None), BANDS.max(0)[..., None], Reading("", "max")),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_values_are_those_of_the_file(case: Case, tmp_path: Path) -> None:
    file = tmp_path / case.name
    case.write(file)
    found = read_original(file, image=_time(case), reading=case.words)
    want = case.truth
    np.testing.assert_array_equal(found.pixels, want)
    assert found.channels == case.names and found.pixels.dtype == want.dtype
    pixels = decode(file, image=_time(case), reading=case.words) if _may_be_seen(case) else None
    if pixels is not None:
        assert pixels.shape[:2] == (H, W) and pixels.dtype == np.uint8
        assert pixels.shape[2] == (len(case.names) if case.words.channels else 3)
        _check_order(pixels, want)


def _time(case: Case) -> int:
    """Of a stack over time each is an image: the second."""
    return 2 if case.name == "ome-max.tif" else 0


def _may_be_seen(case: Case) -> bool:
    """Where channels are open as a picture, `decode` refuses."""
    return bool(case.words.channels) or len(case.names) in (1, 3)


def _check_order(pixels: np.ndarray, values: np.ndarray) -> None:
    """8 bits keep the order of the values, channel by channel; no value is the darkest."""
    for c in range(values.shape[2]):
        seen, x = pixels[..., c].ravel().astype(int), values[..., c].ravel().astype(float)
        known = np.isfinite(x) & (x != 65535)
        order = np.argsort(x[known], kind="stable")
        assert (np.diff(seen[known][order]) >= 0).all()
        assert (seen[~np.isfinite(x)] == 0).all()


def test_pictures_with_real_transparency_lie_over_white_as_before(tmp_path: Path) -> None:
    x = np.dstack([RGB, ALPHA])
    over = np.rint((RGB * (ALPHA / 255)[..., None]) + 255 * (1 - ALPHA / 255)[..., None])
    Image.fromarray(x).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", x, photometric="rgb", extrasamples=["unassalpha"])
    geo = (34735, 3, 4, (1, 1, 0, 0), True)
    tifffile.imwrite(
        tmp_path / "geo.tif",
        x,
        photometric="rgb",
        extrasamples=["unassalpha"],
        extratags=[geo],
        metadata=None,
    )
    for name in ("a.png", "a.tif", "geo.tif"):
        assert np.abs(decode(tmp_path / name).astype(int) - over).max() <= 1, name
    raw = decode(tmp_path / "a.png", reading=Reading("4,1"))
    np.testing.assert_array_equal(raw, x[..., [3, 0]])


def test_a_fourth_band_is_no_transparency_unless_it_is_one(tmp_path: Path) -> None:
    infrared(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="4 channels .* say what to use"):
        decode(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", NIR, photometric="rgb", extrasamples=["unspecified"])
    with pytest.raises(ImageError, match="4 channels .* say what to use"):
        decode(tmp_path / "b.tif")


def test_pillow_reads_the_same_of_what_it_writes(tmp_path: Path) -> None:
    """Palettes, CMYK, black and white: as before, without a word and with `pages=1`."""
    picture = Image.fromarray(RGB)
    for mode, name in (("P", "p.png"), ("CMYK", "c.tif"), ("1", "b.png"), ("LA", "l.png")):
        picture.convert(mode).save(tmp_path / name)
        want = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        for words in (Reading(), Reading(pages="1"), Reading(pages="max")):
            np.testing.assert_array_equal(decode(tmp_path / name, reading=words), want)


def test_ranges_are_for_all_images_alike(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", TWELVE)
    tifffile.imwrite(tmp_path / "b.tif", TWELVE // 4)
    words = Reading(ranges=((0.0, 4095.0),))
    a, b = (decode(tmp_path / f"{n}.tif", reading=words)[..., 0].astype(int) for n in "ab")
    np.testing.assert_allclose(a, TWELVE * (255 / 4095), atol=0.51)
    assert np.abs(a - 4 * b).max() <= 4
    with pytest.raises(ImageError, match="range has 2 pairs, and the image 1 channels"):
        decode(tmp_path / "a.tif", reading=Reading("1", "", ((0.0, 1.0), (0.0, 2.0))))


def test_a_truncated_stack_is_no_black_picture(tmp_path: Path) -> None:
    for name, how in (
        ("a.tif", {"imagej": True}),
        ("b.tif", {}),
        ("c.tif", {"compression": "zlib"}),
    ):
        how |= {"photometric": "minisblack", "metadata": {"axes": "ZYX"}}
        tifffile.imwrite(tmp_path / name, HYPER[0, :, 0], **how)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) - 5000])
        with pytest.raises(ImageError):
            decode(tmp_path / name, reading=Reading("", "3"))
        with pytest.raises(ImageError):
            decode(tmp_path / name, reading=Reading("", "max"))


def test_a_stack_that_ends_before_its_last_page_is_no_smaller_one(tmp_path: Path) -> None:
    """Where the data of the pages that are left are whole, these were taken for all."""
    for name, how in (("a.ome.tif", {"ome": True}), ("b.tif", {}), ("c.tif", {"bigtiff": True})):
        with tifffile.TiffWriter(tmp_path / name, **how) as writer:
            for page in HYPER[0, :, 0]:
                writer.write(page, contiguous=False, compression="zlib", metadata=None)
        with tifffile.TiffFile(tmp_path / name) as tiff:
            end = tiff.pages[1].offset
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:end])
        for pages in ("", "max", "1"):
            with pytest.raises(ImageError, match="truncated: behind 1 page it names"):
                decode(tmp_path / name, reading=Reading("", pages))


def _named_next(file: Path, page: int, at: int) -> None:
    """A classic TIFF whose page names a page at `at` as the one behind it."""
    with tifffile.TiffFile(file) as tiff:
        offset = tiff.pages[page].offset
    content = bytearray(file.read_bytes())
    (tags,) = struct.unpack_from("<H", content, offset)
    struct.pack_into("<I", content, offset + 2 + 12 * tags, at)
    file.write_bytes(content)


def test_chains_of_pages_that_run_in_circles_are_read(tmp_path: Path) -> None:
    """Some microscopes and old programs leave them; tifffile stops where it has been."""
    file = tmp_path / "a.tif"
    with tifffile.TiffWriter(file) as writer:
        for page in HYPER[0, :2, 0]:
            writer.write(page, contiguous=False, metadata=None)
    with tifffile.TiffFile(file) as tiff:
        first = tiff.pages[0].offset
    _named_next(file, 1, first)
    assert decode(file, reading=Reading("", "2")).shape[:2] == HYPER.shape[-2:]
    tifffile.imwrite(file, RGB[..., 0], metadata=None)
    with tifffile.TiffFile(file) as tiff:
        first = tiff.pages[0].offset
    _named_next(file, 0, first)
    assert decode(file).shape[:2] == RGB.shape[:2]


def test_frames_of_scanimage_are_read(tmp_path: Path) -> None:
    """tifffile looks some pages ahead, and no further."""
    said = "state.configName=x\nstate.acq.numberOfFrames=8\n"
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for n in range(8):
            page = np.full((32, 32), n, np.int16)
            writer.write(page, contiguous=False, metadata=None, description=said, software=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.is_scanimage
    assert decode(tmp_path / "a.tif", reading=Reading("", "max")).shape[:2] == (32, 32)


def test_each_sample_may_have_a_name(tmp_path: Path) -> None:
    names = ("DAPI", "GFP", "RFP", "CY5")
    channels = "".join(f'<Channel ID="C:{n}" Name="{x}"/>' for n, x in enumerate(names))
    text = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="32" '
        f'SizeY="32" SizeC="4" SizeZ="1" SizeT="1">{channels}<TiffData/></Pixels></Image></OME>'
    )
    pixels = np.zeros((32, 32, 4), np.uint8)
    how = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": (0, 0, 0)}
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, description=text, metadata=None, **how)
    found = held_by_file(tmp_path / "a.ome.tif", plain=True)
    assert found is not None and found.names == names


def test_a_name_of_a_channel_stands_for_all_samples_of_its_pixels(tmp_path: Path) -> None:
    """The second name was that of the first channel's green."""
    said = {"axes": "CYXS", "Channel": {"Name": ["HE", "other"]}}
    colours = np.stack([RGB, RGB[::-1]])
    tifffile.imwrite(tmp_path / "a.ome.tif", colours, photometric="rgb", metadata=said)
    held = held_by_file(tmp_path / "a.ome.tif", plain=True)
    assert held is not None and held.names[1:4] == ("HE 2", "HE 3", "other 1")
    found = read_original(tmp_path / "a.ome.tif", reading=Reading("other 1"))
    np.testing.assert_array_equal(found.pixels[..., 0], RGB[::-1, :, 0])
    said = {"axes": "YXS", "Channel": {"Name": "HE"}}
    tifffile.imwrite(tmp_path / "b.ome.tif", RGB, photometric="rgb", metadata=said)
    assert read_original(tmp_path / "b.ome.tif").channels == ("red", "green", "blue")


def test_numbers_that_are_none_are_refused_to_be_measured(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((9, 9), np.complex64), photometric="minisblack")
    with pytest.raises(ImageError, match="an array of complex64 is no image"):
        read_original(tmp_path / "a.tif")


def test_a_missing_codec_is_named_and_nothing_is_said_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GREY] * 2), compression="zstd", metadata=None)

    def absent(*args: object) -> None:
        raise ImportError("no zstd")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", absent)
    with pytest.raises(ImageError, match=r"compression ZSTD, which nothing .* pip install"):
        decode(tmp_path / "a.tif", reading=Reading("", "2"))
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:300])
    with pytest.raises(ImageError):
        decode(tmp_path / "b.tif")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_a_fourth_band_is_told_by_some_of_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tile: tuple[int, int] | None,
    compression: str | None,
    planar: bool,
) -> None:
    """Lists decoded every GeoTIFF with an alpha band whole."""
    x = np.random.default_rng(0).integers(1, 255, (300, 260, 4)).astype(np.uint8)
    seen, read = list[int](), values.segment_of

    def counted(page: tifffile.TiffPage, number: int) -> np.ndarray:
        seen.append(number)
        return read(page, number)

    monkeypatch.setattr(values, "segment_of", counted)
    monkeypatch.delattr(values, "_samples")
    for band, alpha in ((x[..., 3], False), (255 * (x[..., 3] > 99).astype(np.uint8), True)):
        picture = np.dstack([x[..., :3], band])
        seen.clear()
        tifffile.imwrite(
            tmp_path / "x.tif",
            np.moveaxis(picture, -1, 0) if planar else picture,
            photometric="rgb",
            planarconfig="separate" if planar else "contig",
            tile=tile,
            compression=compression,
            rowsperstrip=None if tile else 2,
            extrasamples=["unassalpha"],
            extratags=[(34735, 3, 4, (1, 1, 0, 0), True)],
            metadata=None,
        )
        held = held_by_file(tmp_path / "x.tif")
        assert held is not None and held.alpha == alpha
        assert len(seen) <= 64
