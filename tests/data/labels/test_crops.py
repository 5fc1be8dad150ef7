"""Crops of images, masks, boxes and maps: against albumentations on whole masks, and against one
another."""

from dataclasses import replace

import albumentations as A
import cv2
import numpy as np
import pytest
from coco_made import blob

from genseg.data.instances.instance import cut
from genseg.data.labels.crops import (
    PAD,
    AugmentConfig,
    Crop,
    crop_boxes,
    crop_image,
    crop_instances,
    crop_map,
    draw_crop,
)

CONFIG = AugmentConfig(size=48, scale=(0.4, 2.5), turn=True, photometric=0)


def made(seed: int, config: AugmentConfig = CONFIG) -> tuple[np.ndarray, list[np.ndarray], Crop]:
    """An image, masks and a crop; two of three images are larger than a crop."""
    rng = np.random.default_rng(seed)
    height, width = ((61, 87), (30, 40), (100, 20))[seed % 3]
    image = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 2)
    return (
        image,
        [blob(rng, height, width) for _ in range(6)],
        draw_crop(rng, config, height, width),
    )


def albumented(
    image: np.ndarray, masks: list[np.ndarray], crop: Crop
) -> tuple[np.ndarray, np.ndarray]:
    """The same crop by albumentations on whole masks."""
    top, left, h, w = crop.window
    above, before, tall, wide = crop.inside
    pads = {"pad_top": above, "pad_bottom": crop.size - above - tall}
    pads |= {"pad_left": before, "pad_right": crop.size - before - wide}
    shrinks = tall < h and wide < w
    steps = [
        A.Crop(left, top, left + w, top + h, p=1),
        A.Resize(
            tall,
            wide,
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
            mask_interpolation=cv2.INTER_NEAREST_EXACT,
            p=1,
        ),
        A.Pad(
            (pads["pad_left"], pads["pad_top"], pads["pad_right"], pads["pad_bottom"]),
            fill=PAD,
            fill_mask=0,
            p=1,
        ),
        A.HorizontalFlip(p=float(crop.flip)),
        A.VerticalFlip(p=float(crop.vertical_flip)),
        A.Transpose(p=float(crop.transpose)),
    ]
    found = A.Compose(steps)(image=image, masks=np.stack(masks))
    return found["image"], found["masks"]


@pytest.mark.parametrize("seed", range(24))
def test_a_crop_is_that_of_albumentations(seed: int) -> None:
    image, masks, crop = made(seed)
    pixels, whole = albumented(image, masks, crop)
    assert np.array_equal(crop_image(image, crop), pixels)
    found = crop_instances([cut(m * np.uint8(255)) for m in masks], crop)
    for instance, expected in zip(found, whole, strict=True):
        assert (instance is None) == (not expected.any())
        if instance is not None:
            assert np.array_equal(instance.paint(48, 48) > 0, expected > 0)
    classes = np.max([m * np.uint8(i) for i, m in enumerate(masks, start=1)], 0)
    expected = np.max([m * np.uint8(i) for i, m in enumerate(whole, start=1)], 0)
    outside = crop_map(np.zeros_like(classes), crop, 255) == 255
    assert np.array_equal(crop_map(classes, crop, 255), np.where(outside, 255, expected))
    assert outside.sum() == 48 * 48 - crop.inside[2] * crop.inside[3]


@pytest.mark.parametrize("seed", range(24))
def test_cropped_boxes_hold_their_masks(seed: int) -> None:
    """A box scaled as real numbers and the box of a mask scaled by nearest neighbours differ by
    less than a step."""
    image, masks, crop = made(seed)
    instances = [cut(m * np.uint8(255)) for m in masks]
    boxes = np.array(
        [(x, y, x + w, y + h) for x, y, w, h in (i.box_xywh for i in instances)], float
    )
    moved = crop_boxes(boxes, crop)
    near = 0.51 * max(1.0, crop.inside[2] / crop.window[2], crop.inside[3] / crop.window[3]) + 0.5
    for instance, box in zip(crop_instances(instances, crop), moved, strict=True):
        if instance is None:
            assert min(box[2] - box[0], box[3] - box[1]) <= 1
            continue
        x, y, w, h = instance.box_xywh
        assert (box[:2] - near <= (x, y)).all() and (box[2:] + near >= (x + w, y + h)).all()
    whole = np.array([[0.0, 0, image.shape[1], image.shape[0]]])
    (x0, y0, x1, y1) = crop_boxes(whole, crop)[0]
    inside = crop_map(np.zeros(image.shape[:2], np.uint8), crop, 255) == 0
    expected = np.zeros((48, 48), bool)
    expected[int(y0) : int(y1), int(x0) : int(x1)] = True
    assert np.array_equal(inside, expected)


def test_the_distribution_of_what_is_drawn() -> None:
    config = AugmentConfig(size=64, scale=(0.5, 2.0), flip=0.25, turn=False)
    drawn = [draw_crop(np.random.default_rng(i), config, 200, 300) for i in range(2000)]
    factors = np.log2([c.size / c.window[2] for c in drawn])
    assert abs(factors.mean()) < 0.05 and factors.min() < -0.9 and factors.max() > 0.9
    assert np.mean([c.flip for c in drawn]) == pytest.approx(0.25, abs=0.03)
    assert not any(c.vertical_flip or c.transpose for c in drawn)
    assert (
        min(c.window[0] for c in drawn) == 0
        and max(c.window[0] + c.window[2] for c in drawn) == 200
    )
    turned = [
        draw_crop(np.random.default_rng(i), replace(config, turn=True), 200, 300)
        for i in range(2000)
    ]
    assert np.mean([c.transpose for c in turned]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([c.vertical_flip for c in turned]) == pytest.approx(0.5, abs=0.04)


def test_fit_is_relative_to_the_crop() -> None:
    config = AugmentConfig(size=64, scale=(1.0, 1.0), fit=True)
    crop = draw_crop(np.random.default_rng(0), config, 200, 400)
    assert crop.window == (0, 0, 200, 400) and crop.inside[2:] == (32, 64)
    own = draw_crop(np.random.default_rng(0), replace(config, fit=False), 200, 400)
    assert own.window[2:] == (64, 64) and own.inside == (0, 0, 64, 64)


def test_the_jitter_leaves_the_grey_outside_and_the_geometry() -> None:
    image, masks, crop = made(1, replace(CONFIG, photometric=1.0, scale=(1.0, 1.0)))
    still = replace(crop, colour=replace(crop.colour, order=()))
    jittered, plain = crop_image(image, crop), crop_image(image, still)
    outside = crop_map(np.zeros(image.shape[:2], np.uint8), crop, 255) == 255
    assert outside.any() and (jittered[outside] == PAD).all()
    assert (jittered != plain)[~outside].any()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": 4}, "size=4: use 8 or more"),
        ({"scale": (2.0, 1.0)}, "is .smallest, largest., above 0"),
        ({"scale": (0.0, 1.0)}, "is .smallest, largest., above 0"),
        ({"flip": 1.5}, "flip=1.5 is a probability"),
        ({"photometric": 3.0}, "photometric=3.0 at most 2.5"),
    ],
)
def test_bad_keys(keys: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**keys)
