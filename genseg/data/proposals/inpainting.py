"""Inpainting error maximisation (Savarese, Kim, Maire, Shakhnarovich and McAllester 2021): a figure
that its ground cannot predict, nor it the ground."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from genseg.data.instances.instance import OPAQUE, Instance
from genseg.data.proposals.component_tree import MAX_PART, MIN_AREA
from genseg.data.proposals.controls import flat

Image = UInt8[np.ndarray, "h w 3"]
SIDE = 128  # pixels; the longer side of the picture that is worked on, as in the paper
REACH = 5.0  # pixels; deviation of the Gaussian that fills in from outside, as in the paper
WEAK = 1e-3  # keeps the inpainting finite where nothing is near


def inpainting_error(
    picture: Float[np.ndarray, "h w c"], mask: Float[np.ndarray, "h w"]
) -> tuple[float, Float[np.ndarray, "h w"]]:
    """Error inside, predicted from outside, plus the other way round; and its gradient with respect
    to the mask.

    E(m) = sum m |x - N / D|^2 / sum m, with N = K * (x b), D = K * b, b = 1 - m and K a Gaussian.
    Each error is divided by the size of its side, or the whole image would be the best mask.
    """
    error, slope = 0.0, np.zeros_like(mask)
    for sign, m in ((1.0, mask), (-1.0, 1 - mask)):
        b = 1 - m
        below = _blur(b) + WEAK
        filled = _blur(picture * b[..., None]) / below[..., None]
        missed = picture - filled
        each, size = (missed**2).sum(-1), m.sum() + WEAK
        mean = float((m * each).sum() / size)
        push = m[..., None] * missed / below[..., None] * 2 / size  # d mean / d N, negated
        through = _blur((push * filled).sum(-1)) - (picture * _blur(push)).sum(-1)  # d mean / d b
        error += mean
        slope += sign * ((each - mean) / size - through)
    return error, slope


def propose_iem(
    image: Image, *, steps: int = 100, min_area: int = MIN_AREA, max_part: float = MAX_PART
) -> list[Instance]:
    """Components of the figure, from a central ellipse: steps flip pixels of its rim where the
    error grows.

    The score is the part of the component among the figure's pixels, so the main one is first. The
    paper's last step, a network trained on such figures, is left out.
    """
    if flat(image):
        return []
    h, w = image.shape[:2]
    scale = min(SIDE / max(h, w), 1)
    small = cv2.resize(
        image, (max(round(w * scale), 1), max(round(h * scale), 1)), interpolation=cv2.INTER_AREA
    )
    figure = _maximise(small.astype(np.float32) / 255, steps)
    large = cv2.resize(figure.astype(np.float32), (w, h), interpolation=cv2.INTER_LINEAR) >= 0.5
    count, label, stats, _ = cv2.connectedComponentsWithStats(
        large.astype(np.uint8), connectivity=4
    )
    found = []
    for k in range(1, count):
        left, top, width, height, area = (int(v) for v in stats[k])
        if min_area <= area <= max_part * h * w:
            alpha = (label[top : top + height, left : left + width] == k).astype(
                np.uint8
            ) * np.uint8(OPAQUE)
            found.append(Instance(alpha, top, left, area / float(large.sum())))
    return sorted(found, key=lambda i: -i.score)


def _maximise(picture: Float[np.ndarray, "h w c"], steps: int) -> Bool[np.ndarray, "h w"]:
    """The mask with the largest error on the way; after every step it is smoothed, as in the
    paper."""
    h, w = picture.shape[:2]
    y, x = (2 * (np.arange(n) + 0.5) / n - 1 for n in (h, w))
    mask = np.add.outer(y**2, x**2) <= 0.5
    best, largest = mask, -1.0
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    for _ in range(steps):
        error, slope = inpainting_error(picture, mask.astype(np.float32))
        if error > largest:
            best, largest = mask, error
        byte = mask.astype(np.uint8)
        rim = cv2.dilate(byte, cross) != cv2.erode(byte, cross)
        moved = np.where(rim, slope > 0, mask)
        smooth = cv2.GaussianBlur(moved.astype(np.float32), (0, 0), 1) > 0.5
        if not smooth.any() or smooth.all() or np.array_equal(smooth, mask):
            break
        mask = smooth
    return best


def _blur(values: np.ndarray) -> np.ndarray:
    """Nothing lies beyond the border: zeros there keep the operator its own adjoint, which the
    gradient needs."""
    return cv2.GaussianBlur(values, (0, 0), REACH, borderType=cv2.BORDER_CONSTANT)
