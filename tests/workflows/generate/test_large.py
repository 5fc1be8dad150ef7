"""Images that are read by windows give what they give in one piece; a kill in the middle of one
changes nothing."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
from small import ENCODER, SMALL

import genseg.data.regions.opened as opened
from genseg.alpha.decoder import AlphaDecoder
from genseg.alpha.kept import GenerateConfig
from genseg.alpha.model import AlphaModel, Look, load_alpha, save_alpha
from genseg.core.names import ALPHA_NAME, INSTANCES_NAME
from genseg.core.reading import Reading
from genseg.data.images.files import ImageList
from genseg.data.images.source import ImageError
from genseg.data.instances.instance import Instance
from genseg.data.regions.scene import Scene, Stopped
from genseg.data.regions.scope import Scope
from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.workflows.generate.finder import Wanted
from genseg.workflows.generate.generate import GenerateOptions, generate_folder
from genseg.workflows.generate.job import Job

EVERY = GenerateOptions(scope=Scope(every_tile=True))


def bright(model: AlphaModel, x: np.ndarray) -> list[Instance]:
    """Bright pieces of a tile, in place of what random weights find."""
    _, pieces, boxes, _ = cv2.connectedComponentsWithStats((x[..., 0] > 90).astype(np.uint8))
    return [
        Instance((pieces[t : t + h, a : a + w] == n).astype(np.uint8) * 255, t, a, 1 / (1 + w * h))
        for n, (a, t, w, h, _) in enumerate(boxes.tolist())
        if n and w * h > 30
    ]


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bright pieces are found; a number for each tile that is looked at."""
    seen = list[int]()

    def look(model: AlphaModel, x: np.ndarray) -> list[Instance]:
        seen.append(len(x))
        return bright(model, x)

    monkeypatch.setattr(AlphaModel, "_tile", look)
    return seen


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with random weights, whose tiles are small."""
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(ENCODER))[0]
    look = Look(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), side=0, stretch=True)
    config = GenerateConfig(candidate=0.0, score=0.1, tile=96)
    root = tmp_path_factory.mktemp("run")
    model = AlphaModel(encoder, AlphaDecoder(encoder, SMALL), look, config)
    save_alpha(model, root / ALPHA_NAME, EncoderConfig(ENCODER))
    return root


def blobs(h: int, w: int, seed: int = 0) -> np.ndarray:
    """Discs of two sizes on noise."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 60, (h, w)).astype(float)
    rows, columns = np.mgrid[:h, :w]
    for _ in range(h * w // 900):
        y, c, r = rng.uniform(0, h), rng.uniform(0, w), rng.uniform(4, 16)
        x[np.hypot(rows - y, columns - c) < r] = rng.uniform(90, 240)
    return x


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiled TIFF of 16 bits, of which the right half is flat."""
    x = blobs(300, 420)
    x[:, 260:] = 30
    file = tmp_path_factory.mktemp("image") / "x.tif"
    grey = np.repeat(x[..., None] * 31, 3, 2).astype(np.uint16)
    tifffile.imwrite(file, grey, photometric="rgb", tile=(64, 64), compression="zlib")
    return file


def found(run: Path, image: Path, out: Path, options: GenerateOptions = EVERY) -> list[Any]:
    generate_folder(run, str(image), out, options, say=lambda text: None)
    return json.loads((out / INSTANCES_NAME).read_bytes())["annotations"]


@pytest.fixture
def by_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "LARGE", 100)


@pytest.mark.parametrize("side", [None, 170])
@pytest.mark.parametrize("network", [False, True])
def test_a_large_image_gives_what_it_gives_in_one_piece(
    run: Path,
    image: Path,
    tmp_path: Path,
    side: int | None,
    network: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the last byte: alphas and scores are those of the same tiles. Shrunk ones, too."""
    if not network:
        monkeypatch.setattr(AlphaModel, "_tile", bright)
    options = replace(EVERY, wanted=Wanted(side=side), cutouts=True)
    whole = found(run, image, tmp_path / "whole", options)
    monkeypatch.setattr(opened, "LARGE", 100)
    large = found(run, image, tmp_path / "large", options)
    assert large == whole and len(whole) > (0 if network else 20)
    for name in ("whole", "large"):
        assert not (tmp_path / name / "parts" / "tiles").exists()
    pictures = sorted((tmp_path / "whole" / "cutouts").iterdir())
    assert len(pictures) == len(whole)
    assert all(
        (tmp_path / "large" / "cutouts" / p.name).read_bytes() == p.read_bytes() for p in pictures
    )


def test_tiles_of_plain_background_are_not_looked_at(
    run: Path, image: Path, tmp_path: Path, by_windows: None, pieces: list[int]
) -> None:
    every = found(run, image, tmp_path / "every")
    count = len(pieces)
    assert found(run, image, tmp_path / "skipped", GenerateOptions()) == every
    assert 0 < len(pieces) - count < count


def test_a_kill_in_the_middle_of_an_image_changes_nothing(
    run: Path,
    image: Path,
    tmp_path: Path,
    by_windows: None,
    pieces: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, every = found(run, image, tmp_path / "whole"), len(pieces)
    kept, calls = Scene.kept, list[str]()

    def killed(self: Scene, name: str, make: Any) -> Any:
        calls.append(name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return kept(self, name, make)

    monkeypatch.setattr(Scene, "kept", killed)
    with pytest.raises(KeyboardInterrupt):
        found(run, image, tmp_path / "out")
    monkeypatch.setattr(Scene, "kept", kept)
    (folder,) = (tmp_path / "out" / "parts" / "tiles").iterdir()
    left = sorted(file.name for file in folder.iterdir())
    assert left == sorted(f"{name}.npz" for name in calls[:2])
    (folder / left[0]).write_bytes(b"cut")  # as a kill or a disk may leave it
    pieces.clear()
    assert found(run, image, tmp_path / "out") == whole
    assert 0 < len(pieces) < every and not folder.exists()


def test_other_tiles_are_begun_by_nobody_who_was_stopped(image: Path) -> None:
    scene = opened.open_scene(image, Scope(level=0))
    scene.stopping.set()
    with pytest.raises(Stopped):
        scene.looked_at(0).kept("0", dict)


def test_a_region_limits_what_is_looked_at(
    run: Path, image: Path, tmp_path: Path, pieces: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As polygons and as a mask; what lies in it is what lay there before."""
    every = found(run, image, tmp_path / "every")
    box = [[20, 100], [150, 100], [150, 240], [20, 240]]
    shape = {"type": "Polygon", "coordinates": [box + box[:1]]}
    polygon = tmp_path / "region.geojson"
    polygon.write_text(json.dumps({"type": "Feature", "geometry": shape}))
    mask = np.zeros((150, 210), np.uint8)
    mask[50:120, 10:75] = 255
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    count = len(pieces)
    results = []
    for n, region in enumerate((polygon, tmp_path / "mask.tif")):
        for large in (100, 10**8):
            monkeypatch.setattr(opened, "LARGE", large)
            scope = Scope(region=region, every_tile=True)
            options = GenerateOptions(scope=scope)
            results.append(found(run, image, tmp_path / f"{n}-{large}", options))
    one = results[0]
    assert all(r == one for r in results) and 0 < len(one) < len(every) / 2
    assert len(pieces) - count < 4 * count
    inside = [a["segmentation"] for a in every]
    assert all(a["segmentation"] in inside for a in one)
    tifffile.imwrite(tmp_path / "mask.tif", mask[:50])
    with pytest.raises(ValueError, match="needs the image's proportions"):
        generate_folder(run, str(image), tmp_path / "no", options)


def test_a_level_of_a_pyramid_and_micrometres_are_looked_at(
    run: Path, tmp_path: Path, pieces: list[int]
) -> None:
    """Instances are in pixels of the whole image; both ways are the same where they name one
    size."""
    x = np.repeat(blobs(256, 320).astype(np.uint8)[..., None], 3, 2)
    small = x.reshape(128, 2, 160, 2, 3).mean((1, 3)).round().astype(np.uint8)
    file = tmp_path / "x.ome.tif"
    with tifffile.TiffWriter(file, ome=True) as out:
        more: dict[str, Any] = {"photometric": "rgb", "tile": (64, 64)}
        meta = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "axes": "YXS"}
        out.write(x, subifds=1, metadata=meta, **more)
        out.write(small, subfiletype=1, **more)
    levels = [
        found(run, file, tmp_path / f"{n}", GenerateOptions(scope=Scope(**scope, every_tile=True)))
        for n, scope in enumerate(
            ({}, {"level": 0}, {"um_per_pixel": 0.5}, {"level": 1}, {"um_per_pixel": 1.0})
        )
    ]
    assert levels[0] == levels[1] == levels[2] != levels[3] == levels[4]
    assert all(a["segmentation"]["size"] == [256, 320] for a in levels[3])
    assert len(levels[3]) == len(load_alpha(run / ALPHA_NAME)[0].instances(small)) > 5
    for scope, why in (
        (Scope(level=2), "it has 2, 0 to 1"),
        (Scope(um_per_pixel=2.0), "does not say how large its pixels are"),
    ):
        tifffile.imwrite(tmp_path / "bare.tif", x, photometric="rgb")
        asked = file if scope.level else tmp_path / "bare.tif"
        out_ = tmp_path / why[:6].strip()
        with pytest.raises(ValueError, match=why):
            generate_folder(run, str(asked), out_, GenerateOptions(scope=scope))
        assert why in (out_ / "broken.txt").read_text()


def test_what_needs_the_whole_image_is_refused(
    run: Path, image: Path, tmp_path: Path, by_windows: None
) -> None:
    with pytest.raises(ValueError, match=r"x\.tif is read by windows, and --alphas"):
        found(run, image, tmp_path / "a", GenerateOptions(alphas=True))
    with pytest.raises(ValueError, match="tree looks at whole images, and one has 420 x 300"):
        found(Path("tree"), image, tmp_path / "b", GenerateOptions())
    with pytest.raises(ValueError, match="give one"):
        Scope(level=1, um_per_pixel=1.0)


def test_memory_does_not_grow_with_the_image(tmp_path: Path) -> None:
    """Numpy's own, of reading all windows of images of which one is 16 times as large."""
    peaks = []
    for side in (512, 2048):
        file = tmp_path / f"{side}.tif"
        x = np.zeros((side, side), np.uint16)
        x[::7] = np.arange(side)
        tifffile.imwrite(file, x, tile=(128, 128), compression="zlib", photometric="minisblack")
        del x
        tracemalloc.start()
        scene = opened.open_scene(file, Scope())
        small = scene.resized((side // 4, side // 4)).stretched()
        for y in range(0, side // 4, 64):
            small[y : y + 64, :64]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 16 * peaks[0]


def test_pixels_without_a_value_are_found_in_neither_way(
    run: Path, tmp_path: Path, pieces: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """GDAL's nodata, in 16 bits and bright: it counts in no range, and no instance holds it."""
    x = (blobs(200, 220) * 40).astype(np.uint16)
    x[:, :50] = 60_000
    file = tmp_path / "x.tif"
    nodata = [(42113, "s", 0, "60000", True)]
    tifffile.imwrite(file, x, photometric="minisblack", tile=(64, 64), extratags=nodata)
    whole = found(run, file, tmp_path / "whole")
    monkeypatch.setattr(opened, "LARGE", 100)
    assert found(run, file, tmp_path / "large") == whole and len(whole) > 10
    assert all(a["bbox"][0] >= 50 for a in whole)


def test_the_row_of_a_page_that_breaks_says_which_page(tmp_path: Path) -> None:
    """Without it all pages of the file were one image to the json."""
    x = np.zeros((2, 20, 20), np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", x, photometric="minisblack")
    images = ImageList(
        tmp_path, ("x.tif",) * 2, pages=(1, 2), reading=Reading(pages="each", channels="1")
    )

    def breaks(*_: object) -> dict[str, Any]:
        raise ImageError("cut")

    rows = tmp_path / "rows.jsonl"
    job = Job("look", images, tmp_path, Scope())
    job.run(breaks, rows, range(2), device=torch.device("cpu"), after=lambda: None)
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [(row["page"], row["broken"]) for row in found] == [(1, "cut"), (2, "cut")]
