"""Label images as other tools write them, read and written."""

import builtins
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from genseg.data.images.coco_files import CocoError
from genseg.data.instances.label_image import (
    Resolution,
    instances_of,
    label_file,
    read_label_image,
    resolution_of,
    write_label_image,
)

NUMBERS = np.zeros((12, 16), int)
NUMBERS[1:4, 2:6], NUMBERS[6:9, 1:5], NUMBERS[6:10, 9:14] = 1, 2, 7


@pytest.mark.parametrize(
    "options", [{}, {"photometric": "miniswhite"}, {"bigtiff": True}, {"byteorder": ">"}]
)
@pytest.mark.parametrize("packed", [None, "lzw", "zlib", "zstd"])
@pytest.mark.parametrize(
    "dtype",
    [
        "uint8",
        "int8",
        "uint16",
        "int16",
        "uint32",
        "int32",
        "uint64",
        "int64",
        "float32",
        "float64",
    ],
)
def test_every_type_of_whole_numbers(
    dtype: str, packed: str | None, options: dict[str, Any], tmp_path: Path
) -> None:
    if np.dtype(dtype).kind == "f" and "photometric" in options:
        pytest.skip("tifffile writes no such floats")
    tifffile.imwrite(tmp_path / "a.tif", NUMBERS.astype(dtype), compression=packed, **options)
    found = read_label_image(tmp_path / "a.tif")
    assert (found.numbers == NUMBERS).all() and found.pages == 1 and not found.binary
    assert [a.area for a in instances_of(found.numbers)] == [12, 12, 20]


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "float32"])
def test_negative_numbers_are_refused_in_every_type(dtype: str, tmp_path: Path) -> None:
    numbers = NUMBERS.astype(dtype)
    numbers[0, 0] = -1
    tifffile.imwrite(tmp_path / "a.tif", numbers)
    with pytest.raises(
        CocoError, match="a.tif: it holds -1; instances are 1, 2, ..., and 0 is background"
    ):
        read_label_image(tmp_path / "a.tif")


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_fractions_are_no_labels(value: float, tmp_path: Path) -> None:
    numbers = NUMBERS.astype("float32")
    numbers[0, 0] = value
    tifffile.imwrite(tmp_path / "a.tif", numbers)
    with pytest.raises(
        CocoError, match=f"it holds {value:g}, and a label image whole numbers.*astype"
    ):
        read_label_image(tmp_path / "a.tif")


def test_what_is_no_label_image(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((12, 16, 3), np.uint8), photometric="rgb")
    with pytest.raises(CocoError, match="is grey, each value an instance; got 3 channels"):
        read_label_image(tmp_path / "rgb.tif")
    tifffile.imwrite(tmp_path / "large.tif", np.full((12, 16), 2**63, np.uint64))
    with pytest.raises(CocoError, match="number the instances from 1 on"):
        read_label_image(tmp_path / "large.tif")
    (tmp_path / "no.tif").write_bytes(b"no image")
    with pytest.raises(CocoError, match="no.tif cannot be read"):
        read_label_image(tmp_path / "no.tif")


def test_a_stack_says_how_many_pages_it_has(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([0 * NUMBERS, NUMBERS]).astype(np.uint16))
    found = read_label_image(tmp_path / "a.tif")
    assert found.pages == 2 and not found.numbers.any()


def test_a_mask_in_pieces_looks_like_a_mask(tmp_path: Path) -> None:
    Image.fromarray(np.uint8(255 * (NUMBERS > 0))).save(tmp_path / "a.png")
    assert read_label_image(tmp_path / "a.png").binary
    Image.fromarray(np.uint8(255 * (NUMBERS == 7))).save(tmp_path / "a.png")
    assert not read_label_image(tmp_path / "a.png").binary, "one piece is one instance"
    Image.fromarray(NUMBERS > 0).save(tmp_path / "a.png")
    assert read_label_image(tmp_path / "a.png").binary


def test_what_is_written_needs_no_further_package_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_label_image(tmp_path / "new/a.tif", NUMBERS, Resolution(3e4, 2e4, 3))
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("imagecodecs"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with tifffile.TiffFile(tmp_path / "new/a.tif") as file:
        page = file.pages.first
        assert page.compression == 8 and page.dtype == np.uint16
        assert page.tags.valueof("XResolution")[0] / page.tags.valueof("XResolution")[1] == 3e4
        assert page.tags.valueof("ResolutionUnit") == 3
    monkeypatch.undo()
    assert (np.asarray(Image.open(tmp_path / "new/a.tif")) == NUMBERS).all()


def test_the_size_of_pixels_is_passed_on(tmp_path: Path) -> None:
    x = np.zeros((12, 16), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", x, resolution=(300, 200), resolutionunit=2)
    assert resolution_of(tmp_path / "a.tif") == Resolution(300, 200, 2)
    tifffile.imwrite(
        tmp_path / "j.tif", x, imagej=True, resolution=(2.5, 2.5), metadata={"unit": "um"}
    )
    found = resolution_of(tmp_path / "j.tif")
    assert found is not None and found.across == 2.5 and "unit=um" in found.description
    write_label_image(tmp_path / "labels.tif", NUMBERS, found)
    assert resolution_of(tmp_path / "labels.tif") == found, "Fiji reads the unit again"
    tifffile.imwrite(
        tmp_path / "o.ome.tif",
        x,
        metadata={"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25},
    )
    assert resolution_of(tmp_path / "o.ome.tif") == Resolution(2e4, 4e4, 3, physical=True)
    for unit, factor in (("nm", 1e3), ("mm", 1e-3), ("µm", 1.0)):
        units = {f"PhysicalSize{a}Unit": unit for a in "XY"}
        sizes = {"PhysicalSizeX": 0.5 * factor, "PhysicalSizeY": 0.25 * factor}
        tifffile.imwrite(tmp_path / "u.ome.tif", x, metadata={"axes": "YX", **sizes, **units})
        found = resolution_of(tmp_path / "u.ome.tif")
        assert found is not None and found.micrometres == pytest.approx((0.25, 0.5)), unit
    Image.fromarray(np.uint8(x)).save(tmp_path / "p.png", dpi=(254, 254))
    found = resolution_of(tmp_path / "p.png")
    assert found is not None and found.across == pytest.approx(254, abs=0.01) and found.unit == 2
    file = io.BytesIO()
    Image.fromarray(np.uint8(x)).save(file, "PNG")
    (tmp_path / "n.png").write_bytes(file.getvalue())
    assert (
        resolution_of(tmp_path / "n.png") is None
        and resolution_of(tmp_path / "nowhere.tif") is None
    )


def test_files_that_keep_the_image_s_suffix_come_first(tmp_path: Path) -> None:
    for name in ("leaf.png.tif", "leaf.tif", "stem_masks.png"):
        (tmp_path / name).touch()
    assert label_file(tmp_path, "leaf.png") == tmp_path / "leaf.png.tif"
    assert label_file(tmp_path, "leaf.jpg") == tmp_path / "leaf.tif"
    assert label_file(tmp_path, "stem.jpg") == tmp_path / "stem_masks.png"
    assert label_file(tmp_path, "root.jpg") is None
