"""The pretrained alpha decoder itself as a detector: codes proposed by place, with a class for each
code.

It is the arm that transfers what the alpha task has learnt besides the encoder. Its targets are
labelled masks in place of composites' layers; the objective is the same.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from genseg.alpha.calibration import Calibration
from genseg.alpha.decoder import AlphaDecoder, DecoderConfig
from genseg.alpha.generate import Rank, generate, proposed_at
from genseg.alpha.kept import GenerateConfig, covering, unpadded
from genseg.alpha.merging import by_tiles
from genseg.alpha.objective import ObjectiveConfig, assign, objective
from genseg.alpha.tiles import tile_at
from genseg.core import dist
from genseg.core.check import at_least
from genseg.core.contrast import full_precision
from genseg.data.composites.compose import Composites
from genseg.data.instances.instance import OPAQUE, Instance
from genseg.nn.encoder import Encoder
from genseg.nn.norms import with_norms
from genseg.transfer.contract import Detection, Labelled, Windows, padded


@dataclass(frozen=True)
class PlacesConfig:
    name: str = "places"
    # norms of encoder and decoder; sync: over processes; frozen: as they were
    norm: Literal["bn", "sync", "frozen"] = "bn"
    # start from the alpha decoder of the encoder's run, where it has one
    decoder_weights: bool = True
    category: float = 0.5  # weight of the cross-entropy of classes; unused with one class
    # of a run's own decoder, its own is taken
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    objective: ObjectiveConfig = field(default_factory=lambda: ObjectiveConfig(amodal=0.0))
    generate: GenerateConfig = field(default_factory=lambda: GenerateConfig(score=0.05))

    def __post_init__(self) -> None:
        at_least(0, category=self.category)


class PlaceDetector(nn.Module):
    """Encoder and alpha decoder with a class for each code."""

    def __init__(
        self, encoder: Encoder, decoder: AlphaDecoder, config: PlacesConfig, *, classes: int
    ) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        encoder.net = with_norms(encoder.net, config.norm)
        self.encoder = encoder
        self.decoder = decoder
        with_norms(decoder, config.norm)  # in place: the decoder itself is no norm
        self.classify = nn.Linear(decoder.config.code, classes)
        # an energy that ranks instances, and what makes the scores that it gives probabilities
        self.rank: Rank | None = None
        self.calibration = Calibration()

    def forward(self, batch: Labelled) -> dict[str, Tensor]:
        embeddings, places = self.decoder(self.encoder.pyramid(batch.images))
        truth = as_composites(batch)
        assignment = assign(places, truth.visible.float() / OPAQUE, truth)
        terms, facts = objective(
            self.decoder, embeddings, places, truth, self.config.objective, assignment=assignment
        )
        positive = assignment.layer >= 0
        wanted = torch.cat(batch.classes)[assignment.layer[positive]]
        # also with one class or no object: each parameter needs its gradient
        with full_precision(places.vector):
            logits = self.classify(places.vector[positive].float())
            crossed = F.cross_entropy(logits, wanted, reduction="sum") / dist.over_ranks(
                positive.sum()
            )
            terms["category"] = self.config.category * crossed
        return {"loss": torch.stack(list(terms.values())).sum(), **terms, **facts}

    @torch.no_grad()
    def detect(self, image: Float[Tensor, "c h w"] | Windows) -> list[Detection]:
        """Objects of a normalised image, best first. Large images are seen by overlapping tiles."""
        h, w = image.shape[1:]
        c = self.config.generate
        detections = []
        for instance in by_tiles(
            h,
            w,
            lambda t: self._tile(image[:, *t.window]),
            tile=c.tile,
            overlap=c.overlap,
            inside=c.inside,
            scene=image.scene if isinstance(image, Windows) else None,
        ):
            left, top, width, height = instance.box_xywh
            box = (float(left), float(top), float(left + width), float(top + height))
            detections.append(Detection(box, instance.category, instance.score, instance))
        return detections

    @torch.no_grad()
    def at(self, image: Float[Tensor, "c h w"], y: float, x: float) -> Instance | None:
        """What is drawn at a point of a normalised image, in pixels, however little it scores; None
        where nothing is. Of a large image the tile whose middle is nearest is looked at."""
        h, w = image.shape[1:]
        tile = tile_at(h, w, y, x, tile=self.config.generate.tile)
        embeddings, places = self.decoder(self.encoder.pyramid(padded(image[:, *tile.window])))
        categories = self.classify(places.vector).float().softmax(-1)
        y, x = y - tile.top, x - tile.left
        found = proposed_at(self.decoder, embeddings, places, y, x, categories=categories[0])
        inside = covering(found, tile.height, tile.width, int(y), int(x))
        return inside and replace(inside, top=inside.top + tile.top, left=inside.left + tile.left)

    def _tile(self, image: Float[Tensor, "c h w"]) -> list[Instance]:
        """The instances of a part of an image."""
        embeddings, places = self.decoder(self.encoder.pyramid(padded(image)))
        categories = self.classify(places.vector).float().softmax(-1)
        c, calibration = self.config.generate, self.calibration
        if self.rank is not None:
            c = replace(c, score=calibration.score(c.score))
        (found,) = generate(self.decoder, embeddings, places, c, categories, self.rank)
        h, w = image.shape[1:]
        whole = unpadded(found, h, w, c)
        if self.rank is None:
            return whole
        return [replace(a, score=calibration.probability(a.score)) for a in whole]


def as_composites(batch: Labelled) -> Composites:
    """Labels as the layers of composites: all visible, nothing behind them known, nothing
    ignored."""
    assert batch.masks is not None
    device = batch.images.device
    b, c, h, w = batch.images.shape
    visible = torch.cat(batch.masks) * OPAQUE
    owner = torch.cat([torch.full((len(m),), i, device=device) for i, m in enumerate(batch.masks)])
    return Composites(
        image=torch.zeros(b, h, w, c, dtype=torch.uint8, device=device),
        visible=visible,
        amodal=visible,
        owner=owner,
        known=torch.zeros(len(visible), dtype=torch.bool, device=device),
        ignored=torch.zeros(b, h, w, dtype=torch.bool, device=device),
        source=torch.arange(len(visible), device=device),
    )
