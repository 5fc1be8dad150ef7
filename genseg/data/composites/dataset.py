"""Batches of views, and of composites beside them."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from genseg.data.composites.compose import Composites
from genseg.data.composites.composer import Composer
from genseg.data.images.source import ImageSource
from genseg.data.images.views import View, ViewConfig, colour_view, crop_view, draw_view


@dataclass(frozen=True)
class Batch:
    """Views of b images: one entry per crop size group, the largest first."""

    images: list[UInt8[Tensor, "_ b _ _ c"]]
    drawn: list[Float[Tensor, "_ b n"]]  # View.vector of each
    epoch: Int[Tensor, "b"]
    index: Int[Tensor, "b"]  # which image was asked for
    source: Int[Tensor, "b"]  # which image it is; another one where the file is broken
    composites: Composites | None = None  # over the first images of the batch

    def pin_memory(self) -> "Batch":
        """For DataLoader(pin_memory=True)."""
        images, drawn = ([x.pin_memory() for x in xs] for xs in (self.images, self.drawn))
        composites = None if self.composites is None else self.composites.pin_memory()
        return Batch(images, drawn, self.epoch, self.index, self.source, composites)


class ViewDataset(Dataset[Batch]):
    """Reads the images of a list of (epoch, index) and makes their views.

    `colour`: apply the photometric part here; otherwise the views are only cropped and flipped, and
    the batch carries what was drawn. `composer` adds composites.
    """

    def __init__(
        self,
        source: ImageSource,
        views: tuple[ViewConfig, ...],
        *,
        seed: int,
        colour: bool,
        composer: Composer | None = None,
    ) -> None:
        self.source, self.seed, self.colour, self.composer = source, seed, colour, composer
        kinds = [v for v in views for _ in range(v.count)]
        sizes = sorted({v.size for v in kinds}, reverse=True)
        self.groups = [[(n, v) for n, v in enumerate(kinds) if v.size == size] for size in sizes]

    def __getitem__(self, keys: list[tuple[int, int]]) -> Batch:
        shapes = [(len(group), len(keys), group[0][1].size) for group in self.groups]
        channels = self.source.channels
        images = [np.empty((v, b, size, size, channels), np.uint8) for v, b, size in shapes]
        drawn = [np.empty((v, b, View.length(channels)), np.float32) for v, b, _ in shapes]
        found = np.empty(len(keys), np.int64)
        for column, (epoch, index) in enumerate(keys):
            image, found[column] = self.source.read(index)
            for group, pixels, numbers in zip(self.groups, images, drawn, strict=True):
                for row, (n, config) in enumerate(group):
                    rng = np.random.default_rng([self.seed, epoch, index, n])
                    view = draw_view(rng, config, *image.shape)
                    cut = crop_view(image, view, config.size)
                    pixels[row, column] = colour_view(cut, view) if self.colour else cut
                    numbers[row, column] = view.vector()
        return Batch(
            images=[torch.from_numpy(x) for x in images],
            drawn=[torch.from_numpy(x) for x in drawn],
            epoch=torch.tensor([epoch for epoch, _ in keys]),
            index=torch.tensor([i for _, i in keys]),
            source=torch.from_numpy(found),
            composites=None if self.composer is None else self.composer(keys),
        )
