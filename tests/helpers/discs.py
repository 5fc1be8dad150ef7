"""Composites of hard discs, for tests."""

import torch
from torch import Tensor

from genseg.data.composites.compose import Composites

SIZE = 128
Disc = tuple[int, float, float, float]  # image, y, x, radius


def disc(y: float, x: float, radius: float, size: int = SIZE) -> Tensor:
    at = torch.arange(size) + 0.5
    return ((at[:, None] - y) ** 2 + (at - x) ** 2 < radius**2).float()


def truth_of(
    discs: list[Disc], *, images: int = 1, size: int = SIZE, ignored: Tensor | None = None
) -> Composites:
    """Composites of hard discs, the later ones in front of the earlier ones."""
    amodal = (
        torch.stack([disc(y, x, r, size) for _, y, x, r in discs])
        if discs
        else torch.zeros(0, size, size)
    )
    owner = torch.tensor([d[0] for d in discs], dtype=torch.long)
    visible = amodal.clone()
    for k in range(len(discs)):
        for j in range(k + 1, len(discs)):
            if owner[j] == owner[k]:
                visible[k] *= 1 - amodal[j]
    hidden = torch.zeros(images, size, size, dtype=torch.bool) if ignored is None else ignored
    return Composites(
        image=torch.zeros(images, size, size, 3, dtype=torch.uint8),
        visible=(visible * 255).byte(),
        amodal=(amodal * 255).byte(),
        owner=owner,
        known=torch.ones(len(discs), dtype=torch.bool),
        ignored=hidden,
        source=torch.arange(len(discs)),
    )


DISCS = [(0, 20.0, 22.0, 6.0), (0, 44.0, 40.0, 12.0), (1, 30.0, 33.0, 20.0), (1, 10.0, 50.0, 4.0)]
EMPTY: dict[str, list[Disc]] = {"none": [], "too small": [(0, 20.0, 20.0, 0.5)], "some": DISCS}
