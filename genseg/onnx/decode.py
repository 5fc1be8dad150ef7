"""Instances from what an exported model says of its places: `genseg.alpha.generate` and
`genseg.alpha.codes` in numpy.

Names and order are theirs; what decides which instances stay is shared code.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from genseg.alpha.kept import FAINT, GenerateConfig, stability, suppress
from genseg.data.instances.instance import OPAQUE, Instance, cut_instance, resized
from genseg.onnx.facts import Drawing

MANY = 64  # instances drawn at once

Array = np.ndarray
# which codes, the first row and column of the window of each, and the alphas in them
Drawn = tuple[Int[Array, "m"], Int[Array, "m 2"], Float[Array, "m _ _"]]


@dataclass(frozen=True)
class Dense:
    """What the network says of an image: embeddings, and for each place logits of objectness and
    quality, a kernel, and probabilities of classes (one column where there is one class)."""

    embeddings: Float[Array, "e h w"]
    objectness: Float[Array, "p"]
    quality: Float[Array, "p"]
    kernel: Float[Array, "p k"]
    categories: Float[Array, "p c"]


@dataclass(frozen=True)
class Codes:
    """Kernels of n instances, their centres (y and x in pixels), and the pixels of a length of
    one."""

    kernel: Float[Array, "n k"]
    place: Float[Array, "n 2"]
    scale: Float[Array, "n"]

    def __getitem__(self, chosen: Array) -> "Codes":
        return Codes(self.kernel[chosen], self.place[chosen], self.scale[chosen])


def generate(dense: Dense, drawing: Drawing, config: GenerateConfig) -> list[Instance]:
    """The instances of an image, best first, in its pixels."""
    h, w = dense.embeddings.shape[1:]
    found = candidates(dense, drawing, config)
    kept = suppress(found, h, w, overlap=config.overlap, inside=config.inside)
    s = drawing.stride
    whole = (resized(a, (h, w), (h * s, w * s)) for a in kept)
    return [a for a in whole if a is not None]


def candidates(dense: Dense, drawing: Drawing, config: GenerateConfig) -> list[Instance]:
    """What is drawn in an image, best first, at the stride of the embeddings; doubles are among
    them."""
    h, w = (n * drawing.stride for n in dense.embeddings.shape[1:])
    objectness = sigmoid(dense.objectness)
    likely = np.sqrt(objectness * sigmoid(dense.quality)) * dense.categories.max(1)
    peak = _peaks(dense.objectness, h, w, drawing.grids) & (objectness >= config.candidate)
    # the others need no drawing: no alpha is surer of itself than 1
    place = np.flatnonzero(peak & (likely >= config.score))
    likely, category = likely[place], dense.categories[place].argmax(1)
    centres, scales = _centres(h, w, drawing)
    codes = Codes(dense.kernel[place], centres[place], scales[place])
    found = []
    for chosen, corner, alpha in decode_near(dense.embeddings, codes, drawing):
        mask = alpha > 0.5
        area = mask.sum((1, 2))
        sure = (alpha * mask).sum((1, 2)) / np.maximum(area, 1)
        score = likely[chosen] * sure
        if config.stability:
            score = score * stability(alpha) ** config.stability
        large = area * drawing.stride**2 >= config.min_area
        for i in np.flatnonzero((score >= config.score) & large).tolist():
            levels = (alpha[i] * OPAQUE).round().astype(np.uint8)
            if (cut := cut_instance(levels * (levels >= FAINT))) is not None:
                top, left = (corner[i] + (cut.top, cut.left)).tolist()
                which = int(category[chosen[i]])
                found.append(Instance(cut.alpha, top, left, float(score[i]), which))
    return sorted(found, key=lambda a: -a.score)


def _peaks(
    objectness: Float[Array, "p"], h: int, w: int, grids: tuple[int, ...]
) -> Bool[Array, "p"]:
    """Places that no neighbour of their grid exceeds."""
    found, first = [], 0
    for stride in grids:
        rows, columns = -(-h // stride), -(-w // stride)
        grid = objectness[first : first + rows * columns].reshape(rows, columns)
        found.append((cv2.dilate(grid, np.ones((3, 3), np.uint8)) == grid).ravel())
        first += rows * columns
    return np.concatenate(found)


def _centres(h: int, w: int, drawing: Drawing) -> tuple[Float[Array, "p 2"], Float[Array, "p"]]:
    """y and x of all places in pixels, and the scale of their grid."""
    places, scales = [], []
    for stride in drawing.grids:
        at = np.mgrid[: -(-h // stride), : -(-w // stride)].reshape(2, -1).T
        places.append((at.astype(np.float32) + 0.5) * stride)
        scales.append(np.full(len(at), drawing.reach * stride, np.float32))
    return np.concatenate(places), np.concatenate(scales)


def decode_near(pixels: Float[Array, "e h w"], codes: Codes, drawing: Drawing) -> Iterator[Drawn]:
    """Visible alphas within two scales around the places of codes; everywhere for codes of
    large grids, and for those that reach beyond."""
    size = np.array(pixels.shape[1:])
    for scale in np.unique(codes.scale).tolist():
        same = np.flatnonzero(codes.scale == scale)
        for chosen in np.split(same, range(MANY, len(same), MANY)):
            if scale >= drawing.reach * drawing.large:
                yield from _decode_large(pixels, codes, chosen, drawing)
                continue
            span = np.minimum(size, math.ceil(4 * scale / drawing.stride))
            corner = np.rint(codes.place[chosen] / drawing.stride - span / 2).astype(int)
            corner = np.minimum(np.maximum(corner, 0), size - span)
            near = [pixels[:, y : y + span[0], x : x + span[1]] for y, x in corner.tolist()]
            alpha = sigmoid(decode(np.stack(near), codes[chosen], corner, drawing))
            cut = _cut(alpha > 0.5, corner, size)
            yield chosen[~cut], corner[~cut], alpha[~cut]
            for one in chosen[cut][:, None]:
                start = np.zeros((1, 2), int)
                yield one, start, sigmoid(decode(pixels[None], codes[one], start, drawing))


def _decode_large(
    pixels: Float[Array, "e h w"], codes: Codes, chosen: Int[Array, "m"], drawing: Drawing
) -> Iterator[Drawn]:
    """The same for codes of large grids: looked for everywhere at less resolution, then drawn
    where something was found."""
    n, (e, h, w) = drawing.coarser, pixels.shape
    coarse = pixels.reshape(e, h // n, n, w // n, n).mean((2, 4))
    nowhere = np.zeros((len(chosen), 2), int)
    seen = decode(coarse[None], codes[chosen], nowhere, drawing, stride=drawing.stride * n)
    for one, mask in zip(chosen[:, None], seen > drawing.faint, strict=True):
        if not mask.any():
            continue
        at = [np.flatnonzero(mask.any(axis)) for axis in (1, 0)]
        top, left = (max(int(v[0]) - 1, 0) * n for v in at)
        bottom, right = ((int(v[-1]) + 2) * n for v in at)
        corner = np.array([[top, left]])
        window = pixels[None, :, top:bottom, left:right]
        yield one, corner, sigmoid(decode(window, codes[one], corner, drawing))


def decode(
    pixels: Float[Array, "m e h w"],
    codes: Codes,
    corner: Int[Array, "n 2"],
    drawing: Drawing,
    *,
    stride: int | None = None,
) -> Float[Array, "n h w"]:
    """Logits of the visible alpha over one window for all codes (m = 1), or over one of each;
    `corner` is its first row and column. stride: of the pixels; None: the embeddings'."""
    (m, e, h, w), n, hidden = pixels.shape, len(codes.kernel), drawing.hidden
    ends = np.cumsum([hidden * (e + 3), hidden, 2 * hidden])
    first, offset, second, last = np.split(codes.kernel, ends, axis=1)
    first = first.reshape(n, hidden, e + 3)
    dy, dx = (
        _distance(codes, corner, axis, length, stride or drawing.stride)[:, None]
        for axis, length in ((0, h), (1, w))
    )
    wy, wx, wr = (first[..., e + i, None] for i in range(3))
    rows = wy * dy + wr * dy**2 + offset[..., None]
    columns = wx * dx + wr * dx**2
    weights = np.ascontiguousarray(first[..., :e])
    if m == 1:
        drawn = weights.reshape(n * hidden, e) @ pixels[0].reshape(e, h * w)
    else:
        drawn = weights @ pixels.reshape(m, e, h * w)
    drawn = drawn.reshape(n, hidden, h, w)
    drawn += rows[..., None]
    drawn += columns[..., None, :]
    np.maximum(drawn, 0, out=drawn)
    logits = second[:, None, :hidden] @ drawn.reshape(n, hidden, h * w)
    return logits.reshape(n, h, w) + last[:, :1, None]


def _distance(
    codes: Codes, corner: Int[Array, "n 2"], axis: int, length: int, stride: int
) -> Float[Array, "n {length}"]:
    """Signed distance of pixel centres from the places, in units of their scale."""
    at = (np.arange(length) + corner[:, axis, None] + np.float32(0.5)).astype(np.float32) * stride
    away: Array = (at - codes.place[:, axis, None]) / codes.scale[:, None]
    return away.astype(np.float32)


def _cut(
    mask: Bool[Array, "m h w"], corner: Int[Array, "m 2"], size: Int[Array, "2"]
) -> Bool[Array, "m"]:
    """Which masks reach a side of their window, which begins at `corner`, inside an image of that
    size."""
    before, behind = corner > 0, corner + mask.shape[1:] < size
    rows = mask[:, 0].any(1) & before[:, 0] | mask[:, -1].any(1) & behind[:, 0]
    columns = mask[..., 0].any(1) & before[:, 1] | mask[..., -1].any(1) & behind[:, 1]
    return np.asarray(rows | columns)


def sigmoid(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """1 / (1 + exp(-x)), which overflows nowhere."""
    return np.asarray((1 + np.tanh(x / 2)) / 2)
