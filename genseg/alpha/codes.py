"""Codes of instances, and the kernel that a code becomes: it draws the alpha map of the instance
over the pixel embeddings of its image.

The kernel is CondInst's (Tian et al., 2020). Where a code comes from does not matter here.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor, nn

STRIDE = 2  # of the pixel embeddings; alphas are decoded there and enlarged
GRIDS = (4, 8, 16)  # strides of the grids of places, for small, middle and large instances
# from this stride on a grid's instances may have any size: they are looked for everywhere
LARGE = 16
MANY = 64  # large instances looked for at once: memory for each is that of an image
COARSER = 4  # times the stride at which large instances are looked for before they are decoded
FAINT = -3.0  # logit from which on something is seen there
# a grid's places hold instances of a side (square root of the area) up to this many strides
REACH = 4


@dataclass(frozen=True)
class Codes:
    """Codes of n instances: where they are, how large, and what a vector says beyond that.

    image: which image of the batch
    place: y and x of the centre, in pixels of the image
    scale: pixels that count as a length of one around it
    """

    vector: Float[Tensor, "n d"]
    place: Float[Tensor, "n 2"]
    scale: Float[Tensor, "n"]
    image: Int[Tensor, "n"]

    def __getitem__(self, chosen: Tensor) -> "Codes":
        return Codes(
            self.vector[chosen], self.place[chosen], self.scale[chosen], self.image[chosen]
        )


class CodeDecoder(nn.Module):
    """Alphas from codes: a linear layer makes the kernel of each, two layers over (embedding, dy,
    dx, r^2) whose outputs are the logits of the visible and the amodal alpha."""

    kernel: nn.Linear

    def make_kernel(self, *, code: int, embedding: int, hidden: int) -> None:
        """Add the layer `kernel`: from a code to weights and offsets of the hidden layer and of two
        outputs."""
        self.shapes = ((hidden, embedding + 3), (hidden,), (2, hidden), (2,))
        self.kernel = nn.Linear(code, sum(torch.Size(s).numel() for s in self.shapes))

    @classmethod
    def with_kernel_of(cls, decoder: "CodeDecoder") -> "CodeDecoder":
        """A decoder of codes with a copy of another one's kernel, and nothing else of it."""
        made = cls()
        made.shapes, made.kernel = decoder.shapes, copy.deepcopy(decoder.kernel)
        return made

    def decode(
        self, embeddings: Float[Tensor, "b e h w"], codes: Codes
    ) -> Float[Tensor, "n 2 h w"]:
        """Logits of the visible and the amodal alpha of each code, at the stride of the
        embeddings."""
        parts = []
        order = torch.argsort(codes.image, stable=True)
        counts = torch.bincount(codes.image, minlength=len(embeddings)).tolist()
        for pixels, chosen in zip(embeddings, order.split(counts), strict=True):
            if len(chosen):
                parts.append(self._decode(pixels[None], codes[chosen], torch.zeros(len(chosen), 2)))
        if not parts:
            return embeddings.new_zeros(0, 2, *embeddings.shape[2:])
        return torch.cat(parts)[torch.argsort(order)]

    def decode_near(
        self, pixels: Float[Tensor, "e h w"], codes: Codes
    ) -> Iterator[tuple[Int[Tensor, "m"], Int[Tensor, "m 2"], Float[Tensor, "m _ _"]]]:
        """Visible alphas of codes of one image, looked for within two scales around their places;
        everywhere for codes
        of large grids, and for those that reach beyond: a fibre has the scale of its area, not of
        its length.

        Yields, for each scale: which codes, the first row and column of the window of each, and the
        alphas in them. The same as `decode` there, at a fraction of the cost for small instances.
        """
        size = torch.tensor(pixels.shape[1:], device=pixels.device)
        for scale in codes.scale.unique().tolist():
            chosen = (codes.scale == scale).nonzero()[:, 0]
            if scale >= REACH * LARGE:
                yield from self._decode_large(pixels, codes, chosen)
                continue
            span = size.clamp(max=math.ceil(4 * scale / STRIDE))
            corner = (codes.place[chosen] / STRIDE - span / 2).round().long()
            corner = torch.minimum(corner.clamp_min(0), size - span)
            rows, columns = span.tolist()
            near = torch.stack(
                [pixels[:, y : y + rows, x : x + columns] for y, x in corner.tolist()]
            )
            alpha = self._decode(near, codes[chosen], corner)[:, 0].float().sigmoid()
            cut = _cut(alpha > 0.5, corner, size)
            yield chosen[~cut], corner[~cut], alpha[~cut]
            start = torch.zeros(1, 2, dtype=torch.long, device=pixels.device)
            # at full resolution: at less, what is thin would not be seen
            for code in chosen[cut][:, None]:
                yield (
                    code,
                    start,
                    self._decode(pixels[None], codes[code], start)[:, 0].float().sigmoid(),
                )

    def _decode_large(
        self, pixels: Float[Tensor, "e h w"], codes: Codes, chosen: Int[Tensor, "m"]
    ) -> Iterator[tuple[Int[Tensor, "1"], Int[Tensor, "1 2"], Float[Tensor, "1 _ _"]]]:
        """The same for codes of a large grid, whose instances have any size: looked for everywhere
        at a quarter of the resolution, then decoded where something was found."""
        coarse = F.avg_pool2d(pixels[None], COARSER, ceil_mode=True)
        for some in chosen.split(MANY):
            nowhere = torch.zeros(len(some), 2, device=pixels.device)
            seen = self._decode(coarse, codes[some], nowhere, stride=STRIDE * COARSER)[:, 0] > FAINT
            yield from self._decode_seen(pixels, codes, some, seen)

    def _decode_seen(
        self,
        pixels: Float[Tensor, "e h w"],
        codes: Codes,
        chosen: Int[Tensor, "m"],
        seen: Bool[Tensor, "m y x"],
    ) -> Iterator[tuple[Int[Tensor, "1"], Int[Tensor, "1 2"], Float[Tensor, "1 _ _"]]]:
        """The same where a look at a quarter of the resolution has seen something."""
        for code, mask in zip(chosen.split(1), seen, strict=True):
            if not bool(mask.any()):
                continue
            spans = []
            for axis, limit in ((1, pixels.shape[1]), (0, pixels.shape[2])):
                at = mask.any(axis).nonzero()[:, 0]
                spans.append(
                    (max(int(at[0]) - 1, 0) * COARSER, min((int(at[-1]) + 2) * COARSER, limit))
                )
            (top, bottom), (left, right) = spans
            corner = torch.tensor([[top, left]], device=pixels.device)
            found = self._decode(pixels[None, :, top:bottom, left:right], codes[code], corner)
            yield code, corner, found[:, 0].float().sigmoid()

    def _decode(
        self,
        pixels: Float[Tensor, "m e h w"],
        codes: Codes,
        corner: Real[Tensor, "n 2"],
        *,
        stride: int = STRIDE,
    ) -> Float[Tensor, "n 2 h w"]:
        """Logits over one window for all codes (m = 1), or over one of each; `corner` is its first
        row and column."""
        e, h, w = pixels.shape[1:]
        sizes = [torch.Size(s).numel() for s in self.shapes]
        parts = self.kernel(codes.vector).to(pixels.dtype).split(sizes, 1)
        first, offset, second, last = (
            p.unflatten(1, s) for p, s in zip(parts, self.shapes, strict=True)
        )
        corner = corner.to(codes.place)
        dy, dx = (
            _distance(codes, corner, axis, n, stride).to(pixels.dtype)
            for axis, n in ((0, h), (1, w))
        )
        if len(pixels) == 1:
            hidden = (first[..., :e].flatten(0, 1) @ pixels[0].flatten(1)).view(
                len(codes.vector), -1, h, w
            )
        else:
            hidden = (first[..., :e] @ pixels.flatten(2)).unflatten(2, (h, w))
        wy, wx, wr = first[..., e:, None].unbind(2)
        rows = wy * dy[:, None] + wr * dy[:, None].square() + offset[..., None]
        columns = wx * dx[:, None] + wr * dx[:, None].square()
        hidden = (hidden + rows[..., None] + columns[..., None, :]).relu()
        return (second @ hidden.flatten(2)).unflatten(2, (h, w)) + last[..., None, None]


def _cut(
    mask: Bool[Tensor, "m h w"], corner: Int[Tensor, "m 2"], size: Int[Tensor, "2"]
) -> Bool[Tensor, "m"]:
    """Which masks reach a side of their window, which begins at `corner`, inside an image of that
    size."""
    first, last = corner > 0, corner + torch.tensor(mask.shape[1:], device=corner.device) < size
    rows = mask[:, 0].any(1) & first[:, 0] | mask[:, -1].any(1) & last[:, 0]
    return rows | mask[..., 0].any(1) & first[:, 1] | mask[..., -1].any(1) & last[:, 1]


def _distance(
    codes: Codes, corner: Float[Tensor, "n 2"], axis: int, length: int, stride: int
) -> Float[Tensor, "n {length}"]:
    """Signed distance of pixel centres from the places, in units of their scale."""
    at = (torch.arange(length, device=codes.place.device) + corner[:, axis, None] + 0.5) * stride
    return (at - codes.place[:, axis, None]) / codes.scale[:, None]
