"""Slope: energies shaped by derivatives of their code and of themselves."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from genseg.energies import sample
from genseg.energies.maps import Maps, frame
from genseg.energies.shaping import Examples, Shaping, mean


class Contracting(Shaping):
    """Slope: reconstruct, with a small |dh/da|^2 (Rifai et al., Contractive Auto-Encoders, 2011),
    estimated by one product with noise (Hutchinson)."""

    def terms(self, examples: Examples) -> dict[str, Tensor]:
        maps = replace(examples.maps, alpha=examples.maps.alpha.detach().requires_grad_(True))
        encoded = self.model.encode(examples.embeddings, maps)
        logits = self.model.decode(examples.embeddings, encoded.codes)
        vector = encoded.codes.vector
        noise = examples.draws.normal(maps.image, vector.shape[1])
        slope = squared_slope(vector, maps.alpha, noise)
        return {
            "mask": self.reconstruction(logits, examples.maps),
            "slope": self.config.weight * mean(slope),
        }


def squared_slope(
    h: Float[Tensor, "n d"], x: Float[Tensor, "n *s"], noise: Float[Tensor, "n d"]
) -> Float[Tensor, "n"]:
    """|noise . dh/dx|^2, which has the mean |dh/dx|_F^2 over standard normal noise."""
    (found,) = torch.autograd.grad((h * noise).sum(), x, create_graph=True)
    return found.square().flatten(1).sum(1)


class ScoreDenoising(Shaping):
    """Slope: |s grad E(a + s z) - z|^2 (Vincent, A Connection Between Score Matching and Denoising
    Autoencoders, 2011), over the pixels around the map."""

    learns_scale = True

    def terms(self, examples: Examples) -> dict[str, Tensor]:
        maps, draws = examples.maps, examples.draws
        embeddings = examples.embeddings.detach()
        logits = self.model.decode(embeddings, self.model.encode(embeddings, maps).codes)
        low, high = self.config.deviation
        spread = low + (high - low) * draws.uniform(maps.image)[:, None, None]
        around = near(maps)
        noise = draws.normal(maps.image, *maps.alpha.shape[1:]) * around
        error = self.error(
            lambda a: self.model(embeddings, replace(maps, alpha=a)),
            maps.alpha,
            spread,
            noise,
            examples,
        )
        pixels = around.sum((1, 2)).clamp_min(1)
        # c shifts all energies alike: the score does not know it
        return {
            "mask": self.reconstruction(logits, maps),
            "score": self.config.weight * mean(error / pixels) + 0 * self.model.offset,
        }

    def error(
        self,
        energy: sample.Energy,
        alpha: Float[Tensor, "n h w"],
        spread: Float[Tensor, "n 1 1"],
        noise: Float[Tensor, "n h w"],
        examples: Examples,
    ) -> Float[Tensor, "n"]:
        """Of the score, summed over pixels."""
        return denoising_score(energy, alpha, spread, noise)


def denoising_score(
    energy: sample.Energy,
    x: Float[Tensor, "n *d"],
    spread: Tensor | float,
    noise: Float[Tensor, "n *d"],
) -> Float[Tensor, "n"]:
    """|s dE/dx(x + s z) - z|^2: least where E is that of the data with noise of s."""
    at = (x + spread * noise).detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(energy(at).sum(), at, create_graph=True)
    return (spread * slope - noise).square().flatten(1).sum(1)


class ScoreSliced(ScoreDenoising):
    """Slope: |grad E|^2 / 2 - v.H v, v of random signs (Song et al., Sliced Score Matching, 2019),
    at maps with a little noise, since binary ones have no density."""

    def error(
        self,
        energy: sample.Energy,
        alpha: Float[Tensor, "n h w"],
        spread: Float[Tensor, "n 1 1"],
        noise: Float[Tensor, "n h w"],
        examples: Examples,
    ) -> Float[Tensor, "n"]:
        sign = examples.draws.normal(examples.maps.image, *alpha.shape[1:]).sign()
        return sliced_score(energy, alpha + spread * noise, sign * (noise != 0))


def sliced_score(
    energy: sample.Energy, x: Float[Tensor, "n *d"], v: Float[Tensor, "n *d"]
) -> Float[Tensor, "n"]:
    """|dE/dx|^2 / 2 - v.H v: its mean over v is Hyvarinen's objective."""
    at = x.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(energy(at).sum(), at, create_graph=True)
    (bend,) = torch.autograd.grad((slope * v).sum(), at, create_graph=True)
    return (0.5 * slope.square() - bend * v).flatten(1).sum(1)


def near(maps: Maps) -> Float[Tensor, "n h w"]:
    """1 within one and a half scales of each map's place, else 0."""
    place, scale = frame(maps.alpha)
    sides = []
    for axis, length in ((0, maps.alpha.shape[1]), (1, maps.alpha.shape[2])):
        at = 2 * (torch.arange(length, device=place.device) + 0.5)
        sides.append((at[None] - place[:, axis, None]).abs() <= 1.5 * scale[:, None])
    return (sides[0][:, :, None] & sides[1][:, None]).float()
