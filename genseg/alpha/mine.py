"""Self-training: which of the model's own instances on a real image become proposals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8

from genseg.alpha.model import AlphaModel
from genseg.alpha.tiles import iou, meeting, shared, windows
from genseg.core.check import at_least, between
from genseg.data.images.decode import resize
from genseg.data.instances.instance import Instance, mirrored, resized

MAGNIFIED = 1.25  # the second look at an image is mirrored and so much larger


@dataclass(frozen=True)
class RoundsConfig:
    """Self-training: after each round the model's own instances become proposals."""

    # rounds of equal length; 1: keep the first proposals (nuclei gain nothing from more)
    count: int = 1
    # images searched between two rounds, drawn anew; the others keep their proposals; 0: all
    images: int = 1000
    # least overlap with an instance of the mirrored, enlarged image that confirms an instance
    agreement: float = 0.6
    # what confirms an instance: look, a second look at its image; energy, the score that an energy
    # gives it (energy.shape.name); both, an energy's scores and a second look
    critic: Literal["look", "energy", "both"] = "look"
    # stop the rounds once the agreement over these images has fallen by more than this
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        at_least(1, count=self.count)
        at_least(0, images=self.images, tolerance=self.tolerance)
        between(0, 1, agreement=self.agreement)


@dataclass(frozen=True)
class Mined:
    """Proposals of an image, and how well two looks at it agree: TP / (TP + FP + FN) at an overlap
    of 0.75, or None when neither finds anything."""

    proposals: list[Instance]
    agreement: float | None


def mine(
    model: AlphaModel,
    image: UInt8[np.ndarray, "h w c"],
    before: Sequence[Instance],
    *,
    sure: float,
    doubtful: float,
    agreement: float,
    twice: bool = True,
) -> Mined:
    """The model's instances that a second look at the image confirms, as proposals with the score
    of the first look. twice: without a second look all are confirmed that the model is sure of.

    Those that it does not confirm, and old proposals (`before`) that no instance overlaps, stay
    with half their score, and less than `doubtful`: they may be instances or not. Old proposals
    that were overlapped are replaced.
    """
    found = model.instances(image)
    again = _second_look(model, image) if twice else found
    best = [max((iou(a, b) for b in near), default=0.0) for a, near in _meeting(found, again)]
    kept = [
        a if match >= agreement else _doubted(a, doubtful)
        for a, match in zip(found, best, strict=True)
    ]
    alone = [
        b for b, near in _meeting(before, found) if all(shared(a, b) < 0.1 * b.area for a in near)
    ]
    lost = [_doubted(b, doubtful) for b in alone]
    firm, second = ([a for a in many if a.score >= sure] for many in (found, again))
    solid = sum(any(iou(a, b) >= 0.75 for b in near) for a, near in _meeting(firm, second))
    many = len(firm) + len(second)
    return Mined(kept + lost, solid / (many - solid) if many else None)


def _meeting(
    some: Sequence[Instance], others: Sequence[Instance]
) -> list[tuple[Instance, list[Instance]]]:
    """Each with those of the others that may have a pixel in common with it."""
    places = windows(others)
    return [(a, [others[i] for i in meeting(a, places)]) for a in some]


def _doubted(instance: Instance, below: float) -> Instance:
    return replace(instance, score=min(instance.score / 2, 0.99 * below))


def _second_look(model: AlphaModel, image: UInt8[np.ndarray, "h w c"]) -> list[Instance]:
    """Instances of the mirrored and enlarged image, in the pixels of the image."""
    h, w = image.shape[:2]
    size = (round(w * MAGNIFIED), round(h * MAGNIFIED))
    large = resize(image[:, ::-1], size, cv2.INTER_LINEAR)
    back = (resized(a, large.shape[:2], (h, w)) for a in model.instances(large))
    return [mirrored(a, w) for a in back if a is not None]
