"""What all ways to shape an energy have in common, and those of the prior.

Four families: Push, another map is pushed up against the true one. Pull, Enc is given another map
and asked for the true one. Prior, what a code costs, or how it is limited. Slope, derivatives.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genseg.core import dist
from genseg.core.contrast import full_precision
from genseg.core.mask_losses import mask_loss
from genseg.energies.autoencoder import Autoencoder
from genseg.energies.draws import Draws
from genseg.energies.maps import Maps


@dataclass(frozen=True)
class Judged:
    """The decoder's own instances in the images of a batch, and what they are worth.

    overlap: with the nearest true map
    nearest: which of all true maps of the batch that is; any, where the overlap is 0
    """

    maps: Maps
    overlap: Float[Tensor, "n"]
    nearest: Int[Tensor, "n"]


@dataclass(frozen=True)
class Examples:
    """What a step sees: pixel embeddings, true maps, the decoder's own instances, random numbers.

    progress: of the run, in [0, 1]
    known: all true maps of the images, where `maps` are some of them
    """

    embeddings: Float[Tensor, "b e h w"]
    maps: Maps
    own: Judged
    draws: Draws
    progress: float
    known: Maps | None = None

    def to(self, device: torch.device) -> "Examples":
        """The same on a device."""
        own, known = self.own, self.known
        return replace(
            self,
            embeddings=self.embeddings.to(device),
            maps=self.maps.to(device),
            own=Judged(own.maps.to(device), own.overlap.to(device), own.nearest.to(device)),
            known=None if known is None else known.to(device),
        )

    @property
    def truth(self) -> Maps:
        """All true maps of the images."""
        return self.maps if self.known is None else self.known


def mean(x: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """Over the maps of all processes."""
    return x.sum() / dist.over_ranks(torch.tensor(float(len(x)), device=x.device))


class Shaping(nn.Module, ABC):
    """A way to shape the energy `model`, trained by `forward`."""

    learns_scale = False  # tau and c have a gradient

    def __init__(self, config: Any, model: Autoencoder) -> None:
        super().__init__()
        self.config = config
        self.model = model
        for parameter in (model.log_tau, model.offset):
            parameter.requires_grad_(self.learns_scale)

    def forward(self, examples: Examples) -> dict[str, Tensor]:
        """`loss`, and the terms that add up to it."""
        with full_precision(examples.embeddings):
            examples = replace(examples, embeddings=examples.embeddings.float())
            terms = self.terms(examples)
            return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    @abstractmethod
    def terms(self, examples: Examples) -> dict[str, Tensor]:
        """The terms of the loss, weighted."""

    def after_step(self) -> None:
        """After the optimiser's step."""

    def reconstruction(self, logits: Float[Tensor, "n h w"], maps: Maps) -> Tensor:
        """The mask loss of decoded maps, weighted."""
        width = maps.alpha.shape[2]
        loss = mask_loss(logits.flatten(1), maps.alpha.flatten(1), 1.0, width)
        return float(self.config.reconstruct) * mean(loss)


class Regularise(Shaping):
    """Prior: reconstruct, at what the code costs. Without a prior it is the plain bottleneck, and
    what those are that are fitted to its codes afterwards."""

    def terms(self, examples: Examples) -> dict[str, Tensor]:
        encoded = self.model.encode(examples.embeddings, examples.maps, examples.draws)
        logits = self.model.decode(examples.embeddings, encoded.codes)
        terms = {"mask": self.reconstruction(logits, examples.maps)}
        if (weight := self.config.cost_weight(examples.progress)) is not None:
            terms["code"] = weight * mean(encoded.cost)
        return terms


class Sparse(Regularise):
    """The same, with the decoder's weights for each number of the code kept at a length of one:
    else h shrinks, they grow, and nothing is sparse."""

    def __init__(self, config: Any, model: Autoencoder) -> None:
        super().__init__(config, model)
        self.after_step()

    @torch.no_grad()
    def after_step(self) -> None:
        weight = self.model.decoder.kernel.weight
        weight.div_(weight.norm(dim=0, keepdim=True).clamp_min(1e-6))
