"""Generation: every instance of a batch of images, from the places that propose one."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from genseg.alpha.decoder import STRIDE, AlphaDecoder, Places
from genseg.core.masks import pairwise_overlap


@dataclass(frozen=True)
class GenerateConfig:
    candidate: float = 0.1  # places whose objectness is below are not decoded
    score: float = 0.3  # instances that score less are left out
    overlap: float = 0.4  # of two instances that overlap by more (intersection over union), the better one stays
    inside: float = 0.7  # nor may so much of an instance lie in better ones
    min_area: int = 12  # pixels of the smallest instance
    tile: int = 512  # larger images are seen by overlapping tiles of so many pixels


@dataclass(frozen=True)
class Found:
    """The instances of one image, best first: alphas, scores, and the code's vector of each."""

    alpha: Float[Tensor, "k h w"]
    score: Float[Tensor, "k"]
    vector: Float[Tensor, "k d"]


def generate(
    decoder: AlphaDecoder,
    embeddings: Float[Tensor, "b e h w"],
    places: Places,
    config: GenerateConfig,
) -> list[Found]:
    """The instances of each image. Their number has no limit; an empty image has none."""
    peaks = _peaks(places) & (places.objectness.sigmoid() >= config.candidate)
    return [_of_image(decoder, embeddings, places, i, peaks[i], config) for i in range(len(peaks))]


def _peaks(places: Places) -> Bool[Tensor, "b p"]:
    """Places that no neighbour of their grid exceeds: most doubles go before anything is decoded."""
    found, first = [], 0
    for _, rows, columns in places.grids:
        grid = places.objectness[:, first : first + rows * columns].unflatten(1, (rows, columns))
        found.append((F.max_pool2d(grid[:, None], 3, 1, 1)[:, 0] == grid).flatten(1))
        first += rows * columns
    return torch.cat(found, 1)


def _of_image(
    decoder: AlphaDecoder,
    embeddings: Float[Tensor, "b e h w"],
    places: Places,
    image: int,
    peaks: Bool[Tensor, "p"],
    config: GenerateConfig,
) -> Found:
    place = peaks.nonzero()[:, 0]
    codes = places.codes(torch.full_like(place, image), place)
    alpha = decoder.decode_near(embeddings[image], codes)
    mask = alpha > 0.5
    area = mask.flatten(1).sum(1)
    # how sure the alpha is of its own pixels (SOLO's maskness), times what its place and its code say
    sure = (alpha * mask).flatten(1).sum(1) / area.clamp_min(1)
    score = (places.objectness[image, place].sigmoid() * places.quality[image, place].sigmoid()).sqrt() * sure
    usable = ((score >= config.score) & (area * STRIDE**2 >= config.min_area)).nonzero()[:, 0]
    order = usable[score[usable].argsort(descending=True, stable=True)]
    kept = order[suppress(mask[order].flatten(1), overlap=config.overlap, inside=config.inside)]
    whole = F.interpolate(alpha[kept][:, None], scale_factor=STRIDE, mode="bilinear", align_corners=False)[:, 0]
    return Found(whole, score[kept], codes.vector[kept])


def suppress(masks: Bool[Tensor, "n p"], *, overlap: float, inside: float) -> Bool[Tensor, "n"]:
    """Which masks stay, the best first: those that overlap no better one by `overlap`, and of which no better ones
    together hold the part `inside`."""
    kept = torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
    if not len(masks):
        return kept
    iou, _ = pairwise_overlap(masks)
    covered = torch.zeros_like(masks[0])
    for i in range(len(masks)):
        hidden = (masks[i] & covered).sum() / masks[i].sum().clamp_min(1)
        if hidden <= inside and not bool((iou[i] > overlap)[kept].any()):
            kept[i] = True
            covered |= masks[i]
    return kept
