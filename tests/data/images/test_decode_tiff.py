"""TIFFs of every compression, depth, orientation and order of planes, against the pixels that were
written."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from genseg.core.reading import Reading
from genseg.data.images import decode, source
from genseg.data.images.decode import rgb_pixels
from genseg.data.images.kind import kind_of

SIZE = (40, 56)
LOSSLESS = ("none", "lzw", "deflate", "packbits", "zstd", "lzma", "jpeg2000", "png", "jpegxl")
TAGS = {"aperio_33003": 33003, "aperio_33005": 33005}


def slope(dtype: str, colour: bool) -> tuple[np.ndarray, np.ndarray]:
    """A picture in 8 bits that looks otherwise upside down, on its side, mirrored or in other
    colours, and its values in the file's type."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    eight = np.stack(
        [rows * 3 + columns, 255 - rows * 2 - columns, 40 + columns * 3], axis=-1
    ).astype(np.uint8)
    eight[0, 0], eight[-1, -1] = 0, 255  # the whole range
    eight = eight if colour else eight[..., 0]
    scale = {"uint8": 1, "uint16": 257, "float32": 1 / 255}[dtype]
    return eight, (eight * np.asarray(scale, "float64")).round(9).astype(dtype)


def tiff(x: np.ndarray, *, planar: bool = False, turn: int = 1, **options: Any) -> bytes:
    file = io.BytesIO()
    colour = x.ndim == 3
    tifffile.imwrite(
        file,
        np.moveaxis(x, -1, 0) if planar else x,
        photometric="rgb" if colour else "minisblack",
        planarconfig=("separate" if planar else "contig") if colour else None,
        extratags=[(274, "H", 1, turn, True)],
        **options,
    )
    return file.getvalue()


def upright(x: np.ndarray, turn: int) -> np.ndarray:
    """EXIF's table of orientations, by PIL's own operations."""
    flips = {
        1: None,
        2: "FLIP_LEFT_RIGHT",
        3: "ROTATE_180",
        4: "FLIP_TOP_BOTTOM",
        5: "TRANSPOSE",
        6: "ROTATE_270",
        7: "TRANSVERSE",
        8: "ROTATE_90",
    }
    image = Image.fromarray(x)
    return np.asarray(
        image.transpose(getattr(Image.Transpose, flips[turn])) if flips[turn] else image
    )


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("packed", LOSSLESS)
def test_every_compression_gives_the_pixels_or_its_name(
    packed: str, dtype: str, colour: bool
) -> None:
    if dtype == "float32" and packed in ("jpeg2000", "png"):
        pytest.skip("the codec holds no floats")
    eight, x = slope(dtype, colour)
    options = {"compressionargs": {"reversible": True}} if packed == "jpeg2000" else {}
    options |= {"compressionargs": {"lossless": True}} if packed == "jpegxl" else {}
    compression = {"deflate": "zlib", "jpegxl": "jpegxl"}.get(packed, packed)
    data = tiff(x, compression=None if packed == "none" else compression, **options)
    out = rgb_pixels(data)
    assert (out == (eight if colour else np.repeat(eight[..., None], 3, 2))).all()
    kind = kind_of(data)
    assert (kind.height, kind.width) == out.shape[:2]


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("packed", [None, "lzw", "zlib"])
def test_turned_once_and_planes_in_order(
    packed: str | None, dtype: str, turn: int, planar: bool
) -> None:
    eight, x = slope(dtype, True)
    predictor = packed is not None and dtype != "float32"
    data = tiff(x, planar=planar, turn=turn, compression=packed, predictor=predictor)
    out = rgb_pixels(data)
    assert (out == upright(eight, turn)).all()
    kind = kind_of(data)
    assert (kind.height, kind.width) == out.shape[:2]


@pytest.mark.parametrize("number", [33005, 34712, 34933])
def test_compressions_of_slide_scanners(number: int) -> None:
    eight, x = slope("uint8", True)
    kind = {34933: "png"}.get(number, "jpeg2000")
    options = {} if kind == "png" else {"compressionargs": {"reversible": True}}
    data = bytearray(tiff(x, compression=kind, **options))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        at = file.pages[0].tags["Compression"].valueoffset
    data[at : at + 2] = number.to_bytes(2, "little")
    assert (rgb_pixels(bytes(data)) == eight).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_compression_that_nothing_decodes_is_named(
    dtype: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _, x = slope(dtype, True)
    data = bytearray(tiff(x, compression="jpeg2000"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        at = file.pages[0].tags["Compression"].valueoffset
    data[at : at + 2] = (34676).to_bytes(2, "little")  # SGI's, for logarithms of light
    with pytest.raises(ValueError, match="a TIFF of compression SGILOG"):
        rgb_pixels(bytes(data))

    def missing(*_: object) -> None:
        raise ImportError("no codec of that name")

    data[at : at + 2] = (34712).to_bytes(2, "little")
    monkeypatch.setattr(tifffile.TiffPage, "asarray", missing)
    with pytest.raises(
        ValueError,
        match="compression JPEG2000, which nothing here decodes .* pip install imagecodecs",
    ):
        rgb_pixels(bytes(data))
    assert capfd.readouterr().err == "", "libraries say nothing of their own"


@pytest.mark.parametrize("options", [{"rowsperstrip": 5}, {"tile": (16, 16)}, {}])
@pytest.mark.parametrize("packed", ["lzw", "zlib", "packbits"])
@pytest.mark.parametrize("shape", [(), (3,), (4,)])
def test_what_pil_reads_rightly_is_read_as_pil_does(
    packed: str, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    x = np.random.default_rng(0).integers(0, 256, (*SIZE, *shape)).astype(np.uint8)
    for photometric in ["rgb"] if shape else ["minisblack", "miniswhite"]:
        file = io.BytesIO()
        extra = {"extrasamples": ["unassalpha"]} if shape == (4,) else {}
        tifffile.imwrite(file, x, photometric=photometric, compression=packed, **options, **extra)
        with Image.open(file) as image:
            ground = Image.new("RGBA", image.size, "white")
            flat = Image.alpha_composite(ground, image) if image.mode == "RGBA" else image
            wanted = np.asarray(flat.convert("RGB")).astype(int)
        assert np.abs(rgb_pixels(file.getvalue()) - wanted).max() <= (1 if shape == (4,) else 0)


def test_truncated_data_is_an_error_and_never_black(capfd: pytest.CaptureFixture[str]) -> None:
    for packed in ("lzw", "jpeg2000", "png", "zlib", "zstd"):
        _, x = slope("uint16", True)
        data = tiff(x, compression=packed)
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            first = file.pages[0].dataoffsets[0]
        damaged = data[: first + 8] + bytes(len(data) - first - 8)
        with pytest.raises(ValueError, match="cannot be decoded|truncated"):
            rgb_pixels(damaged)
        with pytest.raises(ValueError, match="truncated"):
            rgb_pixels(data[: first + 100])
    assert capfd.readouterr().err == "", "libraries say nothing of their own"


def test_orientation_of_xmp_does_not_count_in_any_jpeg() -> None:
    eight, _ = slope("uint8", True)
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    )
    file = io.BytesIO()
    Image.fromarray(eight).save(file, "JPEG", quality=95, xmp=packet)
    whole = file.getvalue()
    for data in (whole, whole + b"after the end"):  # by OpenCV, by PIL
        assert rgb_pixels(data).shape == (*SIZE, 3)
        assert (kind_of(data).height, kind_of(data).width) == SIZE


def test_an_unused_alpha_of_a_bmp_is_left_out_and_wholly_transparent_pictures_are_refused() -> None:
    eight, _ = slope("uint8", True)
    clear = Image.fromarray(np.dstack([eight, np.zeros(SIZE, np.uint8)]))
    for kind in ("PNG", "WEBP", "TIFF"):
        file = io.BytesIO()
        clear.save(file, kind)
        with pytest.raises(
            ValueError, match="wholly transparent: its alpha is 0 everywhere; save it without"
        ):
            rgb_pixels(file.getvalue())
    bgra = np.dstack([eight[..., ::-1], np.zeros(SIZE, np.uint8)])[::-1].tobytes()
    header = (
        (124).to_bytes(4, "little") + SIZE[1].to_bytes(4, "little") + SIZE[0].to_bytes(4, "little")
    )
    header += (
        b"\x01\0\x20\0" + (3).to_bytes(4, "little") + len(bgra).to_bytes(4, "little") + bytes(16)
    )
    header += (
        b"".join(m.to_bytes(4, "little") for m in (0xFF0000, 0xFF00, 0xFF, 0xFF000000))
        + b"BGRs"
        + bytes(64)
    )
    data = (
        b"BM"
        + (14 + 124 + len(bgra)).to_bytes(4, "little")
        + bytes(4)
        + (138).to_bytes(4, "little")
        + header
        + bgra
    )
    assert (rgb_pixels(data) == eight).all()


def test_a_small_file_of_many_bytes_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(file, "PNG")
    deep = tiff(np.zeros((64, 64, 3), np.float64), compression="zlib")
    monkeypatch.setattr(decode, "MOST_BYTES", 64 * 64 * 2 - 1)
    for data in (file.getvalue(), deep):
        with pytest.raises(
            ValueError, match=r"GiB of pixels once it is decoded; the limit is .* cut it into tiles"
        ):
            rgb_pixels(data)
    monkeypatch.setattr(decode, "MOST_BYTES", 64 * 64 * 24)
    assert rgb_pixels(deep).shape == (64, 64, 3)


def test_a_page_of_a_large_stack_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's size says nothing of a page: the stack was refused."""
    stack = np.random.default_rng(0).integers(0, 256, (5, 40, 60)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    tifffile.imwrite(tmp_path / "one.tif", stack[0], photometric="minisblack")
    monkeypatch.setattr(source, "MOST_BYTES", 2000)
    for page in (1, 3):
        found = source.decode(tmp_path / "stack.tif", reading=Reading(pages=str(page)))
        assert np.array_equal(found[..., 0], stack[page - 1])
    with pytest.raises(ValueError, match="cut another one into tiles"):
        source.decode(tmp_path / "one.tif")
