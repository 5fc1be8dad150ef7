"""Pull: Enc is given another map, and asked for the true one; and R learnt beside that."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from genseg.energies.autoencoder import TABLE, Autoencoder, Critic, MaskedAutoencoder, hidden_blocks
from genseg.energies.corrupt import TRAINED, corrupted, geometry_of
from genseg.energies.maps import Maps, nearest
from genseg.energies.shaping import Examples, Shaping, mean

SURE = 0.3  # least overlap with an instance at which one of the decoder's own is a corruption of it


class Denoise(Shaping):
    """Pull: from a corrupted map to the true one (Vincent et al., 2008), and from the decoder's own
    instance to the true one that it overlaps (Romero et al., 2017)."""

    def terms(self, examples: Examples) -> dict[str, Tensor]:
        return {"mask": self.pulled(examples)}

    def pulled(self, examples: Examples) -> Tensor:
        """The mask loss of r(a') against a."""
        maps, draws, own = examples.maps, examples.draws, examples.own
        other, kinds = others(examples, self.config.overlap)
        known = kinds != TRAINED.index("elsewhere")  # what is elsewhere has no source
        corrupt = (draws.uniform(maps.image) >= self.config.clean) & known
        given = torch.where(corrupt[:, None, None], other, maps.alpha)
        fit = own.overlap >= SURE
        image = torch.cat([maps.image, own.maps.image[fit]])
        alpha = torch.cat([given, own.maps.alpha[fit]])
        wanted = Maps(torch.cat([maps.alpha, examples.truth.alpha[own.nearest[fit]]]), image)
        codes = self.model.encode(examples.embeddings, Maps(alpha, image)).codes
        return self.reconstruction(self.model.decode(examples.embeddings, codes), wanted)


def others(
    examples: Examples, overlap: tuple[float, float]
) -> tuple[Float[Tensor, "n h w"], Int[Tensor, "n"]]:
    """Each true map corrupted, and how (of TRAINED)."""
    maps, draws = examples.maps, examples.draws
    kinds = draws.below(len(TRAINED), maps.image)
    wanted = overlap[0] + (overlap[1] - overlap[0]) * draws.uniform(maps.image)
    return corrupted(geometry_of(maps), kinds, wanted, draws, among=TRAINED), kinds


class Masked(Shaping):
    """Pull: from one half of the map, and of the image under it, to the other (He et al., 2021)."""

    model: MaskedAutoencoder

    def terms(self, examples: Examples) -> dict[str, Tensor]:
        maps = examples.maps
        hidden = hidden_blocks(maps, examples.draws.uniform(maps.image, TABLE * TABLE))
        distance = self.model.of_hidden(examples.embeddings, maps, hidden)
        return {"mask": self.config.reconstruct * mean(distance)}


class ValueLearning(Shaping):
    """R: cross-entropy of the probability sigmoid(-E) with the overlap with the nearest true map,
    for corrupted maps and for the decoder's own instances."""

    model: Critic

    def __init__(self, config: Any, model: Autoencoder) -> None:
        super().__init__(config, model)
        if not self.learns_scale:  # without d nothing is coded
            model.encoder.requires_grad_(False)
            model.decoder.requires_grad_(False)

    def terms(self, examples: Examples) -> dict[str, Tensor]:
        return {"value": self.valued(examples)}

    def valued(self, examples: Examples) -> Tensor:
        maps, own = examples.maps, examples.own
        other = Maps(others(examples, self.config.overlap)[0], maps.image)
        both = Maps(
            torch.cat([maps.alpha, other.alpha, own.maps.alpha]),
            torch.cat([maps.image, maps.image, own.maps.image]),
        )
        worth = torch.cat(
            [
                torch.ones(len(maps), device=own.overlap.device),
                nearest(other, examples.truth)[0],
            ]
        )
        target = torch.cat([worth, own.overlap])
        energy = self.judged(examples.embeddings.detach(), both)
        return mean(F.binary_cross_entropy_with_logits(-energy, target, reduction="none"))

    def judged(self, embeddings: Float[Tensor, "b e h w"], maps: Maps) -> Float[Tensor, "n"]:
        """E of maps, as it is trained."""
        found: Tensor = self.model.learnt(embeddings, maps)
        return found


class CriticLearning(ValueLearning, Denoise):
    """Denoising for d; beside it R, which sees d as it is: they share no weight."""

    learns_scale = True

    def terms(self, examples: Examples) -> dict[str, Tensor]:
        return {"mask": self.pulled(examples), "value": self.valued(examples)}

    def judged(self, embeddings: Float[Tensor, "b e h w"], maps: Maps) -> Float[Tensor, "n"]:
        with torch.no_grad():
            codes = self.model.encode(embeddings, maps).codes
            distance = self.model.between(self.model.decode(embeddings, codes), maps.alpha)
        scaled = self.model.tau * (distance - self.model.offset)
        return scaled + super().judged(embeddings, maps)
