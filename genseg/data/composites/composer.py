"""Composites for the images of a batch."""

import numpy as np
from jaxtyping import UInt8

from genseg.data.composites.bank import Bank
from genseg.data.composites.compose import ComposeConfig, Composites, collate, compose
from genseg.data.composites.hosts import Images
from genseg.data.images.source import ImageSource


class Composer:
    """Composites over the images of a source: the first `share` of each list of (epoch, index), at
    least one.

    With `shared` cut-outs the second composite of each pair depends on its neighbour in the list
    too.
    """

    def __init__(
        self, source: ImageSource, bank: Bank, config: ComposeConfig, *, share: float, seed: int
    ) -> None:
        self.source, self.bank, self.config, self.share, self.seed = (
            source,
            bank,
            config,
            share,
            seed,
        )
        self.images = Images(self._read, stretched=config.stretch, absent=source.absent)

    def _read(self, i: int) -> UInt8[np.ndarray, "h w c"]:
        """A method and no lambda: where workers are spawned, a composer is pickled."""
        return self.source.read(i)[0]

    def __call__(self, keys: list[tuple[int, int]]) -> Composites:
        made, shared = [], list[int]()
        for n, (epoch, index) in enumerate(keys[: max(1, round(self.share * len(keys)))]):
            rng = np.random.default_rng([self.seed, epoch, index, *b"composite"])
            host = self.source.read(index)[1]
            if self.config.shared and n % 2 == 0:
                shared = self._shared(
                    np.random.default_rng([self.seed, epoch, index, *b"shared"]), host
                )
            made.append(compose(rng, host, self.images, self.bank, self.config, shared))
        return collate(made)

    def _shared(self, rng: np.random.Generator, host: int) -> list[int]:
        """Sure cut-outs for the two composites of a pair: with probability `own` those of the first
        one's host, where it has some, or else any."""
        own, sure = self.bank.of_image(host), self.bank.scores >= self.config.sure
        numbers = own.start + np.flatnonzero(sure[own.start : own.stop])
        if not len(numbers) or rng.random() >= self.config.own:
            numbers = np.flatnonzero(sure)
        chosen: list[int] = rng.choice(
            numbers, min(self.config.shared, len(numbers)), replace=False
        ).tolist()
        return chosen
