"""Every kind of file becomes the right upright RGB of 8 bits; the broken are an ImageError with the
reason."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from genseg.data.images.decode import rgb_pixels, shrunk_size
from genseg.data.images.depth import to_8bit
from genseg.data.images.kind import kind_of
from genseg.data.images.source import ImageError, decode, decoded_size

H, W = 40, 56
Array = np.ndarray


def scene() -> Array:
    """A smooth colour picture that uses the whole range, different at all four corners."""
    y, x = np.mgrid[0:H, 0:W]
    red, green, blue = 255 * x / (W - 1), 255 * y / (H - 1), 127 + 127 * np.sin(x / 9 + y / 7)
    return np.rint(np.stack([red, green, blue], -1)).astype(np.uint8)


def encoded(image: Image.Image | Array, kind: str, **options: object) -> bytes:
    """The bytes that PIL writes."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        file, kind, **options
    )
    return file.getvalue()


def tiff(x: Array, **options: object) -> bytes:
    """The bytes that tifffile writes; colour when the shape says so."""
    file = io.BytesIO()
    colour = x.ndim == 3
    tifffile.imwrite(file, x, **{"photometric": "rgb" if colour else "minisblack", **options})
    return file.getvalue()


def opencv(x: Array, suffix: str) -> bytes:
    """The bytes that OpenCV writes for RGB, RGBA or grey."""
    x = x if x.ndim == 2 else x[..., [2, 1, 0, 3][: x.shape[2]]]
    return cv2.imencode(suffix, x)[1].tobytes()


def grey(x: Array) -> Array:
    """One channel shown as RGB."""
    return np.repeat(x[..., None], 3, axis=2)


# --- 8 bits


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("PPM", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ],
)
def test_lossless_formats_give_back_the_pixels(kind: str, options: dict[str, object]) -> None:
    np.testing.assert_array_equal(rgb_pixels(encoded(scene(), kind, **options)), scene())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("short_side", [0, 1000])
def test_lossy_formats_come_close(kind: str, short_side: int) -> None:
    found = rgb_pixels(encoded(scene(), kind, quality=95), short_side=short_side)
    assert np.abs(found.astype(int) - scene()).mean() < 3


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_opencv_reads_a_jpeg_as_pil_does(mode: str, options: dict[str, object]) -> None:
    data = encoded(Image.fromarray(scene()).convert(mode), "JPEG", **options)
    np.testing.assert_array_equal(
        rgb_pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    )


def test_bytes_after_a_jpeg_s_end_do_no_harm() -> None:
    data = encoded(scene(), "JPEG")
    for more in (b"\0\0", b"trailer", encoded(255 - scene(), "JPEG")):
        np.testing.assert_array_equal(rgb_pixels(data + more), rgb_pixels(data))


def test_grey_palette_and_black_and_white(tmp_path: Path) -> None:
    x = scene()
    one = x[..., 2]
    np.testing.assert_array_equal(rgb_pixels(encoded(one, "PNG")), grey(one))
    np.testing.assert_array_equal(rgb_pixels(encoded(one, "TIFF")), grey(one))
    palette = Image.fromarray(x).quantize(64)
    for kind in ("PNG", "GIF", "BMP"):
        np.testing.assert_array_equal(
            rgb_pixels(encoded(palette, kind)), np.asarray(palette.convert("RGB"))
        )
    bits = encoded(Image.fromarray(one > 127), "PNG")
    np.testing.assert_array_equal(rgb_pixels(bits), grey((one > 127) * np.uint8(255)))
    white_is_zero = tiff(255 - one, photometric="miniswhite")
    np.testing.assert_array_equal(rgb_pixels(white_is_zero), grey(one))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_not_inverted(kind: str) -> None:
    """PIL's CMYK of an RGB picture has C = 255 - R and no K, so that the way back is known."""
    cmyk = Image.fromarray(scene()).convert("CMYK")
    found = rgb_pixels(encoded(cmyk, kind, **({"quality": 95} if kind == "JPEG" else {})))
    assert np.abs(found.astype(int) - scene()).mean() < (3 if kind == "JPEG" else 1e-9)


def test_planes_one_after_the_other() -> None:
    np.testing.assert_array_equal(
        rgb_pixels(tiff(np.moveaxis(scene(), -1, 0), planarconfig="separate")), scene()
    )


def test_the_first_of_several_frames() -> None:
    frames = [Image.fromarray(scene()), Image.fromarray(255 - scene())]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(rgb_pixels(data), scene())


# --- alpha


def over_white(rgb: Array, alpha: Array) -> Array:
    """x a + 255 (1 - a), in float64."""
    a = alpha[..., None] / 255
    return rgb * a + 255 * (1 - a)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparent_pixels_lie_over_white(kind: str) -> None:
    alpha = np.rint(np.linspace(0, 255, H * W)).astype(np.uint8).reshape(H, W)
    data = encoded(
        np.dstack([scene(), alpha]),
        kind,
        **({"lossless": True, "exact": True} if kind == "WEBP" else {}),
    )
    assert np.abs(rgb_pixels(data) - over_white(scene(), alpha)).max() <= 0.5


def test_grey_with_alpha_and_transparent_palette_entries() -> None:
    x, alpha = scene()[..., 0], scene()[..., 1]
    data = encoded(Image.merge("LA", [Image.fromarray(x), Image.fromarray(alpha)]), "PNG")
    assert np.abs(rgb_pixels(data) - over_white(grey(x), alpha)).max() <= 0.5
    palette = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2), "L").convert("P")
    palette.putpalette([10, 20, 30] * 4)
    want = [[[10, 20, 30], [255, 255, 255]], [[10, 20, 30], [10, 20, 30]]]
    for kind in ("PNG", "GIF"):
        assert rgb_pixels(encoded(palette, kind, transparency=1)).tolist() == want
    keyed = encoded(np.uint8([[[1, 2, 3], [4, 5, 6]]]), "PNG", transparency=(4, 5, 6))
    assert rgb_pixels(keyed).tolist() == [[[1, 2, 3], [255, 255, 255]]]


# --- EXIF


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "PNG16", "TIFF16", "TIFFfloat"])
def test_exif_orientation_is_honoured(kind: str, turn: int, tmp_path: Path) -> None:
    """The file's pixels, turned by PIL's own exif_transpose, are what must come back."""
    exif = Image.Exif()
    exif[0x0112] = turn
    plain = Image.fromarray(scene())
    plain.info["exif"] = exif.tobytes()
    plain._exif = exif  # type: ignore[attr-defined]
    want = np.asarray(ImageOps.exif_transpose(plain))
    assert want.shape == ((H, W, 3) if turn < 5 else (W, H, 3))
    tag = [(274, "H", 1, turn, True)]
    if kind == "PNG16":
        data = encoded(Image.fromarray(scene()[..., 0].astype(np.uint16) * 257), "PNG", exif=exif)
        want = grey(want[..., 0])
    elif kind == "TIFF16":
        data = tiff(scene().astype(np.uint16) * 257, extratags=tag)
    elif kind == "TIFFfloat":
        data = tiff(scene().astype(np.float32) / 255, extratags=tag)
    else:
        options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
        data = encoded(scene(), kind, exif=exif, **options)
    found = rgb_pixels(data)
    assert found.shape == want.shape and found.flags.c_contiguous
    assert np.abs(found.astype(int) - want).mean() < (3 if kind == "JPEG" else 1e-9)
    (tmp_path / "x").write_bytes(data)
    assert decoded_size(tmp_path / "x") == want.shape[:2]


@pytest.mark.parametrize("block", [b"garbage!" + bytes(8), b"II*\0\xff\xff\xff\xff", b""])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "JPEG by PIL", "WEBP"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_exif_block_leaves_whole_pixels_upright(kind: str, block: bytes) -> None:
    # dpi: a JPEG without it has had its EXIF asked for them on opening, and PIL tells of damage but
    # once
    data = encoded(scene(), kind.split()[0], exif=b"Exif\0\0" + block, dpi=(72, 72))
    data += b"more" if kind == "JPEG by PIL" else b""  # OpenCV is given no such files
    with Image.open(io.BytesIO(data)) as image:
        want = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(rgb_pixels(data) - want).mean() < 1
    assert (kind_of(data).width, kind_of(data).height) == (W, H)


# --- more than 8 bits


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("how", ["png", "raw", "zlib", "lzw", "big-endian", "planes"])
def test_16_bits_that_use_their_range_equal_the_8_bit_picture(how: str, colour: bool) -> None:
    eight = scene() if colour else scene()[..., 0]
    x = eight.astype(np.uint16) * 257
    if how == "planes":
        data = tiff(np.moveaxis(x, -1, 0), planarconfig="separate") if colour else tiff(x)
    elif how in ("png", "lzw"):
        data = opencv(x, ".png" if how == "png" else ".tif")  # OpenCV's TIFFs are LZW
    else:
        data = tiff(
            x, **{"zlib": {"compression": "zlib"}, "big-endian": {"byteorder": ">"}}.get(how, {})
        )
    np.testing.assert_array_equal(rgb_pixels(data), eight if colour else grey(eight))


def test_16_bits_in_pgm_and_ppm() -> None:
    """Twice as dark as the range: not stretched."""
    x = scene() // 2
    for eight, suffix in ((x, ".ppm"), (x[..., 0], ".pgm")):
        found = rgb_pixels(opencv(eight.astype(np.uint16) * 257, suffix))
        np.testing.assert_array_equal(found, eight if eight.ndim == 3 else grey(eight))


def test_16_bits_where_zero_is_white() -> None:
    x = scene()[..., 0]
    data = tiff((255 - x).astype(np.uint16) * 257, photometric="miniswhite")
    np.testing.assert_array_equal(rgb_pixels(data), grey(x))


@pytest.mark.parametrize("how", ["png", "tiff"])
def test_16_bits_with_alpha(how: str) -> None:
    alpha = np.rint(np.linspace(0, 255, H * W)).astype(np.uint8).reshape(H, W)
    x = np.dstack([scene(), alpha]).astype(np.uint16) * 257
    data = opencv(x, ".png") if how == "png" else tiff(x, extrasamples=["unassalpha"])
    assert np.abs(rgb_pixels(data) - over_white(scene(), alpha)).max() <= 1


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("write", [tiff, lambda x: opencv(x, ".png")])
def test_a_microscope_s_few_bits_of_16_are_not_black(bits: int, write) -> None:  # type: ignore[no-untyped-def]
    """A camera's offset of 100 and its few bits are stretched by the picture's own percentiles."""
    x = np.linspace(100, 2**bits - 1, H * W).astype(np.uint16).reshape(H, W)
    found = rgb_pixels(write(x))
    want = grey(np.rint(np.linspace(0, 255, H * W)).reshape(H, W))
    assert np.abs(found - want).max() <= 1.5 + 255 / (2**bits - 100)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("colour", [False, True])
def test_floats_in_the_unit_range_keep_it(dtype: type, colour: bool) -> None:
    eight = scene() if colour else scene()[..., 0]
    found = rgb_pixels(tiff((eight / 255).astype(dtype)))
    assert np.abs(found - (eight if colour else grey(eight)).astype(float)).max() <= (
        1 if dtype == np.float16 else 0
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, np.uint32])
def test_other_ranges_are_the_picture_s_own(dtype: type) -> None:
    x = np.linspace(
        -300 if dtype != np.uint32 else 4e9, 900 if dtype != np.uint32 else 4.2e9, H * W
    )
    found = rgb_pixels(tiff(x.reshape(H, W).astype(dtype)))[..., 0].astype(float)
    assert np.abs(found - np.linspace(0, 255, H * W).reshape(H, W)).max() <= 1.5


def test_constant_sparse_and_unfinished_pictures() -> None:
    assert (to_8bit(np.full((4, 5), 32768, np.uint16)) == 128).all()
    assert (to_8bit(np.full((4, 5), 2570, np.uint16)) == 10).all()
    assert (to_8bit(np.full((4, 5), 0.5)) == 128).all()
    assert (to_8bit(np.full((4, 5), 7e9)) == 0).all()
    stars = np.zeros((100, 100), np.uint16)
    stars[3, 4], stars[50, 60] = 1000, 500  # both percentiles are 0
    found = to_8bit(stars)
    assert (found[3, 4], found[50, 60], found.sum()) == (255, 128, 255 + 128)
    odd = np.array([[0, 0.5, 1], [np.nan, np.inf, -np.inf]], np.float32)
    assert to_8bit(odd).tolist() == [[0, 128, 255], [0, 0, 0]]
    assert (to_8bit(np.full((2, 2), np.nan)) == 0).all()


# --- what is broken


def bomb() -> bytes:
    """A PNG of 40,000 x 40,000 pixels in 57 bytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


BROKEN = {
    "empty": (b"", "the file is empty"),
    "text": (b"<html>404</html>", "no image format.*<html>"),
    "bomb": (bomb(), "decompression bomb"),
    "five channels": (
        tiff(np.zeros((8, 9, 5), np.uint16), photometric="minisblack", planarconfig="contig"),
        "5 channels",
    ),
    "header alone": (encoded(scene(), "JPEG")[:4], "no image format|truncated"),
    "cut TIFF": (tiff(scene().astype(np.uint16)[..., 0] * 257)[:600], "failed to read|truncated"),
    "cut float": (tiff(scene() / 255)[:600], "failed to read|truncated"),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_file_says_what_is_wrong(name: str, tmp_path: Path) -> None:
    data, reason = BROKEN[name]
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=reason) as caught:
        decode(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "PNG16"])
@pytest.mark.parametrize("short_side", [0, 8])
def test_a_truncated_file_is_broken_in_every_format(
    kind: str, short_side: int, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    data = (
        opencv(noise.astype(np.uint16) * 257, ".png") if kind == "PNG16" else encoded(noise, kind)
    )
    for part in (0.3, 0.6, 0.9):
        path = tmp_path / "x"
        path.write_bytes(data[: int(part * len(data))])
        with pytest.raises(ImageError):
            decode(path, short_side=short_side)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"absent\.jpg: No such file"):
        decode(tmp_path / "absent.jpg")
    with pytest.raises(ImageError, match="directory"):
        decode(tmp_path)


def test_no_damage_raises_anything_else(tmp_path: Path) -> None:
    """Random bytes written over valid files: an image or an ImageError, never another exception."""
    rng = np.random.default_rng(0)
    files = [encoded(scene(), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP")]
    files += [
        tiff(scene()),
        tiff(scene().astype(np.uint16)),
        opencv(scene().astype(np.uint16) * 257, ".png"),
    ]
    path = tmp_path / "x"
    broken = 0
    for data in files:
        for _ in range(40):
            damaged = bytearray(data)
            for at in rng.integers(0, min(len(data), 400), 4):
                damaged[at] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                assert decode(path).ndim == 3
            except ImageError:
                broken += 1
    assert broken > 40


# --- shrunk


def photograph(size: tuple[int, int]) -> Image.Image:
    """Noise whose amplitude falls with frequency, as a photograph's does."""
    rng, x = np.random.default_rng(0), np.full((size[1], size[0], 3), 128.0)
    for n in (4, 8, 16, 32, 64, 128, 256):
        layer = rng.integers(0, 256, (n, n, 3)).astype(np.uint8)
        x += (np.asarray(Image.fromarray(layer).resize(size), np.float64) - 128) * 2 / n
    return Image.fromarray(np.clip(x, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("size", [(640, 480), (481, 643), (1000, 130), (99, 99)])
@pytest.mark.parametrize("short", [1, 32, 65, 120, 130, 240, 481, 5000])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_short_side_is_met_and_never_enlarged(
    size: tuple[int, int], short: int, kind: str
) -> None:
    h, w = rgb_pixels(encoded(Image.fromarray(scene()).resize(size), kind), short_side=short).shape[
        :2
    ]
    assert (w, h) == shrunk_size(*size, short)
    assert min(h, w) == min(short, *size)
    assert abs(w / h - size[0] / size[1]) * h <= 0.5 * (1 + size[0] / size[1])  # a rounding of each


def test_shrinking_is_the_mean_over_areas() -> None:
    x = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    want = x.reshape(15, 4, 20, 4, 3).mean((1, 3))
    for data in (encoded(x, "PNG"), tiff(x.astype(np.uint16) * 257)):
        assert np.abs(rgb_pixels(data, short_side=15) - want).max() <= 0.51


@pytest.mark.parametrize("short", [30, 47, 60, 100])
@pytest.mark.parametrize("turn", [1, 6])
def test_a_jpeg_decoded_at_a_fraction_looks_the_same(short: int, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encoded(photograph((643, 480)), "JPEG", quality=90, exif=exif)
    found = rgb_pixels(data, short_side=short).astype(float)
    full = rgb_pixels(data)
    want = cv2.resize(full, found.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert (found.shape[0] > found.shape[1]) == (turn == 6)
    assert np.abs(found - want).mean() < 1.5 and np.abs(found.mean() - want.mean()) < 0.5
