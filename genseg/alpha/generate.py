"""Generation: every instance of a batch of images, from the places that propose one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genseg.alpha.codes import REACH, STRIDE
from genseg.alpha.decoder import AlphaDecoder, Places
from genseg.alpha.kept import FAINT, GenerateConfig, stability, suppress
from genseg.data.instances.instance import OPAQUE, Instance, cut_instance, resized


@runtime_checkable
class Rank(Protocol):
    """What gives an image's instances other scores, and perhaps better maps, before doubles are
    sought: an energy.

    least: score of the decoder from which on instances are ranked
    faintest: the same where nothing has been found at first; None: nobody looks there again
    """

    @property
    def least(self) -> float: ...

    @property
    def faintest(self) -> float | None: ...

    def __call__(
        self, embeddings: Float[Tensor, "e h w"], found: Sequence[Instance]
    ) -> list[Instance]:
        """The instances at the stride of the embeddings, best first."""
        ...


def generate(
    decoder: AlphaDecoder,
    embeddings: Float[Tensor, "b e h w"],
    places: Places,
    config: GenerateConfig,
    categories: Float[Tensor, "b p c"] | None = None,
    rank: Rank | None = None,
) -> list[list[Instance]]:
    """The instances of each image, best first. Their number has no limit; an empty image has none.

    categories: probabilities of classes at each place, where there are any: the likeliest is an
        instance's, and its probability a part of the score
    rank: gives instances the scores that count in place of the decoder's
    """
    h, w = embeddings.shape[2:]
    results = []
    for i, found in enumerate(candidates(decoder, embeddings, places, config, categories, rank)):
        if rank is not None:  # of doubles the decoder's own choice: few are left to be ranked
            own = suppress(found, h, w, overlap=config.overlap, inside=config.inside)
            found = [a for a in rank(embeddings[i], own) if a.score >= config.score]
        kept = suppress(found, h, w, overlap=config.overlap, inside=config.inside)
        if rank is not None and rank.faintest is not None:
            rows = None if categories is None else categories[i]
            more = _searched(decoder, embeddings, places, i, kept, config, rows, rank)
            kept = suppress(
                sorted([*kept, *more], key=lambda a: -a.score),
                h,
                w,
                overlap=config.overlap,
                inside=config.inside,
            )
        results.append(_enlarged(kept, h, w))
    return results


def _searched(
    decoder: AlphaDecoder,
    embeddings: Float[Tensor, "b e h w"],
    places: Places,
    image: int,
    kept: Sequence[Instance],
    config: GenerateConfig,
    categories: Float[Tensor, "p c"] | None,
    rank: Rank,
) -> list[Instance]:
    """What faint places propose where no kept instance lies, as far as its new score is enough."""
    assert rank.faintest is not None
    owned = torch.zeros(embeddings.shape[2:], dtype=torch.bool)
    for a in kept:
        owned[a.window] |= torch.from_numpy(a.mask)
    centres, _ = places.centres()
    y, x = (centres.cpu() / STRIDE).long().unbind(1)
    free = ~owned[y.clamp_max(len(owned) - 1), x.clamp_max(owned.shape[1] - 1)]
    faint = places.objectness[image].sigmoid().cpu() >= rank.faintest
    place = (free & faint).nonzero()[:, 0].to(embeddings.device)
    wide = replace(config, score=rank.faintest, stability=0.0)
    found = _decoded(decoder, embeddings, places, image, place, wide, categories)
    return [a for a in rank(embeddings[image], found) if a.score >= config.score]


def candidates(
    decoder: AlphaDecoder,
    embeddings: Float[Tensor, "b e h w"],
    places: Places,
    config: GenerateConfig,
    categories: Float[Tensor, "b p c"] | None = None,
    rank: Rank | None = None,
) -> list[list[Instance]]:
    """What is decoded in each image, best first, at the stride of the embeddings; doubles are among
    them."""
    if rank is not None:
        least = min(config.candidate, rank.least)
        # a ranking weighs the stability itself
        config = replace(config, candidate=least, score=rank.least, stability=0.0)
    peaks = _peaks(places) & (places.objectness.sigmoid() >= config.candidate)
    rows = [None] * len(peaks) if categories is None else categories
    return [
        _decoded(decoder, embeddings, places, i, peaks[i].nonzero()[:, 0], config, rows[i])
        for i in range(len(peaks))
    ]


def _peaks(places: Places) -> Bool[Tensor, "b p"]:
    """Places that no neighbour of their grid exceeds: most doubles go before anything is
    decoded."""
    found, first = [], 0
    for _, rows, columns in places.grids:
        grid = places.objectness[:, first : first + rows * columns].unflatten(1, (rows, columns))
        found.append((F.max_pool2d(grid[:, None], 3, 1, 1)[:, 0] == grid).flatten(1))
        first += rows * columns
    return torch.cat(found, 1)


def proposed_at(
    decoder: AlphaDecoder,
    embeddings: Float[Tensor, "1 e h w"],
    places: Places,
    y: float,
    x: float,
    categories: Float[Tensor, "p c"] | None = None,
) -> list[Instance]:
    """What the places around a point (in pixels) propose, best first: in each grid the cell that
    holds it and those beside that, however little they score. categories: as `generate` takes them,
    of the one image."""
    centres, scales = places.centres()
    away = (centres - torch.tensor([y, x], device=centres.device)).abs().amax(1)
    place = (away <= 1.5 * scales / REACH).nonzero()[:, 0]
    found = _decoded(
        decoder, embeddings, places, 0, place, GenerateConfig(score=0, min_area=1), categories
    )
    return _enlarged(found, *embeddings.shape[2:])


def _enlarged(found: Sequence[Instance], h: int, w: int) -> list[Instance]:
    """Instances at the stride of the embeddings, of h x w, in pixels of the image."""
    whole = (resized(a, (h, w), (h * STRIDE, w * STRIDE)) for a in found)
    return [a for a in whole if a is not None]


def _decoded(
    decoder: AlphaDecoder,
    embeddings: Float[Tensor, "b e h w"],
    places: Places,
    image: int,
    place: Int[Tensor, "n"],
    config: GenerateConfig,
    categories: Float[Tensor, "p c"] | None,
) -> list[Instance]:
    """The instances of some places of an image that score enough, best first, at the stride of the
    embeddings."""
    likely = (
        places.objectness[image, place].sigmoid() * places.quality[image, place].sigmoid()
    ).sqrt()
    category = torch.zeros(len(place), dtype=torch.long, device=place.device)
    if categories is not None:
        probability, category = categories[place].max(1)
        likely = likely * probability
    # the others need no decoding: no alpha is surer of itself than 1
    chance = likely >= config.score
    place, likely, category = place[chance], likely[chance], category[chance]
    codes = places.codes(torch.full_like(place, image), place)
    found = []
    for chosen, corner, alpha in decoder.decode_near(embeddings[image], codes):
        mask = alpha > 0.5
        area = mask.flatten(1).sum(1)
        # how sure the alpha is of its own pixels (SOLO's maskness), times what its place and its
        # code say
        score = likely[chosen] * (alpha * mask).flatten(1).sum(1) / area.clamp_min(1)
        if config.stability:
            score = score * stability(alpha) ** config.stability
        usable = ((score >= config.score) & (area * STRIDE**2 >= config.min_area)).nonzero()[:, 0]
        levels = (alpha[usable] * OPAQUE).round().byte()
        maps = (levels * (levels >= FAINT)).cpu().numpy()
        which = category[chosen][usable].tolist()
        for a, (top, left), s, c in zip(
            maps, corner[usable].tolist(), score[usable].tolist(), which, strict=True
        ):
            if (cut := cut_instance(a, s)) is not None:
                found.append(Instance(cut.alpha, cut.top + top, cut.left + left, s, c))
    return sorted(found, key=lambda a: -a.score)
