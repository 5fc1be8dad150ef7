"""An energy beside the alpha task: shaped by the composites of a step, with the decoder's own maps,
as they are now, among what it sees."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genseg.alpha.decoder import AlphaDecoder, Places
from genseg.alpha.objective import assign
from genseg.core.check import at_least
from genseg.core.contrast import full_precision
from genseg.data.composites.compose import Composites
from genseg.energies.autoencoder import AutoencoderConfig
from genseg.energies.config import ShapeConfig, refuse_unread
from genseg.energies.draws import Draws
from genseg.energies.maps import Maps, check_grids, nearest
from genseg.energies.material import drawn_of_each, shrunk_maps
from genseg.energies.shaping import Examples, Judged
from genseg.energies.strategies import SHAPINGS, build_energy, build_shaping

FOLLOWED = 0.05  # of a step's embeddings, in the statistics that windows are whitened by


@dataclass(frozen=True)
class NoShape:
    name: str = "none"


@dataclass(frozen=True)
class EnergyTask:
    """An energy over images and alpha maps, trained beside the alpha task."""

    # how it is shaped; energy.shape.name chooses which keys it has; none: no energy
    shape: Any = field(default_factory=NoShape)
    weight: float = 1.0  # weight of its loss
    maps: int = 8  # most true maps of a composite that it sees
    own: int = 4  # most maps of a composite that the decoder itself draws
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)

    def __post_init__(self) -> None:
        at_least(0, weight=self.weight, own=self.own)
        at_least(1, maps=self.maps)
        if isinstance(self.shape, ShapeConfig):
            refuse_unread(self.shape)


SHAPES: dict[str, type] = {
    "none": NoShape,
    **{name: strategy.config for name, strategy in SHAPINGS.items()},
}


class EnergyHead(nn.Module):
    """The energy, what shapes it, and how far the run is."""

    observed: Tensor

    def __init__(self, task: EnergyTask, decoder: AlphaDecoder) -> None:
        super().__init__()
        check_grids(decoder)
        self.task, self.progress = task, 0.0
        sizes = {"embedding": decoder.config.embedding, "code": decoder.config.code}
        energy = build_energy(task.shape, decoder, task.autoencoder, **sizes)
        self.shaping = build_shaping(task.shape, energy)
        self.register_buffer("observed", torch.zeros((), dtype=torch.bool))

    def forward(
        self,
        decoder: AlphaDecoder,
        embeddings: Float[Tensor, "b e h w"],
        places: Places,
        truth: Composites,
    ) -> dict[str, Tensor]:
        """The loss, weighted, as `energy`; its terms as `energy_NAME`, for the log."""
        with full_precision(embeddings):
            pixels = embeddings.float()
            part = FOLLOWED if bool(self.observed) else 1.0
            self.shaping.model.observe(pixels.detach(), part=part)
            self.observed.fill_(True)
            terms = self.shaping(self.examples(decoder, pixels, places, truth))
        loss = terms.pop("loss")
        shown = {f"energy_{name}": value.detach() for name, value in terms.items()}
        return {"energy": self.task.weight * loss, **shown}

    def examples(
        self,
        decoder: AlphaDecoder,
        embeddings: Float[Tensor, "b e h w"],
        places: Places,
        composites: Composites,
    ) -> Examples:
        """What the step shows of its composites."""
        # the loop has seeded torch by seed, step and rank
        seed = int(torch.randint(2**31, ()))
        draws = Draws(seed, 0, range(len(embeddings)))
        truth, _ = shrunk_maps(composites.visible, composites.owner)
        some = truth[drawn_of_each(truth.image, self.task.maps, draws)]
        own = self._own(decoder, embeddings, places, composites, draws)
        overlap, which = nearest(own, truth)
        return Examples(
            embeddings, some, Judged(own, overlap, which), draws, self.progress, known=truth
        )

    @torch.no_grad()
    def _own(
        self,
        decoder: AlphaDecoder,
        embeddings: Float[Tensor, "b e h w"],
        places: Places,
        composites: Composites,
        draws: Draws,
    ) -> Maps:
        """Maps that the decoder draws at some of the places that an instance is assigned to."""
        layer = assign(places, composites.visible.float() / 255, composites).layer
        image, place = (layer >= 0).nonzero(as_tuple=True)
        few = drawn_of_each(image, self.task.own, draws)
        image, place = image[few], place[few]
        logits = decoder.decode(embeddings.detach(), places.codes(image, place))[:, 0]
        return Maps(logits.float().sigmoid(), image)
