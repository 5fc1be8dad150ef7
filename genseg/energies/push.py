"""Push: the energy of another map is pushed up against that of the true one."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from genseg.alpha.codes import Codes
from genseg.core import dist
from genseg.core.contrast import info_nce
from genseg.energies import sample
from genseg.energies.autoencoder import Autoencoder, MapEncoder, PairedEncoder
from genseg.energies.corrupt import flipped, geometry_of
from genseg.energies.maps import Maps
from genseg.energies.pull import others
from genseg.energies.shaping import Examples, Shaping, mean

FLATTEST = 10.0  # largest u of minimum probability flow: one bad pair does not rule the batch


def logistic(u: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """log(1 + exp(u)): conditional noise-contrastive estimation (Ceylan & Gutmann, 2018)."""
    return F.softplus(u)


def ratio(u: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """sigmoid(u)^2: ratio matching (Hyvarinen, Some Extensions of Score Matching, 2007)."""
    return u.sigmoid().square()


def flow(u: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """exp(u / 2): minimum probability flow (Sohl-Dickstein et al., 2011)."""
    return (u.clamp_max(FLATTEST) / 2).exp()


# of u = E(x, a) - E(x, a'). For any symmetric way from a to a' their minimum is at the truth,
# because f'(-u) = exp(-u) f'(u)
CONTRASTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "logistic": logistic,
    "ratio": ratio,
    "flow": flow,
}


class Push(Shaping):
    """Push: the energy of another map against that of the true one. The embeddings get no gradient
    of it: a critic must not bend what it judges."""

    learns_scale = True

    def terms(self, examples: Examples) -> dict[str, Tensor]:
        embeddings, maps = examples.embeddings.detach(), examples.maps
        encoded = self.model.encode(embeddings, maps, examples.draws)
        logits = self.model.decode(embeddings, encoded.codes)
        distance = self.model.between(logits, maps.alpha)
        true = self.model.tau * (distance - self.model.offset) + encoded.cost
        examples = replace(examples, embeddings=embeddings)
        pushed = self.pushed(examples, true)
        return {"mask": self.reconstruction(logits, maps), "push": pushed}

    @abstractmethod
    def pushed(self, examples: Examples, true: Float[Tensor, "n"]) -> Tensor:
        """The term of the energies of others, beside those of the true maps."""

    def energy_of(self, examples: Examples, alpha: Float[Tensor, "n h w"]) -> Float[Tensor, "n"]:
        """E of other maps in the places of the true ones."""
        found: Tensor = self.model(examples.embeddings, replace(examples.maps, alpha=alpha))
        return found


class NoiseContrastive(Push):
    """log(1 + exp(E(a))) + log(1 + exp(-E(a'))): a' corrupted, c is log Z (Gutmann & Hyvarinen,
    2010); or, conditional, log(1 + exp(u))."""

    def pushed(self, examples: Examples, true: Float[Tensor, "n"]) -> Tensor:
        other = self.energy_of(examples, others(examples, self.config.overlap)[0])
        if self.config.conditional:
            return mean(logistic(true - other)) + 0 * self.model.offset
        return mean(logistic(true) + logistic(-other)) / 2


class Flipped(Push):
    """Ratio matching, and minimum probability flow: others are the map with a square flipped. Of a
    single pixel u would be 0 for any smooth energy."""

    def pushed(self, examples: Examples, true: Float[Tensor, "n"]) -> Tensor:
        contrast = ratio if self.config.name == "ratio_matching" else flow
        geometry = geometry_of(examples.maps)
        terms = [
            mean(contrast(true - self.energy_of(examples, flipped(geometry, examples.draws))))
            for _ in range(self.config.flips)
        ]
        return torch.stack(terms).mean() + 0 * self.model.offset


class Divergence(Push):
    """E(a) - E(a') of chains, and the square of both, which bounds them. Contrastive divergence:
    the chains are short and begin at the true maps (Hinton, 2002)."""

    def pushed(self, examples: Examples, true: Float[Tensor, "n"]) -> Tensor:
        c = self.config
        end = self.in_map(examples, self.start(examples))
        other = self.energy_of(examples, end)
        bound = c.regularise * (true.square() + other.square())
        # a chain may have rubbed its map out; that is no map
        counted = (end.sum((1, 2)) > 3).float()
        return mean(counted * (true - other + bound))

    def start(self, examples: Examples) -> Float[Tensor, "n h w"]:
        """Where chains in the map begin."""
        return examples.maps.alpha

    @torch.no_grad()
    def in_map(self, examples: Examples, alpha: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
        """Langevin in the map itself."""
        c, image = self.config, examples.maps.image
        return sample.langevin(
            lambda a: self.energy_of(examples, a),
            alpha,
            lambda: examples.draws.normal(image, *alpha.shape[1:]),
            steps=c.steps,
            step=c.step,
            deviation=c.noise,
            clip=c.clip,
            limits=(0.0, 1.0),
        )


class Likelihood(Divergence):
    """Maximum likelihood: the chains go on from step to step. They live in the code, on the
    decoder's manifold, and take their last steps in the map (Yoon et al., Autoencoding Under
    Normalization Constraints, 2021; Du & Mordatch, 2019)."""

    chains: Tensor
    begun: Tensor

    def __init__(self, config: Any, model: Autoencoder) -> None:
        super().__init__(config, model)
        code = model.decoder.kernel.in_features
        self.register_buffer("chains", torch.zeros(config.chains, code))
        self.register_buffer("begun", torch.zeros(config.chains))

    @torch.no_grad()
    def start(self, examples: Examples) -> Float[Tensor, "n h w"]:
        c, maps, draws = self.config, examples.maps, examples.draws
        codes = self.model.encode(examples.embeddings, maps).codes
        which = draws.below(c.chains, maps.image)
        anew = (draws.uniform(maps.image) < c.anew) | (self.begun[which] == 0)
        vector = torch.where(anew[:, None], codes.vector, self.chains[which])
        # another place than that of the map, so that the code alone does not decide
        jitter = 0.25 * codes.scale[:, None] * draws.normal(maps.image, 2)
        codes = replace(codes, place=codes.place + jitter)

        def drawn(v: Tensor) -> Tensor:
            return self.model.decode(examples.embeddings, replace(codes, vector=v)).sigmoid()

        end = self.in_code(lambda v: self.energy_of(examples, drawn(v)), vector, examples)
        self._keep(which, end)
        return drawn(end)

    def in_code(
        self, energy: sample.Energy, vector: Float[Tensor, "n d"], examples: Examples
    ) -> Float[Tensor, "n d"]:
        """The chain in the code."""
        c, image = self.config, examples.maps.image
        return sample.langevin(
            energy,
            vector,
            lambda: examples.draws.normal(image, vector.shape[1]),
            steps=c.rounds,
            step=c.code_step,
            deviation=c.code_noise,
        )

    def _keep(self, which: Int[Tensor, "n"], end: Float[Tensor, "n d"]) -> None:
        """Put chains back, those of all processes; where two were the same one, their mean."""
        size = len(self.chains)
        count = dist.total(
            torch.zeros(size, device=end.device).index_add(0, which, end[:, 0] * 0 + 1)
        )
        summed = dist.total(torch.zeros_like(self.chains).index_add(0, which, end))
        moved = (count > 0)[:, None]
        self.chains = torch.where(moved, summed / count.clamp_min(1)[:, None], self.chains)
        self.begun = torch.maximum(self.begun, (count > 0).float())


class Hamiltonian(Likelihood):
    """The same by Hamiltonian Monte Carlo in the code, which takes few numbers and not pixels
    (Neal, 2011)."""

    def in_code(
        self, energy: sample.Energy, vector: Float[Tensor, "n d"], examples: Examples
    ) -> Float[Tensor, "n d"]:
        c, image = self.config, examples.maps.image
        end, _ = sample.hmc(
            energy,
            vector,
            lambda: examples.draws.normal(image, vector.shape[1]),
            lambda: examples.draws.uniform(image),
            rounds=c.rounds,
            leapfrogs=c.leapfrogs,
            step=c.code_step,
        )
        return end


class Adversarial(Push):
    """E(a) + max(0, m - E(a')), a' made by a generator of codes, which has E(a') - H to lower, H
    the entropy of its own noise (Zhao et al., Energy-based GAN, 2016; Grathwohl et al., VERA,
    2020)."""

    learns_scale = False  # E is bounded by the margin, in units of its start

    def __init__(self, config: Any, model: Autoencoder) -> None:
        super().__init__(config, model)
        channels, code = len(model.mean) + 1, model.decoder.kernel.in_features
        self.look = MapEncoder(channels, model.config.hidden, model.config)
        self.make = nn.Sequential(
            nn.Linear(model.config.hidden + config.noise, model.config.hidden),
            nn.SiLU(),
            nn.Linear(model.config.hidden, 2 * code),
        )

    def pushed(self, examples: Examples, true: Float[Tensor, "n"]) -> Tensor:
        c, maps, draws = self.config, examples.maps, examples.draws
        seen, place, scale = self.model.windows(examples.embeddings, maps)
        blank = torch.cat([seen[:, :-1], torch.zeros_like(seen[:, -1:])], 1)
        z = draws.normal(maps.image, c.noise)
        middle, spread = self.make(torch.cat([self.look(blank), z], 1)).chunk(2, 1)
        spread = spread.clamp(-4, 2)
        vector = middle + spread.exp() * draws.normal(maps.image, middle.shape[1])
        codes = Codes(vector, place, scale, maps.image)
        frozen = {name: p.detach() for name, p in self.model.named_parameters()}
        made = self._frozen(frozen, examples, codes, decode=True)
        fooled = self._frozen(frozen, examples, replace(maps, alpha=made))
        other = self.energy_of(examples, made.detach())
        return mean(true + (c.margin - other).relu()) + mean(fooled - c.entropy * spread.sum(1))

    def _frozen(
        self, frozen: dict[str, Tensor], examples: Examples, given: Any, *, decode: bool = False
    ) -> Tensor:
        """What the model makes of codes or of maps, without a gradient for itself."""
        call = _Decoding(self.model) if decode else self.model
        names = {f"model.{k}": v for k, v in frozen.items()} if decode else frozen
        found: Tensor = torch.func.functional_call(call, names, (examples.embeddings, given))
        return found


class _Decoding(nn.Module):
    """A model whose forward decodes."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, embeddings: Float[Tensor, "b e h w"], codes: Codes) -> Tensor:
        return self.model.decode(embeddings, codes).sigmoid()


class Metric(Shaping):
    """Push: InfoNCE of the code of the image alone at a map's place with the code of the map,
    against corrupted maps and other instances of the same image: from other images the place
    alone would tell."""

    model: PairedEncoder

    def __init__(self, config: Any, model: Autoencoder) -> None:
        super().__init__(config, model)
        model.decoder.requires_grad_(False)  # nothing is drawn

    def terms(self, examples: Examples) -> dict[str, Tensor]:
        maps, model = examples.maps, self.model
        embeddings = examples.embeddings.detach()
        other = Maps(others(examples, self.config.overlap)[0], maps.image)
        query = model.alone(embeddings, maps)
        key = model.of_map(embeddings, maps)
        queue = torch.cat([key, model.of_map(embeddings, other)])
        same = maps.image[:, None] == torch.cat([maps.image, maps.image])[None]
        own = torch.eye(len(maps), len(queue), dtype=torch.bool, device=same.device)
        loss = info_nce(
            query, key, queue, temperature=self.config.temperature, negative=same & ~own
        )
        return {"metric": mean(loss)}
