"""What the alpha decoder is trained for: composites give every alpha back.

Places near the centre of an instance shall propose it, its code shall decode to its alphas, and its
quality shall be the overlap that comes out. Where the content of a host is unknown, places
are asked nothing.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from genseg.alpha.codes import REACH, STRIDE
from genseg.alpha.decoder import AlphaDecoder, Places
from genseg.core import dist
from genseg.core.check import above, at_least
from genseg.core.contrast import full_precision, info_nce
from genseg.core.mask_losses import focal, mask_loss, overlap
from genseg.data.composites.compose import Composites
from genseg.nn.heads import mlp

LEAST = 4.0  # visible pixels of a layer that is asked something


@dataclass(frozen=True)
class ObjectiveConfig:
    objectness: float = 1.0  # weight of this term; 0 leaves it out
    mask: float = 1.0
    amodal: float = 0.25  # weight of the amodal alphas of pasted layers, beside the visible ones
    quality: float = 0.5
    boundary: float = 1.0  # extra weight of pixels at an alpha's border, in the cross-entropy
    # at most this many places of each instance are decoded, drawn anew each update
    places: int = 4
    decoded: int = 256  # at most this many codes of a batch are decoded
    # weight: cut-outs shared by neighbouring composites attract, other layers repel
    contrast: float = 0.0
    contrast_temperature: float = 0.2  # temperature of the softmax over the layers

    def __post_init__(self) -> None:
        at_least(
            0, objectness=self.objectness, mask=self.mask, amodal=self.amodal, quality=self.quality
        )
        at_least(0, boundary=self.boundary, contrast=self.contrast)
        at_least(1, places=self.places, decoded=self.decoded)
        above(0, contrast_temperature=self.contrast_temperature)


@dataclass(frozen=True)
class Assignment:
    """Which layer each place shall propose.

    layer: index into the layers of the truth; -1: none
    counted: whether the place's objectness is asked for
    """

    layer: Int[Tensor, "b p"]
    counted: Bool[Tensor, "b p"]


def assign(places: Places, visible: Float[Tensor, "n h w"], truth: Composites) -> Assignment:
    """The places of each layer: near its centroid, on its alpha, on the grid of its size.

    A grid of stride s holds sides (square root of the area) below REACH s, and from half of that;
    the first grid also smaller ones, the last also larger ones. Neighbouring grids are not asked
    about sides within a quarter of their limit. Of several layers that want a place the one nearest
    to it wins, measured in its own side. Layers of less than LEAST visible pixels are asked
    nothing.
    """
    b, device = places.objectness.shape[0], visible.device
    area = visible.sum((1, 2))
    side = area.sqrt().clamp_min(1)
    y, x = (torch.arange(n, device=device) + 0.5 for n in visible.shape[1:])
    mass = area.clamp_min(1e-6)
    # no matrix product: autocast would take it, and the places with it, to bf16, which at 512 px
    # has steps of 2
    centre = torch.stack(
        [(visible.sum(2) * y).sum(1) / mass, (visible.sum(1) * x).sum(1) / mass], 1
    )
    centres, scales = places.centres()
    strides = scales / REACH
    low = torch.where(strides == strides.min(), 0.0, scales / 2)
    high = torch.where(strides == strides.max(), torch.inf, scales)
    distance = torch.cdist(centre, centres, compute_mode="donot_use_mm_for_euclid_dist")  # n p
    reach = torch.maximum(0.25 * side[:, None], 0.71 * strides[None])
    cell = _at(visible, centres)
    usable = (area >= LEAST)[:, None]
    sized = usable & (side[:, None] >= low) & (side[:, None] < high)
    nearest = distance == torch.where(sized, distance, torch.inf).min(1, keepdim=True).values
    near = (distance <= reach) & (cell > 0.5) | (distance <= 0.5 * strides[None]) | nearest
    fits = near & sized
    blurred = near & usable & (side[:, None] >= 0.75 * low) & (side[:, None] < 1.33 * high) & ~fits
    score = torch.where(fits, distance / side[:, None], torch.inf)
    layer = torch.full((b, len(centres)), -1, dtype=torch.long, device=device)
    unclear = torch.zeros_like(layer, dtype=torch.bool)
    tiny = (cell > 0.5) & ~usable
    for i in range(b):
        mine = (truth.owner == i).nonzero()[:, 0]
        if len(mine):
            best, which = score[mine].min(0)
            layer[i] = torch.where(best.isfinite(), mine[which], -1)
            unclear[i] = (blurred[mine] | tiny[mine]).any(0)
    ignored = _at(truth.ignored.float(), centres) > 0.5
    return Assignment(layer, (layer >= 0) | ~(ignored | unclear))


def _at(maps: Float[Tensor, "n h w"], places: Float[Tensor, "p 2"]) -> Float[Tensor, "n p"]:
    """Values at places (y, x in pixels)."""
    y, x = places.long().unbind(1)
    return maps[:, y.clamp(max=maps.shape[1] - 1), x.clamp(max=maps.shape[2] - 1)]


def objective(
    decoder: AlphaDecoder,
    embeddings: Float[Tensor, "b e h w"],
    places: Places,
    truth: Composites,
    config: ObjectiveConfig,
    *,
    assignment: Assignment | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The terms of the loss, weighted; and the mean overlap of decoded and true masks, for the log.

    assignment: that of `assign`, where it is known already
    """
    assignment = assignment or assign(places, truth.visible.float() / 255, truth)
    with full_precision(places.objectness):
        positive = assignment.layer >= 0
        asked = focal(places.objectness[assignment.counted], positive[assignment.counted].float())
        terms = {"objectness": config.objectness * asked.sum() / dist.over_ranks(positive.sum())}
    image, place = _chosen(assignment.layer, config.places, config.decoded)
    # no layer at all: decode one place for nothing, so that every parameter has its gradient
    if not len(image):
        image = place = torch.zeros(1, dtype=torch.long, device=image.device)
    layer = assignment.layer[image, place]
    real = (layer >= 0).float()
    logits = decoder.decode(embeddings, places.codes(image, place)).flatten(2).float()
    with full_precision(logits):
        pixels, width = logits.shape[2], embeddings.shape[3]
        visible = _shrunk(truth.visible, layer, pixels)
        terms["mask"] = config.mask * _mean(
            mask_loss(logits[:, 0], visible, config.boundary, width), real
        )
        if config.amodal:
            known = real * truth.known[layer] if len(truth.known) else real
            whole = _shrunk(truth.amodal, layer, pixels)
            terms["amodal"] = config.amodal * _mean(
                mask_loss(logits[:, 1], whole, config.boundary, width), known
            )
        found = overlap(logits[:, 0].detach() > 0, visible > 0.5)
        judged = F.binary_cross_entropy_with_logits(
            places.quality[image, place], found, reduction="none"
        )
        terms["quality"] = config.quality * _mean(judged, real)
    return terms, {"overlap": _mean(found, real)}


def contrast_head(decoder: AlphaDecoder) -> nn.Sequential:
    """What `instance_contrast` puts between pooled pixel embeddings and its loss."""
    return mlp(decoder.config.embedding, 64, 32, norm=False)


def instance_contrast(
    head: nn.Module,
    embeddings: Float[Tensor, "b e h w"],
    truth: Composites,
    config: ObjectiveConfig,
) -> Tensor:
    """Weighted InfoNCE over the layers of the composites 2j and 2j + 1. A layer's key is a layer of
    the same source in the other composite, its negatives are the layers of other sources in both.

    A layer is the mean of the pixel embeddings under its visible alpha, through `head`, normalised.
    Layers of less than 4 visible pixels do not count. Without a pair the term is 0, and every
    parameter has its gradient.
    """
    with full_precision(embeddings):
        pooled, owner, source = _pooled(embeddings.float(), truth)
        z = F.normalize(head(pooled), dim=-1)
        neighbours = owner[:, None] // 2 == owner // 2
        same = source[:, None] == source
        anchor, key = (neighbours & same & (owner[:, None] != owner)).nonzero(as_tuple=True)
        negative = (neighbours & ~same)[anchor]
        losses = info_nce(
            z[anchor], z[key], z, temperature=config.contrast_temperature, negative=negative
        )
        return config.contrast * _mean(losses, torch.ones_like(losses))


def _pooled(
    embeddings: Float[Tensor, "b e h w"], truth: Composites
) -> tuple[Float[Tensor, "n e"], Int[Tensor, "n"], Int[Tensor, "n"]]:
    """Mean embedding under each visible alpha of at least LEAST pixels, its image and its
    source."""
    pooled, owner, source = [], [], []
    for i, pixels in enumerate(embeddings):
        mine = truth.owner == i
        alpha = truth.visible[mine].float() / 255
        large = alpha.sum((1, 2)) >= LEAST
        weight = F.avg_pool2d(alpha[large][:, None], STRIDE).flatten(1)
        pooled.append(weight @ pixels.flatten(1).T / weight.sum(1, keepdim=True))
        owner.append(truth.owner[mine][large])
        source.append(truth.source[mine][large])
    return torch.cat(pooled), torch.cat(owner), torch.cat(source)


def _shrunk(
    alphas: UInt8[Tensor, "m h w"], layer: Int[Tensor, "n"], pixels: int
) -> Float[Tensor, "n {pixels}"]:
    """The alphas of some layers at the stride at which alphas are decoded; 0 for a layer -1."""
    if not len(alphas):
        return torch.zeros(len(layer), pixels, device=layer.device)
    return F.avg_pool2d(alphas[layer].float() / 255, STRIDE).flatten(1) * (layer >= 0)[:, None]


def _chosen(
    layer: Int[Tensor, "b p"], places: int, limit: int
) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
    """Up to `places` places of each layer, drawn at random; of more than `limit` in all, some."""
    image, place = (layer >= 0).nonzero(as_tuple=True)
    order = torch.randperm(len(image), device=image.device)
    owner, sort = layer[image[order], place[order]].sort(stable=True)
    order = order[sort]
    # of the same layer
    before = torch.arange(len(owner), device=owner.device) - torch.searchsorted(owner, owner)
    kept = order[before < places]
    kept = kept[torch.randperm(len(kept), device=kept.device)][:limit]
    return image[kept], place[kept]


def _mean(x: Float[Tensor, "n"], weight: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    return (x * weight).sum() / dist.over_ranks(weight.sum())
