"""Large images by tiles: the objects and pixels of an image come back from what its tiles see."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from genseg.alpha.tiles import Tile, tiles_of
from genseg.data.instances.instance import Instance
from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.transfer.box_tiles import merge_detections
from genseg.transfer.contract import Detection
from genseg.transfer.detector import BoxDetectorConfig, Detector
from genseg.transfer.logit_tiles import logits_by_tiles
from genseg.transfer.segmenter import Segmenter, SegmenterConfig

Box = tuple[float, float, float, float]


def seen(
    box: Box, tile: Tile, *, category: int = 0, score: float, masks: bool = True
) -> Detection | None:
    """What a perfect detector sees of an object in a tile; None where less than 3 pixels of it lie
    there."""
    left, top = max(box[0] - tile.left, 0), max(box[1] - tile.top, 0)
    right, bottom = min(box[2] - tile.left, tile.width), min(box[3] - tile.top, tile.height)
    if right - left < 3 or bottom - top < 3:
        return None
    y, x = int(top), int(left)
    alpha = np.full((int(np.ceil(bottom)) - y, int(np.ceil(right)) - x), 255, np.uint8)
    instance = Instance(alpha, y, x, score) if masks else None
    return Detection((left, top, right, bottom), category, score, instance)


def parts(
    objects: list[tuple[Box, int]], h: int, w: int, *, tile: int, seed: int = 0, masks: bool = True
) -> list:
    """All tiles with what is seen in them, at scores by chance."""
    rng = np.random.default_rng(seed)
    found = []
    for t in tiles_of(h, w, tile=tile):
        many = [
            seen(box, t, category=c, score=float(rng.uniform(0.3, 1)), masks=masks)
            for box, c in objects
        ]
        found.append((t, [d for d in many if d is not None]))
    return found


def apart(rng: np.random.Generator, h: int, w: int, count: int) -> list[tuple[Box, int]]:
    """Objects of a pixel size from 5 to 70 that overlap no other of their class."""
    objects: list[tuple[Box, int]] = []
    taken = np.zeros((2, h, w), bool)
    while len(objects) < count:
        (bh, bw), c = rng.uniform(5, 70, 2), int(rng.integers(2))
        top, left = rng.uniform(0, h - bh), rng.uniform(0, w - bw)
        area: NDArray[np.bool_] = taken[
            c, int(top) : int(top + bh) + 2, int(left) : int(left + bw) + 2
        ]
        if not area.any():
            area[:] = True
            objects.append(((left, top, left + bw, top + bh), c))
    return objects


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("masks", [True, False])
def test_what_tiles_see_becomes_the_objects_of_the_image(seed: int, masks: bool) -> None:
    rng = np.random.default_rng(seed)
    h, w = 300, 420
    objects = apart(rng, h, w, 40)
    found = merge_detections(parts(objects, h, w, tile=128, seed=seed, masks=masks), overlap=0.5)
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    got = sorted((d.category, *(round(v, 2) for v in d.box_xyxy)) for d in found)
    assert got == sorted((c, *(round(v, 2) for v in box)) for box, c in objects)
    for d in found:
        if masks:
            assert d.instance is not None
            left, top, width, height = d.instance.box_xywh
            whole = (left, top, left + width, top + height)
            np.testing.assert_allclose(whole, d.box_xyxy, atol=1.01)


def test_an_object_that_no_tile_sees_whole_is_one() -> None:
    h, w = 100, 400
    for box in ((5.0, 20, 395, 60), (90.0, 0, 300, 100)):
        (found,) = merge_detections(parts([(box, 1)], h, w, tile=100), overlap=0.5)
        assert found.box_xyxy == pytest.approx(box) and found.category == 1
        assert found.instance is not None
        assert found.instance.area == (box[2] - box[0]) * (box[3] - box[1])


def test_a_piece_whose_box_ends_before_the_side_is_no_object_of_its_own() -> None:
    """Detectors are not exact: a cut object's box may end some pixels before the tile does."""
    left, right = (
        Tile(0, 0, 256, 256, (False, False, False, True)),
        Tile(0, 192, 256, 256, (False, True, False, False)),
    )
    piece = Detection((180.0, 50, 252.5, 90), 0, 0.9)
    # from 193 on, so that this tile cuts it a little too
    whole = Detection((1.0, 50, 108, 90), 0, 0.6)
    assert len(merge_detections([(left, [piece]), (right, [whole])], overlap=0.5)) == 1


def test_classes_are_kept_apart_and_of_doubles_the_better_stays() -> None:
    one, other = (
        Tile(0, 0, 100, 100, (False, False, False, True)),
        Tile(0, 70, 100, 100, (False, True, False, False)),
    )
    first = [Detection((78.0, 10, 90, 22), 0, 0.5), Detection((78.0, 10, 90, 22), 1, 0.4)]
    second = [Detection((8.5, 10, 20, 22), 0, 0.8)]
    found = merge_detections([(one, first), (other, second)], overlap=0.5)
    assert [(d.category, d.score) for d in found] == [(0, 0.8), (1, 0.4)]
    assert found[0].box_xyxy == (78.5, 10, 90, 22)
    assert merge_detections([(one, []), (other, [])], overlap=0.5) == []


def test_logits_of_tiles_are_those_of_the_image_without_seams() -> None:
    image = torch.randn(3, 90, 150)
    looked = []

    def same(x: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
        looked.append(tuple(x.shape[1:]))
        return 2 * x

    torch.testing.assert_close(logits_by_tiles(image, same, tile=64), 2 * image)
    assert len(looked) > 1 and max(max(size) for size in looked) <= 64
    looked.clear()
    torch.testing.assert_close(logits_by_tiles(image, same, tile=150), 2 * image)
    assert looked == [(90, 150)]

    numbers = iter(range(100))
    steps = logits_by_tiles(
        image, lambda x: torch.full((1, *x.shape[1:]), float(next(numbers))), tile=64
    )[0]
    most = next(numbers) - 1
    jump = max(steps.diff(dim=0).abs().max(), steps.diff(dim=1).abs().max())
    assert 0 < jump < 0.2 * most  # from one tile to the next within the 16 pixels that both see


@pytest.mark.parametrize("build", [BoxDetectorConfig, SegmenterConfig])
def test_models_see_large_images_by_tiles(
    build: Callable[..., BoxDetectorConfig | SegmenterConfig],
) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig("resnet18"))[0]
    image = torch.randn(3, 160, 100)
    config = build(tile=96)
    if isinstance(config, SegmenterConfig):
        model = Segmenter(encoder, config, EncoderConfig("resnet18"), classes=2).eval()
        assert model.segment(image).shape == (3, 160, 100)
        small = image[:, :96, :96]
        torch.testing.assert_close(model.segment(small), model._tile(small))
        return
    detector = Detector(
        encoder, replace(config, anchors=(8.0, 16, 32, 64, 128), score=0.01), classes=2
    ).eval()
    found = detector.detect(image)
    boxes = torch.tensor([d.box_xyxy for d in found])
    assert (boxes >= 0).all() and (boxes[:, 2] <= 100).all() and (boxes[:, 3] <= 160).all()
    assert boxes[:, 3].max() > 110  # the lower tile was looked at


def test_a_tile_is_large_enough_to_see_something() -> None:
    with pytest.raises(ValueError, match="tile=8"):
        BoxDetectorConfig(tile=8)
    with pytest.raises(ValueError, match="tile=8"):
        SegmenterConfig(tile=8)
