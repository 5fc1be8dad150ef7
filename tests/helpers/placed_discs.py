"""A decoder whose instances are discs, and what its places propose."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from genseg.alpha.codes import Codes
from genseg.alpha.decoder import AlphaDecoder, Places

SIZE = 64
GRIDS = ((4, 16, 16), (16, 4, 4))
LOW = -9.0


class Discs(AlphaDecoder):
    """A decoder whose codes are a radius and a steepness."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def decode_near(self, pixels: Tensor, codes: Codes) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        n = len(codes.vector)
        at = [(torch.arange(n) + 0.5) * 2 for n in pixels.shape[1:]]
        dy, dx = (a - codes.place[:, i, None] for i, a in enumerate(at))
        distance = (dy[:, :, None] ** 2 + dx[:, None] ** 2).sqrt()
        radius, steep = (x[:, None, None] for x in codes.vector.unbind(1))
        yield (
            torch.arange(n),
            torch.zeros(n, 2, dtype=torch.long),
            ((radius - distance) * steep).sigmoid(),
        )


def places_of(
    placed: list[tuple[int, float, float, float, float, float, int]],
    images: int = 1,
    steep: float = 20.0,
) -> Places:
    """(image, y, x, radius, objectness, quality, number of the grid) of each place that is not
    silent."""
    p = sum(r * c for _, r, c in GRIDS)
    objectness, quality = torch.full((images, p), LOW), torch.zeros(images, p)
    vector = torch.tensor([1.0, steep]).repeat(images, p, 1)
    for i, y, x, radius, o, q, grid in placed:
        stride, _, columns = GRIDS[grid]
        at = sum(r * c for _, r, c in GRIDS[:grid]) + int(y // stride) * columns + int(x // stride)
        objectness[i, at], quality[i, at], vector[i, at, 0] = o, q, radius
    return Places(objectness, quality, vector, GRIDS)
