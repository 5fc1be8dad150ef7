"""Corruptions of alpha maps: what an instance is not.

Each takes maps and a strength for each, from 0 (nothing but a soft border changes) to 1;
`corrupted` looks for the strength that leaves a wanted overlap with the true map.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args, runtime_checkable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from genseg.energies.draws import Draws
from genseg.energies.maps import Maps, soft_overlap

Kind = Literal["shift", "dilate", "erode", "cut", "split", "noise", "elsewhere", "union"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# what energies are trained on; union and the even split are only judged
TRAINED: tuple[Kind, ...] = ("shift", "dilate", "erode", "cut", "noise", "elsewhere")
HALVINGS = 6  # of the range of strengths, until the overlap is near the wanted one
WAVES = 6  # cells of the noise, along a side of the window that it fills


@dataclass(frozen=True)
class Drawn:
    """What is random of a corruption, for each map."""

    angle: Float[Tensor, "n"]  # radians
    field: Float[Tensor, "n a a"]  # standard normal, of WAVES cells a side
    at: Float[Tensor, "n 2"]  # in [0, 1): a place of the image


@dataclass(frozen=True)
class Geometry:
    """Maps, and what corruptions ask of them.

    signed: distance of each pixel from the border, negative inside
    side: square root of the area, in pixels of the maps
    centre: y and x of the centroid
    """

    maps: Maps
    signed: Float[Tensor, "n h w"]
    side: Float[Tensor, "n"]
    centre: Float[Tensor, "n 2"]

    def __getitem__(self, chosen: Tensor) -> "Geometry":
        return Geometry(
            self.maps[chosen], self.signed[chosen], self.side[chosen], self.centre[chosen]
        )


def geometry_of(maps: Maps) -> Geometry:
    """What corruptions ask of some maps."""
    alpha = maps.alpha.detach()
    device = alpha.device
    y, x = (torch.arange(n, device=device) + 0.5 for n in alpha.shape[1:])
    area = alpha.sum((1, 2)).clamp_min(1e-3)
    centre = torch.stack([(alpha.sum(2) * y).sum(1), (alpha.sum(1) * x).sum(1)], 1) / area[:, None]
    return Geometry(maps, signed_distance(alpha), area.sqrt(), centre)


def signed_distance(alpha: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Distance of each pixel from the border of the mask (alpha of 0.5), negative inside. Of an
    empty map the whole image is far from it."""
    masks = (alpha >= 0.5).to(torch.uint8).cpu().numpy()
    far = float(sum(alpha.shape[1:]))
    found = np.full(masks.shape, far, np.float32)
    for out, mask in zip(found, masks, strict=True):
        if mask.all():
            out[:] = -far
        elif mask.any():
            inside, outside = _distance(mask), _distance(1 - mask)
            out[:] = np.where(mask, 0.5 - inside, outside - 0.5)
    return torch.from_numpy(found).to(alpha.device)


def _distance(mask: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Of each pixel of a mask from the nearest one outside. OpenCV's last digit depends on where in
    memory the mask lies; the square of the distance is a whole number."""
    found = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(np.sqrt(np.rint(np.square(found))))


def drawn_from(signed: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """The map whose border is where the distance is 0, one pixel soft."""
    return (0.5 - signed).clamp(0, 1)


@runtime_checkable
class Corruption(Protocol):
    def __call__(
        self, geometry: Geometry, strength: Float[Tensor, "n"], drawn: Drawn
    ) -> Float[Tensor, "n h w"]: ...


def shift(geometry: Geometry, strength: Float[Tensor, "n"], drawn: Drawn) -> Float[Tensor, "n h w"]:
    """Moved by up to one and a half sides."""
    far = 1.5 * strength * geometry.side
    by = far[:, None] * torch.stack([drawn.angle.sin(), drawn.angle.cos()], 1)
    return moved(geometry.maps.alpha, by)


def dilate(
    geometry: Geometry, strength: Float[Tensor, "n"], drawn: Drawn
) -> Float[Tensor, "n h w"]:
    """Grown all around by up to one side."""
    return _grown(geometry, strength * geometry.side)


def erode(geometry: Geometry, strength: Float[Tensor, "n"], drawn: Drawn) -> Float[Tensor, "n h w"]:
    """Shrunk all around by up to six tenths of its side."""
    return _grown(geometry, -0.6 * strength * geometry.side)


def _grown(geometry: Geometry, by: Float[Tensor, "n"]) -> Float[Tensor, "n h w"]:
    """Redrawn from its distances; as it is where those do not change."""
    redrawn = drawn_from(geometry.signed - by[:, None, None])
    # what was soft inside stays so
    by = by[:, None, None]
    return torch.where(
        by >= 0,
        torch.maximum(geometry.maps.alpha, redrawn),
        torch.minimum(geometry.maps.alpha, redrawn),
    )


def cut(geometry: Geometry, strength: Float[Tensor, "n"], drawn: Drawn) -> Float[Tensor, "n h w"]:
    """Without what lies beyond a straight line."""
    return _cut(geometry, strength, drawn.angle)


def split(geometry: Geometry, strength: Float[Tensor, "n"], drawn: Drawn) -> Float[Tensor, "n h w"]:
    """One of the halves on both sides of the line through the centre, across the long axis."""
    alpha = geometry.maps.alpha
    h, w = alpha.shape[1:]
    y = (
        torch.arange(h, device=alpha.device)[None, :, None]
        + 0.5
        - geometry.centre[:, 0, None, None]
    )
    x = torch.arange(w, device=alpha.device)[None, None] + 0.5 - geometry.centre[:, 1, None, None]
    yy, xx, xy = ((alpha * v).sum((1, 2)) for v in (y * y, x * x, y * x))
    long = 0.5 * torch.atan2(2 * xy, xx - yy)  # of the long axis, from x
    turned = long + math.pi * (drawn.angle > math.pi)
    side = y * turned.sin()[:, None, None] + x * turned.cos()[:, None, None]
    return alpha * (0.5 - side).clamp(0, 1)


def _cut(
    geometry: Geometry, strength: Float[Tensor, "n"], angle: Float[Tensor, "n"]
) -> Float[Tensor, "n h w"]:
    alpha = geometry.maps.alpha
    h, w = alpha.shape[1:]
    y = torch.arange(h, device=alpha.device)[None, :, None] + 0.5
    x = torch.arange(w, device=alpha.device)[None, None] + 0.5
    across = y * angle.sin()[:, None, None] + x * angle.cos()[:, None, None]
    inside = alpha >= 0.5
    first = torch.where(inside, across, torch.inf).amin((1, 2))
    last = torch.where(inside, across, -torch.inf).amax((1, 2))
    line = last + 0.5 + strength * (first - last - 1)
    line = torch.where(line.isfinite(), line, 0.0)[:, None, None]
    return alpha * (line - across + 0.5).clamp(0, 1)


def noise(geometry: Geometry, strength: Float[Tensor, "n"], drawn: Drawn) -> Float[Tensor, "n h w"]:
    """With a border that waves, by about a side at most."""
    alpha = geometry.maps.alpha
    # of a window around the map, so that waves are as long as it is large
    span = (4 * geometry.side / max(alpha.shape[1:])).clamp(0.2, 1.0)
    waves = _zoomed(drawn.field, geometry, span)
    by = strength[:, None, None] * geometry.side[:, None, None] * waves
    redrawn = drawn_from(geometry.signed - by)
    return torch.where(by.abs() < 1e-3, alpha, redrawn)


def _zoomed(
    field: Float[Tensor, "n a a"], geometry: Geometry, span: Float[Tensor, "n"]
) -> Float[Tensor, "n h w"]:
    """A field over a window of `span` of the image around each centroid; its edge beyond."""
    if not len(field):
        return geometry.maps.alpha
    h, w = geometry.maps.alpha.shape[1:]
    theta = torch.zeros(len(field), 2, 3, device=field.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / span
    middle = 2 * geometry.centre / torch.tensor([h, w], device=field.device) - 1
    theta[:, 0, 2], theta[:, 1, 2] = -middle[:, 1] / span, -middle[:, 0] / span
    grid = F.affine_grid(theta, [len(field), 1, h, w], align_corners=False)
    return F.grid_sample(field[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def elsewhere(
    geometry: Geometry, strength: Float[Tensor, "n"], drawn: Drawn
) -> Float[Tensor, "n h w"]:
    """The same shape at another place of the image."""
    size = torch.tensor(geometry.maps.alpha.shape[1:], device=drawn.at.device)
    return moved(geometry.maps.alpha, drawn.at * size - geometry.centre)


def union(geometry: Geometry, strength: Float[Tensor, "n"], drawn: Drawn) -> Float[Tensor, "n h w"]:
    """Together with the nearest instance of its image, or where it is alone with itself, moved by a
    side."""
    alpha, image = geometry.maps.alpha, geometry.maps.image
    away = torch.cdist(geometry.centre, geometry.centre)
    others = (image[:, None] == image[None]) & ~torch.eye(
        len(image), dtype=torch.bool, device=image.device
    )
    nearest = away.masked_fill(~others, torch.inf)
    alone = ~others.any(1)
    partner = alpha[nearest.argmin(1)] if len(alpha) else alpha
    direction = torch.stack([drawn.angle.sin(), drawn.angle.cos()], 1)
    beside = moved(alpha, geometry.side[:, None] * direction)
    return torch.maximum(alpha, torch.where(alone[:, None, None], beside, partner))


def moved(alpha: Float[Tensor, "n h w"], by: Float[Tensor, "n 2"]) -> Float[Tensor, "n h w"]:
    """Maps moved down and right by so many pixels; 0 comes in."""
    if not len(alpha):  # of which there is no grid
        return alpha
    n, h, w = alpha.shape
    theta = torch.zeros(n, 2, 3, device=alpha.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1.0
    theta[:, 0, 2], theta[:, 1, 2] = -2 * by[:, 1] / w, -2 * by[:, 0] / h
    grid = F.affine_grid(theta, [n, 1, h, w], align_corners=False)
    return F.grid_sample(alpha[:, None], grid, align_corners=False)[:, 0]


CORRUPTIONS: Mapping[Kind, Corruption] = {
    "shift": shift,
    "dilate": dilate,
    "erode": erode,
    "cut": cut,
    "split": split,
    "noise": noise,
    "elsewhere": elsewhere,
    "union": union,
}
# whose strength has no meaning
FIXED: tuple[Kind, ...] = ("split", "elsewhere", "union")


def corrupted(
    geometry: Geometry,
    kinds: Int[Tensor, "n"],
    wanted: Float[Tensor, "n"],
    draws: Draws,
    *,
    among: Sequence[Kind] = KINDS,
) -> Float[Tensor, "n h w"]:
    """Each map corrupted in one way, so that it overlaps the true one about as much as is wanted,
    where the way has a strength.

    kinds: which of `among`
    wanted: overlap with the true map, as `soft_overlap` has it
    """
    image = geometry.maps.image
    drawn = Drawn(
        2 * math.pi * draws.uniform(image),
        draws.normal(image, WAVES, WAVES),
        draws.uniform(image, 2),
    )
    found = geometry.maps.alpha.clone()
    for number, kind in enumerate(among):
        # union asks who else is in the image
        mine = (kinds == number).nonzero()[:, 0]
        if not len(mine):
            continue
        if kind == "union":
            found[mine] = union(geometry, wanted, drawn)[mine]
            continue
        part = Drawn(drawn.angle[mine], drawn.field[mine], drawn.at[mine])
        found[mine] = _as_wanted(
            CORRUPTIONS[kind], geometry[mine], wanted[mine], part, kind in FIXED
        )
    return found


def _as_wanted(
    corrupt: Corruption,
    geometry: Geometry,
    wanted: Float[Tensor, "n"],
    drawn: Drawn,
    fixed: bool,
) -> Float[Tensor, "n h w"]:
    """The corruption at the strength that leaves the wanted overlap, by halving."""
    strength = torch.full_like(wanted, 0.5)
    step = 0.25
    for _ in range(0 if fixed else HALVINGS):
        overlap = soft_overlap(corrupt(geometry, strength, drawn), geometry.maps.alpha)
        strength = strength + torch.where(overlap > wanted, step, -step)
        step /= 2
    return corrupt(geometry, strength, drawn)


def flipped(
    geometry: Geometry, draws: Draws, *, smallest: float = 1 / 8, largest: float = 1 / 3
) -> Float[Tensor, "n h w"]:
    """Each map with a square turned inside out, a -> 1 - a: at its border more often than
    elsewhere, of a side from `smallest` to `largest` of its own. Doing it twice changes nothing.
    The flipped map has another border, so the way back has nearly, not quite, the same
    probability."""
    alpha, image = geometry.maps.alpha, geometry.maps.image
    n, h, w = alpha.shape
    if not n:
        return alpha
    near = torch.exp(-geometry.signed.abs()) + 1e-4
    chosen = _one_of(near.flatten(1), draws.uniform(image))
    y, x = chosen // w, chosen % w
    part = smallest + (largest - smallest) * draws.uniform(image)
    half = (0.5 * part * geometry.side).clamp_min(0.5)
    rows = (torch.arange(h, device=alpha.device)[None] - y[:, None]).abs() <= half[:, None]
    columns = (torch.arange(w, device=alpha.device)[None] - x[:, None]).abs() <= half[:, None]
    square = (rows[:, :, None] & columns[:, None]).to(alpha)
    return alpha + square * (1 - 2 * alpha)


def _one_of(weight: Float[Tensor, "n p"], chance: Float[Tensor, "n"]) -> Int[Tensor, "n"]:
    """An index of each row, drawn in proportion to its weight."""
    upto = weight.double().cumsum(1)
    at = (chance.double() * upto[:, -1])[:, None].contiguous()
    return torch.searchsorted(upto, at, right=True)[:, 0].clamp_max(weight.shape[1] - 1)
