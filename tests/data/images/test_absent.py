"""Pixels without a value, NaN or GDAL's: never pasted, never found, never measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from genseg.core.reading import Reading
from genseg.data.composites.bank import build_bank
from genseg.data.composites.compose import ComposeConfig
from genseg.data.composites.composer import Composer
from genseg.data.images import source
from genseg.data.images.cache import build_cache
from genseg.data.images.files import ImageList, list_images
from genseg.data.images.original import read_original
from genseg.data.images.source import ImageSource, absent_pixels, decode
from genseg.data.instances.instance import Instance, where_known, whole_ones
from genseg.measure.regions import intensities
from genseg.workflows.generate.finder import Wanted
from genseg.workflows.generate.generate import GenerateOptions, generate_folder

RNG = np.random.default_rng(0)


def write(folder: Path) -> np.ndarray:
    """A float image of negative values with a disc, half of which is NaN, and one of whole numbers
    whose nodata is the same half. Returns where there is no value."""
    y, x = np.mgrid[:80, :90]
    values = RNG.normal(-40, 1, (80, 90)).astype(np.float32)
    values[(y - 40) ** 2 + (x - 45) ** 2 < 200] = 60
    values[(y - 20) ** 2 + (x - 15) ** 2 < 60] = 60
    gone = (x >= 45) & (y > 10)
    floats = np.where(gone, np.nan, values).astype(np.float32)
    tifffile.imwrite(folder / "a.tif", floats)
    whole = np.where(gone, 65535, values + 400).astype(np.uint16)
    tag = (42113, 2, 0, "65535", True)
    tifffile.imwrite(folder / "b.tif", whole, extratags=[tag], metadata=None)
    return gone


def test_absent_pixels_count_in_no_range(tmp_path: Path) -> None:
    gone = write(tmp_path)
    for name in "ab":
        file = tmp_path / f"{name}.tif"
        np.testing.assert_array_equal(absent_pixels(file), gone)
        pixels = decode(file)[..., 0]
        assert (pixels[gone] == 0).all()
        assert pixels[40, 40] > 240 and pixels[~gone].min() < 20  # as if it were not there
        one = decode(file, reading=Reading("1"))[..., 0]
        np.testing.assert_array_equal(one, pixels)
    whole = RNG.integers(0, 255, (9, 9, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "c.tif", whole)
    assert absent_pixels(tmp_path / "c.tif") is None


def test_they_are_no_part_of_an_instance_and_of_no_measure(tmp_path: Path) -> None:
    gone = write(tmp_path)
    disc = Instance(np.full((20, 20), 255, np.uint8), 30, 35)
    (left,) = where_known([disc], gone)
    assert left.area == 200 and not (gone[left.window] & left.mask).any()
    assert whole_ones([disc], gone) == [] and whole_ones([disc], None) == [disc]
    assert where_known([Instance(np.full((5, 5), 255, np.uint8), 40, 60)], gone) == []
    for name in "ab":
        found = read_original(tmp_path / f"{name}.tif")
        told = intensities(disc, found.pixels, found.channels, disc, found.absent)
        seen = found.pixels[30:50, 35:45, 0].astype(float)
        assert told["grey_mean"] == seen.mean() and told["grey_max"] == seen.max()
        assert told["grey_alpha_mean"] is not None
        assert abs(told["grey_alpha_mean"] - seen.mean()) < 1e-6


def test_generate_finds_nothing_there(tmp_path: Path) -> None:
    gone = write(tmp_path)
    out = tmp_path.parent / f"{tmp_path.name}-found"
    options = GenerateOptions(wanted=Wanted(min_area=5), alphas=True)
    generate_folder(Path("otsu"), str(tmp_path), out, options, say=lambda note: None)
    found = json.loads((out / "instances.json").read_text())["annotations"]
    assert found
    for file in (out / "alphas").glob("*.png"):
        alpha = decode(file)[..., 0]
        assert not alpha[gone].any()


def test_composites_do_not_trust_them(tmp_path: Path) -> None:
    gone = write(tmp_path)
    images = list_images(tmp_path)
    source = ImageSource(images, build_cache(images, side=40, workers=1))
    small = source.absent(0)
    assert small is not None and small.shape == source.read(0)[0].shape[:2]
    assert abs(small.mean() - gone.mean()) < 0.03
    config = ComposeConfig(size=32, pasted=(0, 0), turn=False, zoom=(0.8, 0.8), photometric=0.0)
    keys = [(epoch, n) for epoch in range(4) for n in range(2)]
    composer = Composer(source, build_bank([[], []]), config, share=1.0, seed=0)
    for one in composer(keys).ignored:
        assert 0.2 < one.float().mean() < 0.7
    composer.images.absent = lambda i: None
    assert not composer(keys).ignored.any()


def test_a_source_keeps_masks_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All were kept, a byte for each pixel."""
    gone = write(tmp_path)
    monkeypatch.setattr(source, "MOST_ABSENT", 80 * 90 // 8)
    images, asked = list_images(tmp_path), list[int]()

    def absent(images: ImageList, i: int) -> np.ndarray | None:
        asked.append(i)
        return source.absent_of(images, i)

    one = ImageSource(images, None, absent=absent)
    for i in (0, 1, 0, 1, 1):
        assert np.array_equal(one.absent(i), gone)
    assert asked == [0, 1, 1, 1]
