"""genseg measure of images that are read by windows: the table is that of the whole image."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from coco_made import write_json

import genseg
import genseg.data.regions.opened as opened
import genseg.data.regions.originals as originals
import genseg.data.regions.tiff as tiff
from genseg.data.images.files import list_images
from genseg.data.instances.coco import annotation
from genseg.data.instances.instance import Instance
from genseg.workflows.vectors.embed import open_view

HEIGHT, WIDTH = 700, 1300


def some_instances(rng: np.random.Generator) -> list[Instance]:
    """Discs of all sizes, in no order, that overlap, lie over squares and touch borders."""
    found = []
    for r in [300, *rng.integers(2, 40, 80).tolist()]:
        y, x = np.mgrid[-r : r + 1, -r : r + 1]
        mask = (np.hypot(y, x) <= r).astype(np.uint8) * 255
        top, left = int(rng.integers(0, HEIGHT - 2 * r)), int(rng.integers(0, WIDTH - 2 * r))
        found.append(Instance(mask, top, left, float(rng.random())))
    corner = Instance(np.full((9, 7), 255, np.uint8), HEIGHT - 9, WIDTH - 7, 0.5)
    return [*found, corner]


def write_set(root: Path, name: str) -> tuple[Path, np.ndarray]:
    """A json of an image, and the values that it is to have."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 65536, (HEIGHT, WIDTH, 2)).astype(np.uint16)
    image = {"id": 1, "file_name": name, "height": HEIGHT, "width": WIDTH}
    notes = [
        annotation(a, number=n, image=1, height=HEIGHT, width=WIDTH) | {"category_id": 3}
        for n, a in enumerate(some_instances(rng), start=1)
    ]
    return write_json(root, notes, [image]), values


def write_tiff(file: Path, values: np.ndarray, **more: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    said = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}, "PhysicalSizeX": 0.5}
    tifffile.imwrite(
        file, np.moveaxis(values, -1, 0), metadata={**said, "PhysicalSizeY": 0.5}, **more
    )


def tables(source: Path, out: Path) -> tuple[str, str]:
    result = genseg.measure_instances(source, out)
    assert not result.broken
    return result.table.read_text(), result.image_table.read_text()


@pytest.mark.parametrize("tile", [None, (256, 128)])
def test_a_tiff_by_windows_has_the_table_of_the_whole(
    tile: tuple[int, int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, values = write_set(tmp_path, "a.ome.tif")
    more = {"rowsperstrip": 50} if tile is None else {"tile": tile}
    write_tiff(tmp_path / "images/a.ome.tif", values, compression="zlib", **more)
    whole = tables(source, tmp_path / "whole.csv")
    monkeypatch.delattr(originals, "read_original")
    for module, limit in ((opened, "LARGE"), (originals, "MOST_WHOLE")):  # of pixels, of bytes
        with monkeypatch.context() as context:
            context.setattr(module, limit, 1000)
            assert tables(source, tmp_path / "windows.csv") == whole
    assert len(whole[0].splitlines()) == 83 and "dapi_mean" in whole[0]
    covered = np.zeros((HEIGHT, WIDTH), bool)
    for a in some_instances_of(source):
        covered |= a
    header, row = (line.split(",") for line in whole[1].splitlines())
    assert float(row[header.index("area_share")]) == pytest.approx(covered.mean())


def some_instances_of(source: Path) -> list[np.ndarray]:
    from pycocotools.coco import COCO

    coco = COCO(str(source))
    return [coco.annToMask(a).astype(bool) for a in coco.anns.values()]


@pytest.mark.parametrize("kind", ["palette", "CMYK", "turned"])
def test_a_large_tiff_without_windows_is_read_whole(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was refused once large images were read by windows."""
    shape = (60, 80, 4) if kind == "CMYK" else (60, 80)
    x = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    colours = np.random.default_rng(1).integers(0, 65536, (3, 256)).astype(np.uint16)
    more: dict[str, Any] = {
        "palette": {"photometric": "palette", "colormap": colours},
        "CMYK": {"photometric": "separated"},
        "turned": {"extratags": [(274, 3, 1, 3, True)]},
    }[kind]
    (tmp_path / "images").mkdir()
    file = tmp_path / "images/a.tif"
    tifffile.imwrite(file, x, **more)
    square = Instance(np.full((30, 30), 255, np.uint8), 10, 20)
    note = annotation(square, number=1, image=1, height=60, width=80) | {"category_id": 3}
    image = {"id": 1, "file_name": "a.tif", "height": 60, "width": 80}
    source = write_json(tmp_path, [note], [image])
    whole = tables(source, tmp_path / "whole.csv")
    pixels, view = opened.pixels_of(file)[:, :], open_view(list_images(file), 0, 32)
    decoded = list[Path]()
    read = originals.read_original
    monkeypatch.setattr(
        originals, "read_original", lambda path, **how: decoded.append(path) or read(path, **how)
    )
    monkeypatch.setattr(originals, "MOST_WHOLE", 1000)
    with monkeypatch.context() as once:
        once.delattr(opened, "decode")
        assert tables(source, tmp_path / "much.csv") == whole
        once.setattr(opened, "LARGE", 1000)
        assert tables(source, tmp_path / "large.csv") == whole
    assert decoded == [file, file]
    monkeypatch.setattr(opened, "LARGE", 1000)
    assert np.array_equal(opened.pixels_of(file)[:, :], pixels)
    assert np.array_equal(open_view(list_images(file), 0, 32), view)


def test_a_zarr_has_the_table_of_the_array(tmp_path: Path) -> None:
    """It was refused."""
    zarr = pytest.importorskip("zarr")
    (tmp_path / "array").mkdir()
    (tmp_path / "zarr/images").mkdir(parents=True)
    array_source, values = write_set(tmp_path / "array", "a.npy")
    (tmp_path / "array/images").mkdir()
    np.save(tmp_path / "array/images/a.npy", values)
    zarr_source, _ = write_set(tmp_path / "zarr", "a.zarr")
    array = zarr.create_array(
        str(tmp_path / "zarr/images/a.zarr"), shape=values.shape, chunks=(300, 400, 2), dtype="u2"
    )
    array[:] = values
    of_array = tables(array_source, tmp_path / "array.csv")
    of_zarr = tables(zarr_source, tmp_path / "zarr.csv")
    assert [t.replace("a.zarr", "a.npy") for t in of_zarr] == list(of_array)
    assert "channel_2_sd" in of_zarr[0]


def test_parquet_keeps_the_order_of_the_json(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    source, values = write_set(tmp_path, "a.ome.tif")
    write_tiff(tmp_path / "images/a.ome.tif", values)
    result = genseg.measure_instances(source, tmp_path / "t.parquet")
    rows = parquet.read_table(result.table).to_pylist()
    assert [row["id"] for row in rows] == list(range(1, 83))
    assert [row["area_px"] for row in rows] == result.areas.tolist()


def test_what_is_damaged_further_down_leaves_the_shapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, values = write_set(tmp_path, "a.ome.tif")
    for name in ("a", "b"):
        write_tiff(tmp_path / f"images/{name}.ome.tif", values, compression="zlib", rowsperstrip=50)
    damaged = tmp_path / "images/a.ome.tif"
    with tifffile.TiffFile(damaged) as file:
        page = file.pages[1]
        place, size = page.dataoffsets[-1], page.databytecounts[-1]
    data = bytearray(damaged.read_bytes())
    data[place : place + size] = bytes(size)
    damaged.write_bytes(data)
    content = source.read_text().replace('"images": [', '"images": [' + SECOND + ", ")
    source.write_text(content)
    monkeypatch.setattr(opened, "LARGE", 1000)
    result = genseg.measure_instances(source, tmp_path / "t.csv")
    assert len(result.broken) == 1 and "a.ome.tif" in result.broken[0]
    assert result.instances == 82 and 0 < np.isnan(result.values).sum() < 82


SECOND = '{"id": 2, "file_name": "b.ome.tif", "height": 700, "width": 1300}'


def test_memory_does_not_grow_with_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 72 MB a row of squares is held, and what is decoded of it."""
    monkeypatch.setattr(opened, "LARGE", 1000)
    monkeypatch.setattr(tiff, "MOST_DECODED", 2**20)
    side, square = 6000, np.full((30, 30), 255, np.uint8)
    (tmp_path / "images").mkdir()
    x = np.zeros((side, side), np.uint16)
    tifffile.imwrite(tmp_path / "images/x.tif", x, tile=(256, 256), compression="zlib")
    del x
    corners = np.random.default_rng(1).integers(0, side - 30, (50, 2)).tolist()
    notes = [
        annotation(Instance(square, y, x), number=n, image=1, height=side, width=side)
        | {"category_id": 3}
        for n, (y, x) in enumerate(corners)
    ]
    image = {"id": 1, "file_name": "x.tif", "height": side, "width": side}
    source = write_json(tmp_path, notes, [image])
    tracemalloc.start()
    assert genseg.measure_instances(source, tmp_path / "t.csv").instances == 50
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24, peak
