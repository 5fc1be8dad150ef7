"""Windows of files are those of the whole image, in the file's own bits."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import genseg.data.regions.opened as opened
from genseg.core.reading import Reading, reading
from genseg.data.images.files import list_images
from genseg.data.images.original import read_original
from genseg.data.images.source import ImageError, decode
from genseg.data.regions.image import RegionImage, checked_window
from genseg.data.regions.opened import open_regions, open_scene, open_small
from genseg.data.regions.scope import Scope
from genseg.workflows.labels.scan import scan
from genseg.workflows.vectors.embed import open_view

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 65536, (150, 170)).astype(np.uint16)
RGB = RNG.integers(0, 256, (150, 170, 3)).astype(np.uint8)


def windows_are_those_of(image: RegionImage, whole: np.ndarray, level: int = 0) -> None:
    """Random windows, the corners and all of it."""
    rng = np.random.default_rng(1)
    h, w = image.levels[level]
    assert whole.shape[:2] == (h, w)
    places = [(0, 0, h, w), (h - 1, w - 1, 1, 1)]
    for _ in range(20):
        height, width = int(rng.integers(1, h + 1)), int(rng.integers(1, w + 1))
        top, left = int(rng.integers(0, h - height + 1)), int(rng.integers(0, w - width + 1))
        places.append((top, left, height, width))
    for top, left, height, width in places:
        x = image.read(top, left, height, width, level)
        assert x.dtype == whole.dtype and x.dtype.isnative
        assert np.array_equal(x, whole[top : top + height, left : left + width])


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("tile", [None, (32, 48)])
def test_a_tiff_of_any_layout(
    tmp_path: Path, tile: tuple[int, int] | None, compression: str | None, byteorder: str
) -> None:
    for name, x in {"grey": GREY, "rgb": RGB}.items():
        file = tmp_path / f"{name}.tif"
        more = {} if tile else {"rowsperstrip": 7}
        kind = "rgb" if x.ndim == 3 else "minisblack"
        tifffile.imwrite(
            file,
            x,
            photometric=kind,
            tile=tile,
            compression=compression,
            byteorder=byteorder,
            bigtiff=compression == "lzw",
            **more,
        )
        windows_are_those_of(open_regions(file), np.atleast_3d(x))


@pytest.mark.parametrize("tile", [None, (32, 48)])
def test_channels_in_planes_of_their_own(tmp_path: Path, tile: tuple[int, int] | None) -> None:
    for compression in (None, "zlib"):
        file = tmp_path / "planar.tif"
        planes = np.moveaxis(RGB, -1, 0)
        tifffile.imwrite(
            file,
            planes,
            photometric="rgb",
            planarconfig="separate",
            tile=tile,
            compression=compression,
        )
        windows_are_those_of(open_regions(file), RGB)


def test_channels_and_pages_of_a_stack_are_chosen(tmp_path: Path) -> None:
    """Compressed and not, as OME and as ImageJ have them."""
    x = RNG.integers(0, 4096, (3, 2, 60, 70)).astype(np.uint16)  # z, channels
    for n, more in enumerate(
        (
            {"ome": True, "compression": "zlib", "tile": (32, 32)},
            {"ome": True},
            {"imagej": True},
        )
    ):
        file = tmp_path / f"{n}.tif"
        tifffile.imwrite(file, x, metadata={"axes": "ZCYX"}, photometric="minisblack", **more)
        image = open_regions(file, Reading("2,1", "max"))
        windows_are_those_of(image, np.moveaxis(x[:, ::-1].max(0), 0, -1))
        image = open_regions(file, Reading("1", "3"))
        windows_are_those_of(image, x[2, 0][..., None])
        with pytest.raises(ImageError, match="say what to use"):
            open_regions(file)


def test_levels_of_a_pyramid(tmp_path: Path) -> None:
    """As sub-images, and as further pages marked as reduced, which is how GDAL writes them."""
    small, smaller = RGB[::2, ::2], RGB[::4, ::4]
    with tifffile.TiffWriter(tmp_path / "sub.tif") as file:
        file.write(RGB, subifds=2, tile=(32, 32), photometric="rgb")
        for level in (small, smaller):
            file.write(level, subfiletype=1, tile=(32, 32), photometric="rgb")
    with tifffile.TiffWriter(tmp_path / "pages.tif") as file:
        file.write(RGB, tile=(32, 32), photometric="rgb", metadata=None)
        for level in (small, smaller):
            file.write(level, subfiletype=1, tile=(32, 32), photometric="rgb", metadata=None)
    for name in ("sub.tif", "pages.tif"):
        image = open_regions(tmp_path / name)
        for n, level in enumerate((RGB, small, smaller)):
            windows_are_those_of(image, level, n)


def test_a_view_of_a_large_image_is_that_of_the_decoded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is taken from the smallest level of a pyramid that is large enough."""
    file = tmp_path / "x.tif"
    for x in (RGB, GREY):
        kind = "rgb" if x.ndim == 3 else "minisblack"
        tifffile.imwrite(file, x, photometric=kind, tile=(32, 48), compression="zlib")
        for size in (64, 150, 200):
            whole = open_view(list_images(file), 0, size)
            with monkeypatch.context() as context:
                context.setattr(opened, "LARGE", 1000)
                context.delattr(opened, "decode_image")
                assert np.array_equal(open_view(list_images(file), 0, size), whole)
    with tifffile.TiffWriter(file) as pyramid:
        pyramid.write(GREY, subifds=2, tile=(32, 32))
        for step in (2, 4):
            level = np.ascontiguousarray(GREY[::step, ::step] // 3)
            pyramid.write(level, subfiletype=1, tile=(32, 32))
    scene, size = open_small(file, 60)
    assert size == (150, 170) and scene.size == (75, 85)
    tifffile.imwrite(tmp_path / "level.tif", GREY[::2, ::2] // 3)
    assert np.array_equal(scene[:, :], decode(tmp_path / "level.tif"))
    assert open_small(file, 150)[0].size == (150, 170) == open_small(file, 999)[0].size


def test_an_ome_zarr_and_a_zarr_array(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    x = RNG.integers(0, 4096, (2, 90, 80)).astype(np.uint16)
    group = zarr.open_group(str(tmp_path / "ome.zarr"), mode="w")
    for n, level in enumerate((x, x[:, ::2, ::2])):
        a = group.create_array(str(n), shape=level.shape, chunks=(1, 32, 32), dtype="uint16")
        a[:] = level
    scale = {"type": "scale", "scale": [1, 0.5, 0.25]}
    space = {"type": "space", "unit": "micrometer"}
    group.attrs["multiscales"] = [
        {
            "axes": [
                {"name": "c", "type": "channel"},
                {"name": "y", **space},
                {"name": "x", **space},
            ],
            "datasets": [
                {"path": "0", "coordinateTransformations": [scale]},
                {"path": "1", "coordinateTransformations": [scale]},
            ],
        }
    ]
    group.attrs["omero"] = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}
    image = open_regions(tmp_path / "ome.zarr", Reading("GFP,1"))
    windows_are_those_of(image, np.moveaxis(x[::-1], 0, -1))
    windows_are_those_of(image, np.moveaxis(x[::-1, ::2, ::2], 0, -1), 1)
    assert image.pixel_size == (0.5, 0.25)
    plain = zarr.create_array(str(tmp_path / "a.zarr"), shape=RGB.shape, dtype="uint8")
    plain[:] = RGB
    windows_are_those_of(open_regions(tmp_path / "a.zarr"), RGB)
    (tmp_path / "none.zarr").mkdir()
    with pytest.raises(ImageError, match=r"none\.zarr: no zarr"):
        open_regions(tmp_path / "none.zarr")


def test_pages_of_a_zarr_are_counted_and_scanned_as_those_of_a_tiff(tmp_path: Path) -> None:
    """It was listed as one image, failed once it was read, and was broken to scan."""
    zarr = pytest.importorskip("zarr")
    x = RNG.integers(0, 4096, (5, 90, 80)).astype(np.uint16)
    zarr.create_array(str(tmp_path / "a.zarr"), shape=x.shape, dtype="uint16")[:] = x
    with pytest.raises(ValueError, match="5 pages.*by --pages max, each"):
        list_images(tmp_path)
    with reading(Reading(pages="each")):
        listed = list_images(tmp_path)
    assert listed.pages == (1, 2, 3, 4, 5)
    page = open_regions(listed.path(3), listed.reading, listed.page(3))
    windows_are_those_of(page, x[3][..., None])
    report = scan(tmp_path)
    assert not report.broken and report.modes == (("grey 16 bit", 1),)
    assert report.widths[0] == 80 and report.held is not None and report.held.refused
    with pytest.raises(ImageError, match="a zarr, which is read by windows: genseg generate"):
        read_original(tmp_path / "a.zarr")


def test_a_slide_by_openslide(tmp_path: Path) -> None:
    """OpenSlide knows a plain tiled TIFF, too."""
    pytest.importorskip("openslide")
    file = tmp_path / "slide.svs"
    x = np.zeros((300, 280, 3), np.uint8)
    x[:150, :140] = (200, 30, 90)
    tifffile.imwrite(file, x, tile=(64, 64), photometric="rgb", compression="zlib")
    windows_are_those_of(open_regions(file), x)
    (tmp_path / "no.svs").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"no\.svs: no slide"):
        open_regions(tmp_path / "no.svs")


def test_a_window_outside_is_refused() -> None:
    assert checked_window((10, 20), 2, 3, 8, 17) == (slice(2, 10), slice(3, 20))
    for window in ((-1, 0, 2, 2), (0, 0, 11, 2), (0, 19, 1, 2), (0, 0, 0, 1)):
        with pytest.raises(ValueError, match="no window of an image of 10 x 20 pixels"):
            checked_window((10, 20), *window)


def depths() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    ramp = np.linspace(0, 1, 150 * 170).reshape(150, 170)
    holes = ramp.astype(np.float32) * 7 - 2
    holes[20:40, 30:90] = np.nan
    return {
        "photograph": rng.integers(0, 65536, (150, 170, 3)).astype(np.uint16),
        "dim": (ramp * 900 + rng.integers(0, 9, ramp.shape)).astype(np.uint16),
        "signed": (ramp * 900 - 300).astype(np.int16),
        "wide": (ramp * 1e6).astype(np.uint32),
        "unit": ramp.astype(np.float32),
        "holes": holes,
        "grey": RGB[..., 0],
        "black": RGB[..., 0] > 99,
        "nibbles": RGB[..., 0] >> 4,
        "transparent": np.dstack([RGB, np.where(ramp > 0.5, 255, 90).astype(np.uint8)]),
    }


@pytest.mark.parametrize("name", list(depths()))
def test_a_scene_has_the_pixels_of_the_decoded_image(tmp_path: Path, name: str) -> None:
    """Of all depths: what becomes black and white is a matter of the whole image."""
    x, file = depths()[name], tmp_path / "x.tif"
    kind = "rgb" if x.ndim == 3 else "minisblack"
    more = {"extrasamples": ["unassalpha"]} if x.shape[2:] == (4,) else {}
    if name == "nibbles":
        tifffile.imwrite(file, x, photometric=kind, bitspersample=4, **more)
        assert np.array_equal(decode(file, reading=Reading("1")), decode(file)[..., :1])
    else:
        tifffile.imwrite(file, x, photometric=kind, tile=(32, 48), compression="zlib", **more)
    whole, scene = decode(file), open_scene(file, Scope())
    assert scene.shape == whole.shape
    assert np.array_equal(scene[:, :], whole)
    assert np.array_equal(scene[31:77, 5:150], whole[31:77, 5:150])


def test_colours_that_windows_have_not_are_decoded(tmp_path: Path) -> None:
    """YCbCr that no codec of photographs makes RGB, and an alpha that is multiplied into the
    colours: windows had other colours than the decoded image."""
    ycbcr = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
    tifffile.imwrite(
        tmp_path / "ycbcr.tif", ycbcr, photometric="ycbcr", subsampling=(1, 1), compression="zlib"
    )
    premultiplied = np.dstack([RGB // 2, np.full(RGB.shape[:2], 128, np.uint8)])
    for name, x in (("one.tif", premultiplied), ("two.tif", premultiplied[None].repeat(2, 0))):
        tifffile.imwrite(
            tmp_path / name, x, photometric="rgb", extrasamples=["assocalpha"], tile=(32, 48)
        )
    for name in ("ycbcr.tif", "one.tif"):
        scene = open_scene(tmp_path / name, Scope())
        assert np.array_equal(scene[:, :], decode(tmp_path / name))
    with pytest.raises(ImageError, match="alpha is multiplied into the colours"):
        decode(tmp_path / "two.tif", reading=Reading(pages="2"))


def test_white_may_be_0(tmp_path: Path) -> None:
    file = tmp_path / "x.tif"
    tifffile.imwrite(file, GREY, photometric="miniswhite", tile=(32, 48), compression="zlib")
    assert np.array_equal(open_scene(file, Scope())[10:80, :], decode(file)[10:80])


def test_a_cut_file_is_told_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "cut.tif"
    tifffile.imwrite(file, RGB, photometric="rgb", tile=(32, 48), compression="zlib")
    file.write_bytes(file.read_bytes()[:-30_000])
    scene = open_scene(file, Scope())
    with pytest.raises(ImageError, match=r"cut\.tif: the file is truncated"):
        scene[:, :]


def scattered(file: Path) -> tuple[RegionImage, np.ndarray]:
    """An image of many small tiles, none of which is kept for long."""
    x = np.random.default_rng(3).integers(0, 256, (512, 512)).astype(np.uint8)
    tifffile.imwrite(file, x, tile=(16, 16), compression="zlib")
    return open_regions(file), x


def wrong(image: RegionImage, x: np.ndarray, seed: int, count: int = 100) -> int:
    """Of some windows, those with other pixels than the file's, or that cannot be read."""
    rng, found = np.random.default_rng(seed), 0
    for top, left in rng.integers(0, 512 - 40, (count, 2)).tolist():
        try:
            part = image.read(top, left, 40, 40)[..., 0]
            found += not np.array_equal(part, x[top : top + 40, left : left + 40])
        except Exception:
            found += 1
    return found


def test_threads_read_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place in the file was moved by one while another read."""
    monkeypatch.setattr("genseg.data.regions.tiff.MOST_DECODED", 1)
    image, x = scattered(tmp_path / "x.tif")
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: wrong(image, x, n), range(8))) == [0] * 8


def test_forked_processes_read_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork here")
    monkeypatch.setattr("genseg.data.regions.tiff.MOST_DECODED", 1)
    image, x = scattered(tmp_path / "x.tif")
    forks = multiprocessing.get_context("fork")
    found = forks.SimpleQueue()
    workers = [
        forks.Process(target=lambda n=n: found.put(wrong(image, x, n, 400))) for n in range(2)
    ]
    for worker in workers:
        worker.start()
    assert [found.get() for _ in workers] == [0, 0]
    for worker in workers:
        worker.join()
