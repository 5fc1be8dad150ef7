"""What is probed on: class folders, or the objects of COCO jsons."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from genseg.core.paths import expand
from genseg.data.images.files import list_images
from genseg.data.images.source import ImageSource, Readable
from genseg.data.labels.box_crops import BoxCrops
from genseg.data.labels.findings import Findings
from genseg.data.labels.labelled_set import read_labelled


@dataclass(frozen=True)
class LabelledImages:
    """Some images of a source, and the class of each; and what was found wrong with their json."""

    source: Readable
    indices: list[int]
    labels: Int[Tensor, "n"]
    findings: Findings = ()
    files: tuple[Path, ...] = ()


def labelled_pair(
    train: str, test: str, *, limit: int, margin: float = 0.1
) -> tuple[LabelledImages, LabelledImages]:
    """Two class folders, or the objects of two COCO jsons, whose boxes are cut out with `margin` on
    each side.

    Raises ValueError when the two have different classes, or are not of one kind.
    """
    if train.endswith(".json") != test.endswith(".json"):
        raise ValueError(
            f"probe: {train} and {test} are not of one kind: give two class folders or two COCO "
            "jsons"
        )
    if expand(train).resolve() == expand(test).resolve():
        raise ValueError(
            f"probe: {train} is asked about itself, and each image would find itself; give two"
        )
    if train.endswith(".json"):
        first, found = read_labelled(expand(train), masks=False)
        second, more = read_labelled(expand(test), categories=first.categories, masks=False)
        if len(first.categories) < 2:
            raise ValueError(
                f"probe: {train} has one category, so there is nothing to tell apart; genseg "
                "finetune and genseg compare measure what an encoder is worth on it"
            )
        return _crops(BoxCrops(first, margin), limit, found), _crops(
            BoxCrops(second, margin), limit, more
        )
    known, asked = (ImageSource(list_images(path), None) for path in (train, test))
    if known.images.classes != asked.images.classes or not known.images.classes:
        raise ValueError(
            f"probe: {train} has the classes {list(known.images.classes)} and {test} "
            f"{list(asked.images.classes)}; both need one folder for each class, of the same names"
        )
    return labelled(known, limit), labelled(asked, limit)


def _crops(crops: BoxCrops, limit: int, findings: Findings) -> LabelledImages:
    # image by image
    indices = sorted(np.random.default_rng(0).permutation(len(crops))[: limit or None].tolist())
    return LabelledImages(
        crops, indices, torch.tensor([crops.labels[i] for i in indices]), findings, crops.files
    )


def labelled(source: ImageSource, limit: int) -> LabelledImages:
    """At most `limit` readable images (0: all) of a source with classes, drawn by a fixed seed."""
    assert source.images.labels is not None
    drawn = np.random.default_rng(0).permutation(len(source.images))[: limit or None].tolist()
    # a broken image's stand-in has another label
    indices = [i for i in drawn if source.read(i)[1] == i]
    labels = torch.tensor([source.images.labels[i] for i in indices])
    return LabelledImages(
        source, indices, labels, files=tuple(source.images.path(i) for i in indices)
    )
