"""Groups of images in which something has probably gone wrong, derived from the instances alone,
without labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from genseg.data.instances.instance import Instance

BLOB = 0.5  # part of the image from which on a single instance is suspicious
MOST = 0.5  # of the instances
WHOLE = 0.8  # part of a mask that its largest piece holds at least, unless it is in fragments

Found = Sequence[Instance]


@dataclass(frozen=True)
class Failure:
    """A way in which an image may have failed. `holds` takes its instances, its height and its
    width.

    of_masks: boxes cannot fail in this way
    """

    name: str
    meaning: str
    holds: Callable[[Found, int, int], bool]
    of_masks: bool = False


def is_empty(found: Found, height: int, width: int) -> bool:
    """Nothing was found."""
    return not found


def is_one_blob(found: Found, height: int, width: int) -> bool:
    """One instance covers half of the image or more."""
    return any(a.area >= BLOB * height * width for a in found)


def is_border(found: Found, height: int, width: int) -> bool:
    """More than half of the instances touch the edge of the image, and there are some three of
    them."""
    touching = 0
    for a in found:
        left, top, w, h = a.box_xywh
        touching += left == 0 or top == 0 or left + w == width or top + h == height
    return touching >= 3 and touching > MOST * len(found)


def is_fragments(found: Found, height: int, width: int) -> bool:
    """More than half of the masks fall into pieces."""
    return bool(found) and sum(in_pieces(a) for a in found) > MOST * len(found)


def in_pieces(instance: Instance) -> bool:
    """Whether the largest connected piece of a mask holds less than most of it."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(
        instance.mask.astype(np.uint8), connectivity=8
    )
    pieces = stats[1:, cv2.CC_STAT_AREA]
    return len(pieces) > 1 and int(pieces.max()) < WHOLE * int(pieces.sum())


FAILURES = (
    Failure("empty", "nothing was found", is_empty),
    Failure("one blob", "a single instance covers half of the image or more", is_one_blob),
    Failure("border", "more than half of the instances touch the image's edge", is_border),
    Failure(
        "fragments", "more than half of the masks fall into pieces", is_fragments, of_masks=True
    ),
)
