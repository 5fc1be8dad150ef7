"""What a fine-tuned model finds in some of its validation images, beside their labels."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Integer, UInt8

from genseg.core.names import ENVIRONMENT_NAME
from genseg.core.precision import scoring_precision
from genseg.data.images.source import ImageError, decode
from genseg.data.instances.instance import Instance, cut_instance, filled
from genseg.data.instances.run_length import windowed
from genseg.data.labels.class_maps import semantic_target
from genseg.data.labels.labelled_set import LabelledImage
from genseg.data.labels.read import read_labels
from genseg.measure.overlaps import mask_overlap, match, tp_ratio
from genseg.measure.semantic import confusion, mean_iou
from genseg.show.viewer import Picture
from genseg.transfer.predictor import load_predictor
from genseg.transfer.segmenter import Segmenter

LOOKED = 16  # validation images that are looked at, drawn at random: seconds
COUNTS, LEAST = 0.5, 0.1  # scores from which a detection counts, and from which it can be seen
OVERLAP = 0.5  # from which on it is right
Pixels = UInt8[np.ndarray, "_ _ c"]


@dataclass(frozen=True)
class Judged:
    """An image with what was found and what is labelled. score: how well they agree, in [0, 1]"""

    picture: Picture
    score: float


class Judge:
    """The model of a fine-tuning run, asked for pictures."""

    def __init__(self, run: Path) -> None:
        """Raises ValueError when `run` holds no fine-tuned model."""
        self.run = run
        self.predictor, self.facts = load_predictor(run)
        self.predictor.model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.predictor.precision = scoring_precision(self.facts.precision, self.predictor.device)
        self.semantic = isinstance(self.predictor.model, Segmenter)
        self.boxes = not self.semantic and not getattr(self.predictor.model, "masks", True)

    def judged(self) -> list[Judged]:
        """Some validation images, the best first; none where the run has none, or they have
        gone."""
        file = self.run / ENVIRONMENT_NAME
        val = json.loads(file.read_text("utf-8")).get("val") if file.is_file() else None
        if val is None or not Path(val).exists():
            return []
        labelled, _ = read_labels(val, self.facts.model.name, categories=self.predictor.categories)
        drawn = sorted(np.random.default_rng(0).permutation(len(labelled.images))[:LOOKED].tolist())
        every = [self._judged(labelled.images[i]) for i in drawn]
        return sorted(filter(None, every), key=lambda j: -j.score)

    def _judged(self, image: LabelledImage) -> Judged | None:
        try:
            pixels = decode(image.path, image=image.page)
        except ImageError:
            return None
        if self.semantic:
            classes = self._classes(pixels)
            target = semantic_target(image, len(self.predictor.categories))
            pair = torch.from_numpy(classes), torch.from_numpy(target).long()
            score = float(
                np.nan_to_num(
                    mean_iou(confusion(*pair, len(self.predictor.categories) + 1)), nan=1.0
                )
            )
            found, truth = regions(classes), regions(target)
            note = f"mIoU {score:.2f}"
        else:
            found, (truth, crowd) = self.instances(pixels), labels_of(image)
            score, right = agreement([a for a in found if a.score >= COUNTS], truth, crowd)
            truth = [a for a, many in zip(truth, crowd, strict=True) if not many]
            note = f"{right} of {len(truth)} found, {score:.2f}"
        hues = tuple(a.category for a in (*found, *truth)) if self.semantic else ()
        made = replace(
            self._picture(image.name, pixels, found), truth=tuple(truth), note=note, hues=hues
        )
        return Judged(made, score)

    def picture(self, name: str, pixels: Pixels) -> Picture:
        """What is found in an image without labels."""
        return self._picture(name, pixels, self.instances(pixels))

    def _picture(self, name: str, pixels: Pixels, found: Sequence[Instance]) -> Picture:
        names = [c for _, c in self.predictor.categories]
        labels = tuple(names[a.category] for a in found) if len(names) > 1 or self.semantic else ()
        hues = tuple(a.category for a in found) if self.semantic else ()
        return Picture(name, pixels, tuple(found), labels, soft=False, hues=hues, boxes=self.boxes)

    def instances(self, pixels: Pixels) -> list[Instance]:
        """Objects, best first, each a box where the model has no masks; of a semantic model,
        regions of its classes."""
        if self.semantic:
            return regions(self._classes(pixels))
        found = []
        for d in self.predictor.detect(pixels):
            if d.score >= LEAST:
                shape = d.instance or filled(d.box_xyxy, *pixels.shape[:2])
                found.append(replace(shape, score=d.score, category=d.category))
        return found

    def _classes(self, pixels: Pixels) -> Integer[np.ndarray, "_ _"]:
        return self.predictor.segment(pixels).cpu().numpy()


def labels_of(image: LabelledImage) -> tuple[list[Instance], Bool[np.ndarray, "n"]]:
    """The n labels of an image, each a box where it has no masks; and which are crowds."""
    if image.masks is not None:
        shapes = [windowed(mask) for mask in image.masks]
    else:
        shapes = [filled(box, image.height, image.width) for box in image.boxes_xyxy.tolist()]
    return [
        replace(a, category=int(c)) for a, c in zip(shapes, image.classes, strict=True)
    ], image.crowd


def regions(classes: Integer[np.ndarray, "h w"]) -> list[Instance]:
    """The region of each class of a map, where it is not empty; 0 and 255 are none."""
    numbers = [int(n) for n in np.unique(classes) if 0 < n < 255]
    cuts = [(n, cut_instance(classes == n)) for n in numbers]
    return [replace(a, category=n - 1) for n, a in cuts if a is not None]


def agreement(
    found: Sequence[Instance], truth: Sequence[Instance], crowd: Bool[np.ndarray, "n"]
) -> tuple[float, int]:
    """TP / (TP + FP + FN) at an overlap of a half, and TP; an instance of another class is not
    right."""
    overlap = mask_overlap(found, truth, crowd)
    other = np.array([[a.category != b.category for b in truth] for a in found], bool).reshape(
        overlap.shape
    )
    overlap = np.where(other & ~crowd, 0, overlap)
    return tp_ratio(overlap, crowd, OVERLAP), len(match(overlap[:, ~crowd], OVERLAP))
