"""Whether things are small and repeat, or large and few: of made images, against naive loops, and
as scan tells it."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import genseg
from genseg.cli import main
from genseg.data.proposals import scale
from genseg.data.proposals.scale import (
    ALIKE,
    LOOKED,
    SMALL,
    TILES,
    Scale,
    between_tiles,
    region_side,
    scale_of,
    spread_over,
)

SIZE = 96


def grounds(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(20, 60, (SIZE, SIZE, 3), np.uint8)


def many(seed: int) -> np.ndarray:
    """Small discs, one in each cell of a grid."""
    picture, rng = grounds(seed), np.random.default_rng(seed)
    for y in range(8, SIZE, 16):
        for x in range(8, SIZE, 16):
            at = (x + int(rng.integers(-2, 3)), y + int(rng.integers(-2, 3)))
            cv2.circle(picture, at, 5, (210, 190, 80), -1)
    return picture


def few(seed: int) -> np.ndarray:
    """One large disc."""
    picture, rng = grounds(seed), np.random.default_rng(seed)
    y, x = (int(v) for v in rng.integers(36, 60, 2))
    cv2.circle(picture, (x, y), 28, (210, 190, 80), -1)
    return picture


def test_small_things_that_repeat_are_told_from_large_ones() -> None:
    small, large = (scale_of([make(n) for n in range(2)]) for make in (many, few))
    assert small is not None and large is not None
    assert not small.large and small.side < SMALL and small.between < ALIKE
    assert large.large and large.side > SMALL and large.between > ALIKE
    assert small.sure and large.sure and small.images == 2
    assert "things small and repeat:" in str(small) and str(small).endswith("recipe: alpha")
    assert "things large and few:" in str(large) and "photos_alpha" in str(large)
    assert scale_of([many(n) for n in range(2)]) == small  # nothing is drawn by chance


def test_small_things_on_an_uneven_ground_are_still_small() -> None:
    light = np.linspace(0.2, 1, SIZE)[None, :, None] * np.linspace(0.2, 1, SIZE)[:, None, None]
    found = scale_of([(many(n) * light).astype(np.uint8) // 2 + 20 for n in range(1)])
    assert found is not None and not found.large


def test_the_part_between_tiles_is_that_of_a_naive_loop() -> None:
    picture = few(0)[:, :88]  # tiles of 24 x 22 pixels
    height, width = (n // TILES for n in picture.shape[:2])
    total = between = 0.0
    for c in range(3):
        channel = picture[..., c].astype(float)
        total += channel.var()
        means = [
            channel[y * height : (y + 1) * height, x * width : (x + 1) * width].mean()
            for y in range(TILES)
            for x in range(TILES)
        ]
        between += float(np.var(means))
    assert between_tiles(picture) == pytest.approx(between / total, rel=1e-6)


def test_its_ends_are_tiles_of_one_colour_and_pixels_alone() -> None:
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 256, (TILES, TILES, 3), np.uint8)
    assert between_tiles(np.kron(tiles, np.ones((8, 8, 1), np.uint8))) == pytest.approx(1)
    squares = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)
    assert between_tiles(np.repeat(squares[..., None], 3, 2)) == pytest.approx(0)


def test_the_side_is_that_of_the_regions_by_their_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    class Found:
        def __init__(self, area: int, score: float) -> None:
            self.area, self.score = area, score

    found = [Found(100, 0.9), Found(400, 0.6), Found(9000, 0.4)]  # the last is not sure
    monkeypatch.setattr(scale, "propose_tree", lambda image: found)
    wanted = math.sqrt((100**2 + 400**2) / 500) / 50
    assert region_side(np.zeros((50, 80, 3), np.uint8)) == pytest.approx(wanted)
    monkeypatch.setattr(scale, "propose_tree", lambda image: [])
    assert math.isnan(region_side(np.zeros((50, 80, 3), np.uint8)))


def test_what_has_no_region_goes_by_its_tiles_and_one_colour_has_no_scale() -> None:
    assert Scale(math.nan, 0.6, 3).large and not Scale(math.nan, 0.1, 3).large
    assert not Scale(0.3, ALIKE + 0.01, 3).sure and "try both" in str(Scale(0.3, ALIKE + 0.02, 1))
    assert Scale(0.05, ALIKE + 0.01, 3).sure
    assert scale_of([np.full((64, 64, 3), 7, np.uint8), np.zeros((4, 4, 3), np.uint8)]) is None
    assert scale_of([]) is None


def test_images_are_spread_over_the_list() -> None:
    assert spread_over(3) == [0, 1, 2] and spread_over(1) == [0]
    some = spread_over(1000)
    assert len(some) == LOOKED and some[0] == 0 and some[-1] == 999
    assert np.ptp(np.diff(some)) <= 1 and len(spread_over(1000, 24)) == 24


def test_scan_tells_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(2):
        Image.fromarray(few(n)).save(tmp_path / f"{n}.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert main(["scan", str(tmp_path), "--scale"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "scale things large and few" in said and "in 2 images; recipe: photos_alpha" in said
    result = genseg.scan(tmp_path, scale=True)
    assert result.scale == scale_of([few(n) for n in range(2)])
    assert genseg.scan(tmp_path).scale is None


def test_images_of_one_colour_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (32, 32), (9, 90, 9)).save(tmp_path / "flat.png")
    assert main(["scan", str(tmp_path)]) == 0
    assert main(["scan", str(tmp_path), "--scale"]) == 2
    assert "two colours" in capsys.readouterr().err
