"""Batches of crops of labelled images, and whole images. Everything random is a function of (seed,
epoch, index)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from genseg.data.images.inputs import stretch
from genseg.data.images.loader import EpochSampler, batches
from genseg.data.images.source import ImageError, decode
from genseg.data.instances.run_length import windowed
from genseg.data.labels.class_maps import IGNORED, semantic_target
from genseg.data.labels.crops import (
    AugmentConfig,
    Crop,
    crop_boxes,
    crop_image,
    crop_instances,
    crop_map,
    draw_crop,
)
from genseg.data.labels.labelled_set import LabelledImage, LabelledSet
from genseg.data.regions.opened import by_windows, open_scene
from genseg.data.regions.scene import Scene
from genseg.data.regions.scope import Scope

S = TypeVar("S", "Sample", "SemanticSample")


@dataclass(frozen=True)
class Sample:
    """One crop with its n instances; no crowd is among them.

    boxes_xyxy: left, top, right, bottom, of the masks where there are masks
    classes: from 0
    masks: 0 or 1; None for a set of boxes alone
    number: the image's id
    """

    image: UInt8[Tensor, "h w c"]
    boxes_xyxy: Float[Tensor, "n 4"]
    classes: Int[Tensor, "n"]
    masks: UInt8[Tensor, "n h w"] | None
    number: int


@dataclass(frozen=True)
class SemanticSample:
    """One crop and the class of each pixel: 0 is background, class c is c + 1, 255 is ignored."""

    image: UInt8[Tensor, "h w c"]
    target: Int[Tensor, "h w"]
    number: int


def read_sample(image: LabelledImage, *, stretched: bool = False) -> UInt8[np.ndarray, "h w c"]:
    """The whole image, its values spread over the whole range if `stretched`.

    Raises ImageError when it cannot be read or has another size than when it was checked.
    """
    pixels = decode(image.path, image=image.page, reading=image.reading)
    if pixels.shape[:2] != (image.height, image.width):
        raise ImageError(
            f"{image.path}: {pixels.shape[1]} x {pixels.shape[0]} pixels, and {image.width} x "
            f"{image.height} when it was checked; start again"
        )
    return stretch(pixels) if stretched else pixels


def seen_sample(image: LabelledImage) -> UInt8[np.ndarray, "h w c"] | Scene:
    """The whole image; a scene where it is read by windows. Raises as `read_sample`."""
    if not by_windows(image.path):
        return read_sample(image)
    return open_scene(image.path, Scope(), image=image.page, reading=image.reading)


def cropped(image: LabelledImage, crop: Crop, *, stretched: bool = False) -> Sample:
    """The crop of an image and of its labels."""
    pixels = torch.from_numpy(crop_image(read_sample(image, stretched=stretched), crop))
    boxes = crop_boxes(image.boxes_xyxy, crop)
    seen = ~image.crowd & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if image.masks is None:
        kept = seen & (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)
        boxes, masks = boxes[kept], None
    else:
        touched = np.flatnonzero(seen)
        found = crop_instances([windowed(image.masks[i]) for i in touched], crop)
        left = [instance for instance in found if instance is not None]
        kept = np.zeros_like(seen)
        kept[[i for i, instance in zip(touched, found, strict=True) if instance is not None]] = True
        masks = torch.zeros(len(left), crop.size, crop.size, dtype=torch.uint8)
        boxes = np.empty((len(left), 4))
        for n, instance in enumerate(left):
            masks[n].numpy()[instance.window] = instance.mask
            x, y, w, h = instance.box_xywh
            boxes[n] = x, y, x + w, y + h
    return Sample(
        image=pixels,
        boxes_xyxy=torch.from_numpy(boxes.astype(np.float32)),
        classes=torch.from_numpy(image.classes[kept]),
        masks=masks,
        number=image.number,
    )


def cropped_semantic(
    image: LabelledImage, crop: Crop, *, classes: int, stretched: bool = False
) -> SemanticSample:
    """The crop of an image and of the map of its classes; what lies outside the image is
    ignored."""
    target = crop_map(semantic_target(image, classes), crop, IGNORED)
    pixels = torch.from_numpy(crop_image(read_sample(image, stretched=stretched), crop))
    return SemanticSample(pixels, torch.from_numpy(target).long(), image.number)


class CropDataset(Dataset[list[S]], Generic[S]):
    """A list of (epoch, index) -> a list of crops. An index beyond the images begins with the first
    again.

    cut: makes a sample of an image and where its crop lies: `cropped`, or `cropped_semantic` with
        its classes
    """

    def __init__(
        self,
        images: LabelledSet,
        augment: AugmentConfig,
        cut: Callable[[LabelledImage, Crop], S],
        *,
        seed: int,
    ) -> None:
        self.images, self.augment, self.seed = images, augment, seed
        self.cut: Callable[[LabelledImage, Crop], S] = cut

    def __getitem__(self, keys: list[tuple[int, int]]) -> list[S]:
        made = []
        for epoch, index in keys:
            image = self.images.images[index % len(self.images.images)]
            rng = np.random.default_rng([self.seed, epoch, index, *b"crop"])
            made.append(self.cut(image, draw_crop(rng, self.augment, image.height, image.width)))
        return made


def crop_batches(
    dataset: CropDataset[S],
    *,
    batch: int,
    start: int,
    total: int,
    passes: int = 1,
    workers: int,
    rank: int = 0,
    world: int = 1,
) -> DataLoader[list[S]]:
    """Lists of crops from update `start` to `total`: this rank's share of `batch` crops each, in
    `passes` parts.

    Where a batch is larger than the set, an epoch goes through the set so many times that it fills
    a batch.
    """
    count = len(dataset.images.images)
    sampler = EpochSampler(
        images=count * -(-batch // count),
        batch=batch,
        start=start,
        total=total,
        passes=passes,
        seed=dataset.seed,
        rank=rank,
        world=world,
    )
    return batches(dataset, sampler, workers=workers)
