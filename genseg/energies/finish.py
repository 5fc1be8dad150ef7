"""What is made of an energy once it is trained: what is fitted is fitted, and all of it judged."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor

from genseg.data.instances.instance import cut_instance
from genseg.energies.autoencoder import Autoencoder
from genseg.energies.corrupt import TRAINED
from genseg.energies.fitted import Fitted
from genseg.energies.judge import Judgement, Scene, fit_scale, judge
from genseg.energies.material import Material
from genseg.energies.shaping import Shaping
from genseg.energies.use import (
    Evidence,
    Ranker,
    Ranking,
    UseConfig,
    fit_ranking,
    joined_evidence,
)

FITTED = 256  # images, at most, to whose codes a prior is fitted


@dataclass(frozen=True)
class Finished:
    """How an energy ranks, and what it is worth on images that nothing was fitted to."""

    ranked: "Ranked"
    judgement: Judgement


def finished(
    shaping: Shaping,
    trained: Material,
    held_out: Material,
    pairs: Material,
    use: UseConfig,
    *,
    seed: int,
) -> Finished:
    """Fit the prior to what was trained on, the scale and the ranking to one half of what was held
    out; judge on the other, and on pairs."""
    energy = shaping.model.eval()
    if isinstance(energy.prior, Fitted):
        energy.prior.fit(codes_of(energy, trained), seed=seed)
    half = len(held_out) // 2
    if not shaping.learns_scale:
        fit_scale(energy, scenes(held_out, 0, half, energy.mean.device), kinds=TRAINED)
    ranked = ranked_on(energy, held_out, use)
    rest = scenes(held_out, half, len(held_out), energy.mean.device)
    alike = scenes(pairs, 0, len(pairs), energy.mean.device)
    return Finished(ranked, judge(energy, rest, pairs=alike))


def scenes(material: Material, first: int, last: int, device: torch.device) -> list[Scene]:
    """Some images, as an energy is judged by them."""
    return [material.scene(i, device) for i in range(first, min(last, len(material)))]


def check_enough(energy: Autoencoder, trained: Material) -> None:
    """Raise ValueError where what is trained on has too few maps for a prior that is fitted."""
    if isinstance(energy.prior, Fitted):
        more = "make more composites" if len(trained) < FITTED else "take images that show more"
        energy.prior.check(int((trained.image < FITTED).sum()), advice=more)


def lacking(energy: Autoencoder, trained: Material) -> int:
    """How many images more a prior wants that is fitted, about, if they show as many maps; 0 where
    there are enough."""
    if not isinstance(energy.prior, Fitted) or len(trained.image) >= energy.prior.least:
        return 0
    each = max(len(trained.image), 1) / len(trained)
    wanted = math.ceil(1.2 * energy.prior.least / each)
    return min(wanted, FITTED) - len(trained)


@torch.no_grad()
def codes_of(energy: Autoencoder, material: Material) -> Float[Tensor, "n d"]:
    """The codes of true maps: all of the first images."""
    found = []
    for i in range(min(len(material), FITTED)):
        scene = material.scene(i, energy.mean.device)
        found.append(energy.encode(scene.embeddings[None], scene.maps).codes.vector)
    return torch.cat(found)


@dataclass(frozen=True)
class Ranked:
    """A ranking, and what it is worth: rank correlation of the overlap with the decoder's score and
    with the ranking's, on images that it was not fitted to (nan where there is none).
    """

    ranking: Ranking
    spearman: tuple[float, float]


def ranked_on(energy: Autoencoder, judged: Material, config: UseConfig) -> Ranked:
    """The ranking of the decoder's own instances, fitted on the first half of some images and
    judged on the other. Doubles are among them: fitted without, it was worse (docs/results)."""
    half = len(judged) // 2
    ranker = Ranker(energy, Ranking(), config)
    parts, numbers = list[Evidence](), list[int]()
    for i in range(len(judged)):
        mine = (judged.own_image == i).nonzero()[:, 0].tolist()
        cut = ((k, cut_instance(judged.own[k].numpy(), float(judged.score[k]))) for k in mine)
        kept = [(k, a) for k, a in cut if a is not None]
        if kept:
            numbers += [k for k, _ in kept]
            pixels = judged.embeddings[i].to(energy.mean.device).float()
            parts.append(ranker.evidence(pixels, [a for _, a in kept]))
    if not parts:
        return Ranked(Ranking(), (math.nan, math.nan))
    known = joined_evidence(parts)
    overlap = judged.overlap[numbers].double().numpy()
    first = (judged.own_image[numbers] < half).numpy()
    ranking = fit_ranking(known[first], overlap[first])
    rest = ~first
    before, after = (
        rank_correlation(x[rest], overlap[rest]) for x in (known.score, ranking.expected(known))
    )
    return Ranked(ranking, (before, after))


def rank_correlation(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> float:
    """Spearman's; nan of fewer than three numbers, and where one of both has no spread."""
    if len(x) < 3 or not (np.ptp(x) and np.ptp(y)):
        return math.nan
    return float(spearmanr(x, y).statistic)
