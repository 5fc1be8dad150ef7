"""Samples against whole masks; batches that depend on (seed, epoch, index) alone; sets smaller than
a batch."""

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coco_made import note, write_blobs, write_image, write_json
from PIL import Image
from pycocotools import mask as rle

from genseg.core.reading import Reading, reading
from genseg.data.images.inputs import stretch
from genseg.data.images.source import ImageError
from genseg.data.labels.class_maps import read_mask_folder, semantic_target
from genseg.data.labels.crops import AugmentConfig, crop_image, crop_map, draw_crop
from genseg.data.labels.labelled_set import LabelledSet, read_labelled
from genseg.data.labels.samples import (
    CropDataset,
    Sample,
    crop_batches,
    cropped,
    cropped_semantic,
    read_sample,
    seen_sample,
)

AUGMENT = AugmentConfig(size=40, turn=True)


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> LabelledSet:
    return read_labelled(write_blobs(tmp_path_factory.mktemp("blobs"), count=4), masks=True)[0]


@pytest.mark.parametrize("seed", range(12))
def test_a_sample_is_that_of_whole_masks(blobs: LabelledSet, seed: int) -> None:
    image = blobs.images[seed % 4]
    crop = draw_crop(np.random.default_rng(seed), AUGMENT, image.height, image.width)
    sample = cropped(image, crop)
    assert image.masks is not None
    masks = np.stack([crop_map(np.ascontiguousarray(rle.decode(m)), crop, 0) for m in image.masks])
    kept = masks.any((1, 2)) & ~image.crowd
    assert sample.masks is not None and np.array_equal(sample.masks.numpy(), masks[kept])
    assert np.array_equal(sample.classes.numpy(), image.classes[kept])
    for box, mask in zip(sample.boxes_xyxy.tolist(), masks[kept], strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert box == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert np.array_equal(sample.image.numpy(), crop_image(read_sample(image), crop))
    assert sample.number == image.number


def test_a_sample_is_read_as_its_set_was_in_any_process(tmp_path: Path) -> None:
    """A worker that is not forked knows nothing but what is pickled for it."""
    values = np.random.default_rng(0).integers(0, 256, (3, 40, 60), dtype=np.uint8)
    images = [{"id": 1, "file_name": "x.npy", "height": 40, "width": 60}]
    file = write_json(tmp_path, [note(1)], images)
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images/x.npy", values)
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.ones((40, 60), np.uint8)).save(tmp_path / "masks/x.png")
    with reading(Reading("3,1", ranges=((0, 510),))):
        sets = [
            read_labelled(file, masks=True)[0],
            read_mask_folder(tmp_path / "images", tmp_path / "masks")[0],
        ]
    for labelled in sets:
        (image,) = pickle.loads(pickle.dumps(labelled)).images
        assert np.array_equal(read_sample(image), np.rint(np.dstack([values[2], values[0]]) / 2))
        assert np.array_equal(seen_sample(image), read_sample(image))


def test_boxes_alone(tmp_path: Path) -> None:
    notes = [
        note(1, bbox=[0, 0, 30, 30]),
        note(2, bbox=[2, 2, 3, 30]),
        note(3, bbox=[2, 2, 9, 9], iscrowd=1),
    ]
    (image,) = read_labelled(write_json(tmp_path, notes), masks=False)[0].images
    fifth = AugmentConfig(size=12, scale=(0.2, 0.2), flip=0, fit=False)
    sample = cropped(image, draw_crop(np.random.default_rng(0), fifth, 40, 60))
    assert sample.masks is None and sample.boxes_xyxy.shape == (1, 4)
    assert (sample.boxes_xyxy[0, 2:] - sample.boxes_xyxy[0, :2]).tolist() == pytest.approx([6, 6])


def labelled_batches(images: LabelledSet, augment: AugmentConfig, *, seed: int, **how: Any) -> Any:
    return crop_batches(CropDataset(images, augment, cropped, seed=seed), **how)


def flattened(batches: Any) -> list[list[Sample]]:
    return [list(batch) for batch in batches]


def same(a: list[list[Sample]], b: list[list[Sample]]) -> bool:
    pairs = [pair for x, y in zip(a, b, strict=True) for pair in zip(x, y, strict=True)]
    return all(
        s.number == t.number
        and torch.equal(s.image, t.image)
        and torch.equal(s.boxes_xyxy, t.boxes_xyxy)
        for s, t in pairs
    )


def test_batches_do_not_depend_on_workers_history_or_ranks(blobs: LabelledSet) -> None:
    how = {"batch": 2, "seed": 5}
    whole = flattened(labelled_batches(blobs, AUGMENT, start=0, total=5, workers=0, **how))
    assert len(whole) == 5 and all(len(batch) == 2 for batch in whole)
    assert sorted(s.number for batch in whole[:2] for s in batch) == [1, 2, 3, 4]  # an epoch
    assert same(
        whole, flattened(labelled_batches(blobs, AUGMENT, start=0, total=5, workers=2, **how))
    )
    assert same(
        whole[3:], flattened(labelled_batches(blobs, AUGMENT, start=3, total=5, workers=0, **how))
    )
    ranks = [
        flattened(
            labelled_batches(blobs, AUGMENT, start=0, total=5, workers=0, rank=r, world=2, **how)
        )
        for r in (0, 1)
    ]
    assert same(whole, [a + b for a, b in zip(*ranks, strict=True)])
    assert not same(
        whole,
        flattened(labelled_batches(blobs, AUGMENT, start=0, total=5, workers=0, batch=2, seed=6)),
    )


def test_passes_part_a_batch_and_stretching_is_that_of_whole_images(blobs: LabelledSet) -> None:
    how = {"batch": 4, "start": 0, "total": 1, "workers": 0}
    (whole,) = flattened(crop_batches(CropDataset(blobs, AUGMENT, cropped, seed=5), **how))
    parts = flattened(crop_batches(CropDataset(blobs, AUGMENT, cropped, seed=5), passes=2, **how))
    assert [len(p) for p in parts] == [2, 2] and same([whole], [parts[0] + parts[1]])
    image = blobs.images[0]
    assert np.array_equal(read_sample(image, stretched=True), stretch(read_sample(image)))
    crop = draw_crop(np.random.default_rng(0), AUGMENT, image.height, image.width)
    wanted = crop_image(stretch(read_sample(image)), crop)
    assert np.array_equal(cropped(image, crop, stretched=True).image.numpy(), wanted)


def test_a_set_smaller_than_a_batch_is_repeated_with_other_crops(blobs: LabelledSet) -> None:
    (batch,) = flattened(
        labelled_batches(blobs, AUGMENT, batch=8, start=0, total=1, seed=0, workers=0)
    )
    assert sorted(s.number for s in batch) == [1, 1, 2, 2, 3, 3, 4, 4]
    twins = [[s for s in batch if s.number == n] for n in (1, 2, 3, 4)]
    assert all(not torch.equal(a.image, b.image) for a, b in twins)


def test_maps_of_classes_are_cropped_alike(blobs: LabelledSet) -> None:
    how = {"batch": 4, "seed": 5, "start": 0, "total": 2, "workers": 0}
    instances = flattened(labelled_batches(blobs, AUGMENT, **how))
    cut = partial(cropped_semantic, classes=len(blobs.categories))
    semantic = crop_batches(CropDataset(blobs, AUGMENT, cut, seed=how.pop("seed")), **how)
    for maps, samples in zip(semantic, instances, strict=True):
        for found, sample in zip(maps, samples, strict=True):
            assert torch.equal(found.image, sample.image) and found.target.dtype == torch.int64
            assert sample.masks is not None
            labelled = (found.target > 0) & (found.target < 255)
            assert torch.equal(
                labelled, sample.masks.any(0) if len(sample.masks) else torch.zeros(40, 40).bool()
            )
    assert set(np.unique(semantic_target(blobs.images[0], 2))) <= {0, 1, 2, 255}


def test_a_file_that_has_changed_is_told(tmp_path: Path) -> None:
    (image,) = read_labelled(write_json(tmp_path, [note(1)]), masks=True)[0].images
    write_image(image.path, 30, 30)
    with pytest.raises(ImageError, match="30 x 30 pixels, and 60 x 40 when it was checked"):
        read_sample(image)
