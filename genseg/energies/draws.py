"""Random numbers that are functions of a seed, a step and an image: the same on one process and on
many, and after a resume."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


class Draws:
    """One generator for each image of a batch.

    keys: what each image is known by, wherever in a batch it stands
    """

    def __init__(self, seed: int, step: int, keys: Sequence[int]) -> None:
        self.generators = [np.random.default_rng([seed, step, key, *b"energy"]) for key in keys]

    def normal(self, image: Int[Tensor, "n"], *shape: int) -> Float[Tensor, "n *shape"]:
        """Standard normal numbers for each map; the maps of an image follow one another."""
        return self._drawn(image, lambda g, n: g.standard_normal((n, *shape), dtype=np.float32))

    def uniform(self, image: Int[Tensor, "n"], *shape: int) -> Float[Tensor, "n *shape"]:
        """Numbers in [0, 1) for each map; the maps of an image follow one another."""
        return self._drawn(image, lambda g, n: g.random((n, *shape), dtype=np.float32))

    def below(self, limit: int, image: Int[Tensor, "n"], *shape: int) -> Int[Tensor, "n *shape"]:
        """Whole numbers from 0 to `limit` - 1 for each map."""
        return (self.uniform(image, *shape) * limit).long().clamp_max(limit - 1)

    def _drawn(
        self,
        image: Int[Tensor, "n"],
        draw: Callable[[np.random.Generator, int], np.ndarray],
    ) -> Tensor:
        counts = torch.bincount(image, minlength=len(self.generators)).tolist()
        rows = [draw(g, n) for g, n in zip(self.generators, counts, strict=True)]
        return torch.from_numpy(np.concatenate(rows)).to(image.device)
