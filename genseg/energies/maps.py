"""Alpha maps of a batch of images: where they are, windows around them, how much they overlap."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genseg.alpha.codes import GRIDS, REACH, STRIDE
from genseg.alpha.decoder import AlphaDecoder

LIGHTEST = 1e-3  # pixels, at least, by which a centroid is divided


@dataclass(frozen=True)
class Maps:
    """n alpha maps at the stride of the pixel embeddings, and the image of each.

    alpha: in [0, 1]
    image: which of the batch; those of one image follow one another
    """

    alpha: Float[Tensor, "n h w"]
    image: Int[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, chosen: Tensor) -> "Maps":
        return Maps(self.alpha[chosen], self.image[chosen])

    def to(self, device: torch.device) -> "Maps":
        """The same on a device."""
        return Maps(self.alpha.to(device), self.image.to(device))


def check_grids(decoder: AlphaDecoder) -> None:
    """Raise ValueError for a decoder of other grids than those whose scales maps are framed by."""
    if decoder.config.grids != GRIDS:
        raise ValueError(
            f"alpha.decoder.grids={list(decoder.config.grids)}: an energy is for maps of the grids "
            f"{list(GRIDS)} alone; leave the energy out, or use these"
        )


def frame(alpha: Float[Tensor, "n h w"]) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n"]]:
    """The centroid of each map in pixels of the image, y and x, and the scale of the grid that has
    instances of its size: the rule of `genseg.alpha.objective.assign`. Without gradient."""
    alpha = alpha.detach()
    y, x = (torch.arange(n, device=alpha.device) + 0.5 for n in alpha.shape[1:])
    area = alpha.sum((1, 2))
    mass = area.clamp_min(LIGHTEST)
    centre = torch.stack([(alpha.sum(2) * y).sum(1) / mass, (alpha.sum(1) * x).sum(1) / mass], 1)
    scales = torch.tensor([float(REACH * stride) for stride in GRIDS], device=alpha.device)
    grid = torch.bucketize(STRIDE * area.sqrt(), scales[:-1], right=True)
    return STRIDE * centre, scales[grid]


@dataclass(frozen=True)
class Windows:
    """Square windows of `width` scales around places, of `cells` by `cells`; 0 outside the image.

    Two matrices of tents for each, one for rows and one for columns: what is shrunk is averaged,
    and there are derivatives of any order, of which `grid_sample` has but the first.
    """

    rows: Float[Tensor, "n s h"]
    columns: Float[Tensor, "n s w"]

    @classmethod
    def around(
        cls,
        place: Float[Tensor, "n 2"],
        scale: Float[Tensor, "n"],
        size: tuple[int, int],
        *,
        cells: int,
        width: float,
    ) -> "Windows":
        """Those of places, in maps of `size`."""
        step = (width * scale / (cells * STRIDE))[:, None, None]
        number = torch.arange(cells, device=place.device)[None, :, None] + 0.5 - cells / 2
        reach = step.clamp_min(1.0)
        sides = []
        for axis, length in enumerate(size):
            at = place[:, axis, None, None] / STRIDE + number * step
            pixel = torch.arange(length, device=place.device)[None, None] + 0.5
            sides.append((1 - (pixel - at).abs() / reach).relu() / reach)
        return cls(*sides)

    def of_each(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c s s"]:
        """The windows, each in a picture of its own."""
        return (self.rows[:, None].to(x.dtype) @ x) @ self.columns[:, None].transpose(2, 3).to(
            x.dtype
        )

    def of_images(
        self, x: Float[Tensor, "b c h w"], image: Int[Tensor, "n"]
    ) -> Float[Tensor, "n c s s"]:
        """The windows, each in one of a few images: one product an image, and no copies of it."""
        order = torch.argsort(image, stable=True)
        counts = torch.bincount(image, minlength=len(x)).tolist()
        parts = [x.new_zeros(0, x.shape[1], self.rows.shape[1], self.columns.shape[1])]
        for pixels, mine in zip(x, order.split(counts), strict=True):
            rows = self.rows[mine].flatten(0, 1).to(x.dtype)  # ms h
            high = rows @ pixels.transpose(0, 1).flatten(1)  # ms cw
            high = high.view(len(mine), self.rows.shape[1], *pixels.shape[::2]).transpose(1, 2)
            parts.append(high @ self.columns[mine, None].transpose(2, 3).to(x.dtype))
        return torch.cat(parts)[torch.argsort(order)]


def soft_overlap(a: Float[Tensor, "n h w"], b: Float[Tensor, "n h w"]) -> Float[Tensor, "n"]:
    """a.b / (a.a + b.b - a.b) of each pair: for hard maps their intersection over union, 1 for
    equal soft ones, 0 where one is empty (Tanimoto)."""
    both, ours, theirs = (a * b).sum((1, 2)), a.square().sum((1, 2)), b.square().sum((1, 2))
    return both / (ours + theirs - both).clamp_min(LIGHTEST)


def nearest(maps: Maps, truth: Maps) -> tuple[Float[Tensor, "n"], Int[Tensor, "n"]]:
    """The largest `soft_overlap` of each map with a true one of its image, and which that is; 0,
    and any, without one."""
    if not len(truth) or not len(maps):
        none = torch.zeros(len(maps), device=maps.alpha.device)
        return none, none.long()
    ours, theirs = maps.alpha.flatten(1), truth.alpha.flatten(1)
    both = ours @ theirs.T
    union = ours.square().sum(1)[:, None] + theirs.square().sum(1)[None] - both
    other = maps.image[:, None] != truth.image[None]
    found = (both / union.clamp_min(LIGHTEST)).masked_fill(other, 0.0).max(1)
    return found.values, found.indices
