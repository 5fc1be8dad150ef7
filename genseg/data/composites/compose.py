"""Composites: cut-outs pasted over a host image, with the alpha of every layer known.

x = sum_k v_k c_k, where layer k has colour c_k and visible alpha v_k = a_k * prod_{j in front of k}
(1 - a_j). The
layers are, from the back: the host's own instances as far as proposals know them, then the
cut-outs. Everything random is drawn from one generator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from genseg.core.check import at_least, between
from genseg.data.composites.affine import Window, moved, pose, turned, warped
from genseg.data.composites.appearance import (
    BLUR,
    Alpha,
    Blend,
    Pixels,
    Rng,
    blended,
    patch_window,
    photometric,
    plain,
    tinted,
)
from genseg.data.composites.bank import Bank
from genseg.data.composites.hosts import Images
from genseg.data.instances.instance import Instance

Map = Float[np.ndarray, "s s"]  # of a composite
TRIES = 8  # draws of a cut-out that can be pasted: not all of a bank are sure and whole


@dataclass(frozen=True)
class ComposeConfig:
    size: int = 128  # side of a composite in pixels
    # range of the host's zoom; cut-outs vary by as much again
    zoom: tuple[float, float] = (0.7, 1.4)
    pasted: tuple[int, int] = (0, 12)  # fewest and most cut-outs
    own: float = 0.8  # probability that a cut-out comes from the host itself
    touching: float = 0.3  # probability that a cut-out is placed beside the layer before it
    empty: float = 0.2  # probability that a pasted layer is background, which is no instance
    sure: float = 0.5  # least score of a proposal that is pasted
    # least score of the host's own proposals that count as layers; others are ignored
    native: float = 0.5
    # true: what no proposal of the host covers is background; false: it is ignored
    background: bool = True
    # probability that a cut-out, or the host, is filled with one small patch, mirrored and tinted
    texture: float = 0.0
    blends: tuple[Blend, ...] = get_args(Blend)  # ways to blend a cut-out in, drawn evenly
    rotate: float = 180.0  # cut-outs are rotated by up to this many degrees
    # rotate whole composites by quarter turns, beside flipping them left to right
    turn: bool = True
    # probability of each change of colour, blur, noise and JPEG after composition
    photometric: float = 0.8
    stretch: bool = True  # spread each image's values over the whole range, as generation does
    shared: int = 0  # number of cut-outs that neighbouring composites share, for objective.contrast

    def __post_init__(self) -> None:
        at_least(32, size=self.size)
        at_least(
            0,
            pasted=self.pasted[0],
            shared=self.shared,
            sure=self.sure,
            native=self.native,
            rotate=self.rotate,
        )
        chances = ("own", "touching", "empty", "texture", "photometric")
        between(0, 1, **{name: getattr(self, name) for name in chances})
        if not self.blends:
            raise ValueError(
                f"alpha.compose.blends=[]: name one or more of {', '.join(get_args(Blend))}"
            )
        if not 0 < self.zoom[0] <= self.zoom[1] or self.pasted[0] > self.pasted[1]:
            raise ValueError(f"zoom={self.zoom} and pasted={self.pasted} are (smallest, largest)")


@dataclass(frozen=True)
class Composite:
    """An image and all that is known of it; layers from the back.

    known: whether the amodal alpha is known; not that of a host's own instance
    ignored: what the host shows there may or may not be an instance
    source: the number of each layer in the bank; the host's own have theirs as well
    """

    image: Pixels
    visible: UInt8[np.ndarray, "k h w"]
    amodal: UInt8[np.ndarray, "k h w"]
    known: Bool[np.ndarray, "k"]
    ignored: Bool[np.ndarray, "h w"]
    source: Int[np.ndarray, "k"]


@dataclass(frozen=True)
class Composites:
    """A batch of composites as tensors. The layers of all images follow one another; `owner` is the
    image of each."""

    image: UInt8[Tensor, "b h w c"]
    visible: UInt8[Tensor, "n h w"]
    amodal: UInt8[Tensor, "n h w"]
    owner: Int[Tensor, "n"]
    known: Bool[Tensor, "n"]
    ignored: Bool[Tensor, "b h w"]
    source: Int[Tensor, "n"]

    def to(self, device: torch.device) -> "Composites":
        """The same on a device."""
        return Composites(
            **{name: x.to(device, non_blocking=True) for name, x in vars(self).items()}
        )

    def pin_memory(self) -> "Composites":
        """For DataLoader(pin_memory=True)."""
        return Composites(**{name: x.pin_memory() for name, x in vars(self).items()})


@dataclass(frozen=True)
class Layer:
    """What is pasted: colour and amodal alpha in a window of the canvas, and whether it is an
    instance."""

    window: Window
    colour: Float[np.ndarray, "h w c"]
    alpha: Alpha
    target: bool


def compose(
    rng: Rng,
    host: int,
    images: Images,
    bank: Bank,
    config: ComposeConfig,
    shared: Sequence[int] = (),
) -> Composite:
    """Draw the composite over one image of the bank; its first cut-outs are `shared`, as far as so
    many are pasted."""
    own = bank.of_image(host)
    bare = config.texture > 0 and rng.random() < config.texture
    if bare:  # it shows nothing but its texture, so all is known
        image, zoom = plain(rng, images.pixels(host), config.size), 1.0
        scores, alphas, which = _nothing()
        mirrored = np.zeros(image.shape[:2], np.float32)
    else:
        image, zoom, mirrored, natives = _host(
            rng, images.pixels(host), [bank[i] for i in own], config, images.absent(host)
        )
        scores, alphas, which = natives
    taken = scores >= config.native
    amodal = [a for a, t in zip(alphas, taken, strict=True) if t]
    sources = [own[i] for i, t in zip(which, taken, strict=True) if t]
    targets, known = [True] * len(amodal), [False] * len(amodal)
    unsure = [a for a, t in zip(alphas, taken, strict=True) if not t]
    background = 1 - np.max(alphas, axis=0) if alphas else np.ones(image.shape[:2], np.float32)
    background *= 1 - mirrored
    ignored = np.max([mirrored, *unsure], axis=0)
    # so it is no ground to paste from either: it may show instances
    if not (config.background or bare):
        ignored, background = np.maximum(ignored, background), np.zeros_like(background)
    mixed = image.astype(np.float32)
    last: Alpha | None = None
    wanted = int(rng.integers(config.pasted[0], config.pasted[1] + 1)) if len(bank) else 0
    for n in range(wanted):
        for _ in range(TRIES):
            number, null = _draw_cut_out(rng, host, bank, config)
            number = shared[n] if n < len(shared) else number
            layer = _draw_layer(
                rng, number, null, images, bank, mixed, background, zoom, last, config
            )
            if layer is not None:
                break
        else:
            continue
        there = layer.window
        mixed[there] += layer.alpha[..., None] * (layer.colour - mixed[there])
        ignored[there] *= 1 - layer.alpha
        background[there] = background[there] * (1 - layer.alpha) + layer.alpha * (not layer.target)
        last = np.zeros_like(background)
        last[there] = layer.alpha
        amodal.append(last)
        targets.append(layer.target)
        known.append(layer.target)
        sources.append(number)
    seen = visible(np.stack(amodal)) if amodal else np.zeros((0, *image.shape[:2]), np.float32)
    chosen = np.array(targets, bool)
    return Composite(
        image=photometric(rng, mixed, config.photometric),
        visible=_bytes(seen[chosen]),
        amodal=_bytes(np.stack(amodal)[chosen]) if amodal else _bytes(seen),
        known=np.array(known, bool)[chosen],
        ignored=ignored > 0.5,
        source=np.array(sources, np.int64)[chosen],
    )


def collate(composites: Sequence[Composite]) -> Composites:
    """Composites of one size as a batch."""
    counts = [len(c.visible) for c in composites]
    return Composites(
        image=torch.from_numpy(np.stack([c.image for c in composites])),
        visible=torch.from_numpy(np.concatenate([c.visible for c in composites])),
        amodal=torch.from_numpy(np.concatenate([c.amodal for c in composites])),
        owner=torch.repeat_interleave(torch.arange(len(composites)), torch.tensor(counts)),
        known=torch.from_numpy(np.concatenate([c.known for c in composites])),
        ignored=torch.from_numpy(np.stack([c.ignored for c in composites])),
        source=torch.from_numpy(np.concatenate([c.source for c in composites])),
    )


def visible(amodal: Float[np.ndarray, "k h w"]) -> Float[np.ndarray, "k h w"]:
    """Alphas after occlusion, layers from the back. With what is left for the background they sum
    to one."""
    seen, left = np.empty_like(amodal), np.ones_like(amodal[0])
    for k in reversed(range(len(amodal))):
        seen[k] = left * amodal[k]
        left = left * (1 - amodal[k])
    return seen


def _bytes(alpha: Float[np.ndarray, "k h w"]) -> UInt8[np.ndarray, "k h w"]:
    return (alpha * 255).round().astype(np.uint8)


# The host: a window of an image, its own instances with it


def _host(
    rng: Rng,
    image: Pixels,
    instances: list[Instance],
    config: ComposeConfig,
    absent: Bool[np.ndarray, "h w"] | None = None,
) -> tuple[
    UInt8[np.ndarray, "s s c"], float, Map, tuple[Float[np.ndarray, "k"], list[Map], list[int]]
]:
    """A square window, its zoom, where a small image is mirrored (it shows instances there that no
    bank holds) or has no value (`absent`), and scores, alphas and numbers of the instances in
    it."""
    size = config.size
    h, w = image.shape[:2]
    zoom = float(np.exp(rng.uniform(*np.log(config.zoom))))
    span = size / zoom
    top, left = (rng.uniform(0, n - span) if n > span else (n - span) / 2 for n in (h, w))
    matrix = np.array(
        [[zoom, 0, -left * zoom + (zoom - 1) / 2], [0, zoom, -top * zoom + (zoom - 1) / 2]]
    )
    matrix = turned(rng, matrix, size, config.turn)
    source = cv2.GaussianBlur(image, (0, 0), 0.5 / zoom) if zoom < 0.8 else image
    out = cv2.warpAffine(
        source, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    out = out.reshape(size, size, image.shape[2])
    known = np.ones((h, w), np.float32) if absent is None else np.float32(1) - absent
    mirrored = 1 - cv2.warpAffine(known, matrix, (size, size), flags=cv2.INTER_LINEAR)
    scores, alphas, which = [], [], []
    for i, a in enumerate(instances):
        y, x, (ah, aw) = a.top, a.left, a.alpha.shape
        if y + ah < top or x + aw < left or y > top + span or x > left + span:
            continue
        window, alpha = moved(a, matrix, size, margin=0)
        if alpha.max(initial=0) > 0.5:
            scores.append(a.score)
            alphas.append(np.zeros((size, size), np.float32))
            alphas[-1][window] = alpha
            which.append(i)
    return out, zoom, mirrored, (np.array(scores, np.float32), alphas, which)


def _nothing() -> tuple[Float[np.ndarray, "k"], list[Alpha], list[int]]:
    """The instances of a host that shows none."""
    return np.zeros(0, np.float32), [], []


# What is pasted


def _draw_cut_out(rng: Rng, host: int, bank: Bank, config: ComposeConfig) -> tuple[int, bool]:
    """Which cut-out of a bank that is not empty comes next, and whether it shows background."""
    own = bank.of_image(host)
    numbers = own if len(own) and rng.random() < config.own else range(len(bank))
    return int(rng.integers(numbers.start, numbers.stop)), bool(rng.random() < config.empty)


def _draw_layer(
    rng: Rng,
    number: int,
    null: bool,
    images: Images,
    bank: Bank,
    canvas: Float[np.ndarray, "s s c"],
    background: Alpha,
    zoom: float,
    last: Alpha | None,
    config: ComposeConfig,
) -> Layer | None:
    """A cut-out as one more layer in front of `canvas`, or None where it cannot be pasted."""
    instance = bank[number]
    source = bank.image(number)
    if instance.score < config.sure or _is_cut(instance, images.read(source)):
        return None
    centre = _place(rng, len(canvas), last, touching=rng.random() < config.touching)
    scale = zoom * float(np.exp(rng.uniform(*np.log(config.zoom))))
    matrix = pose(rng, instance, centre, scale, config.rotate)
    there, alpha = moved(instance, matrix, len(canvas), margin=BLUR)
    if alpha.max(initial=0) < 0.5:
        return None
    if null:
        colour = _elsewhere(rng, canvas, background, there, alpha)
        # put back where it was: that shows nothing, so it must not hide anything either
        if colour is None:
            return None
    else:
        textured = config.texture > 0 and rng.random() < config.texture
        whole = images.read(source)
        window = (
            patch_window(rng, instance.window, whole) if textured else _around(instance, whole, 6)
        )
        border = cv2.BORDER_REFLECT_101 if textured else cv2.BORDER_REPLICATE
        pixels = images.pixels(source, window)
        colour = warped(pixels, matrix, (window[0].start, window[1].start), there, border).astype(
            np.float32
        )
        colour = tinted(rng, colour) if textured else colour
    blend = config.blends[int(rng.integers(len(config.blends)))]
    colour, alpha = blended(rng, colour, alpha, canvas[there], blend)
    return Layer(there, colour, alpha, not null)


def _place(rng: Rng, size: int, last: Alpha | None, *, touching: bool) -> tuple[float, float]:
    """Where a cut-out's centre goes: anywhere, or near the border of the last layer."""
    y, x = rng.uniform(0, size, 2)
    angle = rng.uniform(0, 2 * np.pi)
    if touching and last is not None:
        rows, columns = np.nonzero(last > 0.5)
        if len(rows):
            reach = 2 * np.sqrt(len(rows) / np.pi)  # two radii: side by side when it is as large
            y, x = rows.mean() + reach * np.sin(angle), columns.mean() + reach * np.cos(angle)
    return float(y), float(x)


def _is_cut(instance: Instance, image: Pixels) -> bool:
    """Whether the image's edge may cut the instance: its straight side would give it away."""
    rows, columns = instance.window
    h, w = image.shape[:2]
    return rows.start <= 1 or columns.start <= 1 or rows.stop >= h - 1 or columns.stop >= w - 1


def _around(instance: Instance, image: Pixels, margin: int) -> Window:
    """The instance's window with a margin, inside its image."""
    rows, columns = instance.window
    h, w = image.shape[:2]
    return (
        slice(max(0, rows.start - margin), min(h, rows.stop + margin)),
        slice(max(0, columns.start - margin), min(w, columns.stop + margin)),
    )


def _elsewhere(
    rng: Rng,
    canvas: Float[np.ndarray, "s s c"],
    background: Float[np.ndarray, "s s"],
    window: Window,
    alpha: Alpha,
) -> Float[np.ndarray, "h w c"] | None:
    """What lies elsewhere on the canvas, only background under `alpha`, for a window; None where
    there is none. The canvas goes on at its other side."""
    size = len(canvas)
    mask = alpha > 0.5
    for shift in rng.integers(-size // 2, size // 2, (4, 2)).tolist():
        rows, columns = (
            (np.arange(s.start, s.stop) - by) % size for s, by in zip(window, shift, strict=True)
        )
        there = np.ix_(rows, columns)
        if background[there][mask].min(initial=1) > 0.5:
            return canvas[there]
    return None
