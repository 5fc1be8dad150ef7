"""Fine-tuned models see scenes as they see the whole image."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from small import ENCODER, SMALL

from genseg.alpha.kept import GenerateConfig
from genseg.data.images.png import read_png, write_rows
from genseg.data.images.source import decode
from genseg.data.regions.interest import Interest
from genseg.data.regions.opened import open_scene
from genseg.data.regions.scene import Scene, remembering, windows_of
from genseg.data.regions.scope import Scope
from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.transfer.detector import BoxDetectorConfig, DetectorConfig
from genseg.transfer.logit_tiles import enlarged
from genseg.transfer.places import PlacesConfig
from genseg.transfer.predictor import Predictor, Preparation, build_model
from genseg.transfer.segmenter import SegmenterConfig

LEVELS = (8.0, 16.0, 32.0, 64.0, 128.0)
SMALL_HEADS = {"width": 16, "hidden": 32, "anchors": LEVELS, "detections": 6, "score": 0.0}
CONFIGS = [
    DetectorConfig(**SMALL_HEADS, tile=96),
    BoxDetectorConfig(**SMALL_HEADS, tile=96),
    PlacesConfig(decoder=SMALL, generate=GenerateConfig(candidate=0.0, score=0.05, tile=96)),
    SegmenterConfig(tile=96),
]


def predictor(config: object, fit: int = 0, *, stretch: bool = False) -> Predictor:
    torch.manual_seed(0)
    name = "resnet18" if isinstance(config, SegmenterConfig) else ENCODER
    architecture = EncoderConfig(name)
    encoder = build_encoder(architecture)[0]
    model = build_model(config, encoder, architecture, classes=2)
    half, fifth = (0.5,) * 3, (0.2,) * 3
    return Predictor(model.eval(), ((1, "a"), (2, "b")), Preparation(half, fifth, fit, stretch))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    x = np.random.default_rng(0).integers(0, 200, (190, 250, 3)).astype(np.uint8)
    x[60:120, 50:160] //= 3
    file = tmp_path_factory.mktemp("image") / "x.tif"
    tifffile.imwrite(file, x, photometric="rgb", tile=(64, 64))
    return file


@pytest.mark.parametrize("config", CONFIGS[:3], ids=lambda c: c.name)
@pytest.mark.parametrize("fit", [0, 150])
def test_detections_of_a_scene_are_those_of_the_image(
    image: Path, tmp_path: Path, config: object, fit: int
) -> None:
    """Kept and read again, too."""
    model = predictor(config, fit, stretch=fit > 0)
    whole = model.detect(decode(image))
    scope = Scope(every_tile=True)
    for _ in range(2):
        found = model.detect(open_scene(image, scope, tmp_path / "kept"))
        assert len(found) == len(whole) > 0
        for a, b in zip(found, whole, strict=True):
            assert (a.box_xyxy, a.score, a.category) == (b.box_xyxy, b.score, b.category)
            assert (a.instance is None) == (b.instance is None)
            if a.instance is not None and b.instance is not None:
                assert np.array_equal(a.instance.alpha, b.instance.alpha)
                assert a.instance.window == b.instance.window
    assert any((tmp_path / "kept").iterdir()) == (fit == 0 or fit > 96)


@pytest.mark.parametrize("fit", [0, 150])
def test_classes_of_a_scene_are_those_of_the_image(image: Path, tmp_path: Path, fit: int) -> None:
    model = predictor(CONFIGS[3], fit)
    whole = model.segment(decode(image)).numpy()
    parts = list(model.segment_rows(open_scene(image, Scope(every_tile=True))))
    assert len(parts) > 1
    found = np.concatenate(parts)
    assert found.shape == whole.shape
    assert np.array_equal(found, whole) if not fit else (found == whole).mean() > 0.999
    write_rows(
        tmp_path / "x.png", (p.astype(np.uint8) for p in parts), *whole.shape, [0, 0, 0] * 256
    )
    assert decode(tmp_path / "x.png").shape[:2] == whole.shape
    assert tifffile.imread(image).shape[:2] == read_png(tmp_path / "x.png").shape[:2]


def test_rows_that_come_in_parts_are_enlarged_as_the_whole() -> None:
    g = torch.Generator().manual_seed(0)
    for before, after in (((20, 30), (47, 61)), ((9, 5), (90, 5)), ((7, 7), (8, 9))):
        x = torch.randn(3, *before, generator=g)
        want = F.interpolate(x[None], size=after, mode="bilinear", align_corners=False)[0]
        for cut in (1, 3, before[0]):
            parts = iter(x.split(cut, 1))
            found = torch.cat(list(enlarged(parts, before, after)), 1)
            torch.testing.assert_close(found, want)


def test_what_no_tile_is_asked_for_is_background() -> None:
    """Nothing at all, and the part that a region leaves out."""
    model = predictor(CONFIGS[3])
    x = np.full((150, 150, 3), 90, np.uint8)
    flat = Scene(remembering(windows_of(x)), x.shape, every_tile=False)
    assert not np.concatenate(list(model.segment_rows(flat))).any()
    inside = np.zeros((150, 150), bool)
    inside[:40, :30] = True
    scene = Scene(windows_of(x), x.shape, interest=Interest(inside, inside))
    whole = model.segment(x).numpy()
    found = np.concatenate(list(model.segment_rows(scene)))
    assert not found[~inside].any()
    assert (found[:30, :20] == whole[:30, :20]).mean() > 0.9
