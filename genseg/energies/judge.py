"""What an energy is worth: does it tell true maps from corrupted ones, does its code copy, does its
decoder read the code?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from genseg.alpha.codes import STRIDE, Codes
from genseg.energies.autoencoder import Autoencoder
from genseg.energies.corrupt import KINDS, Kind, corrupted, geometry_of
from genseg.energies.draws import Draws
from genseg.energies.maps import Maps, soft_overlap

COPIES, IGNORES = 0.5, 0.9  # from where on a code copies, or is ignored, as a part of what it gives
ALIKE = 0.8  # overlap from which on a map is that of the same cut-out, uncovered
FLATTEST = 1e-3  # tau at the least


@dataclass(frozen=True)
class Scene:
    """An image's pixel embeddings, and true maps of it."""

    embeddings: Float[Tensor, "e h w"]
    alpha: Float[Tensor, "n h w"]
    source: Int[Tensor, "n"] | None = None  # which cut-out each map is of

    @property
    def maps(self) -> Maps:
        image = torch.zeros(len(self.alpha), dtype=torch.long, device=self.alpha.device)
        return Maps(self.alpha, image)


@dataclass(frozen=True)
class Judgement:
    """Numbers over true maps; each overlap is a mean of `soft_overlap`, and nan for an energy that
    draws nothing.

    reconstruction: of r(a) with a
    copy: of what the code draws in another image with a: high where the code holds the map itself
    ignore: of what another instance's vector draws at the place of a with a: high where the decoder
        does not read the vector
    moved: of what the vector of the same cut-out in another image draws at the place of a with a:
        high where the vector says which instance, wherever it is
    separation: AUROC of E for true maps against corrupted ones, by kind; 1 is best, 1/2 is chance
    overlaps: of the corrupted maps with their true ones, by kind
    code: mean of R
    """

    maps: int
    reconstruction: float
    copy: float
    ignore: float
    moved: float
    separation: dict[str, float]
    overlaps: dict[str, float]
    code: float

    @property
    def mean_separation(self) -> float:
        """Over the kinds."""
        return float(np.mean(list(self.separation.values())))

    def cheats(self) -> list[str]:
        """What is wrong with the code, in words."""
        said = []
        if self.copy > COPIES:
            said.append(
                f"the code copies: drawn in another image it still overlaps its map by "
                f"{self.copy:.2f}"
            )
        if self.ignore > IGNORES * self.reconstruction:
            said.append(
                f"the decoder ignores the code: with another instance's vector it draws the map "
                f"as well (overlap {self.ignore:.2f} of {self.reconstruction:.2f}); where "
                "instances look alike, as nuclei do, their place is enough"
            )
        return said


@torch.no_grad()
def judge(
    energy: Autoencoder,
    scenes: Sequence[Scene],
    *,
    overlap: tuple[float, float] = (0.3, 0.6),
    kinds: Sequence[Kind] = KINDS,
    pairs: Sequence[Scene] = (),
    seed: int = 0,
) -> Judgement:
    """Judge an energy by true maps of some images.

    overlap: of corrupted maps with their true ones, where their kind has a strength
    pairs: images of which every two show some cut-outs alike, at other places
    """
    some = [scene for scene in scenes if len(scene.alpha)]
    true, false = list[Tensor](), {kind: list[Tensor]() for kind in kinds}
    overlaps = {kind: list[Tensor]() for kind in kinds}
    costs, kept, copied, ignored = (list[Tensor]() for _ in range(4))
    for number, scene in enumerate(some):
        pixels, maps = scene.embeddings[None].float(), scene.maps
        true.append(energy(pixels, maps))
        encoded = energy.encode(pixels, maps)
        costs.append(energy.parts(pixels, maps)[1])
        codes = encoded.codes
        if energy.draws:
            kept.append(soft_overlap(energy.decode(pixels, codes).sigmoid(), maps.alpha))
        if energy.draws and (other := _next_like(some, number)) is not None:
            drawn = energy.decode(other.embeddings[None].float(), codes).sigmoid()
            copied.append(soft_overlap(drawn, maps.alpha))
        if energy.draws and len(maps) > 1:
            turned = Codes(codes.vector.roll(1, 0), codes.place, codes.scale, codes.image)
            ignored.append(soft_overlap(energy.decode(pixels, turned).sigmoid(), maps.alpha))
        geometry = geometry_of(maps)
        for n, kind in enumerate(kinds):
            draws = Draws(seed, n, [number])
            wanted = overlap[0] + (overlap[1] - overlap[0]) * draws.uniform(maps.image)
            which = torch.zeros_like(maps.image)
            alpha = corrupted(geometry, which, wanted, draws, among=[kind])
            false[kind].append(energy(pixels, Maps(alpha, maps.image)))
            overlaps[kind].append(soft_overlap(alpha, maps.alpha))
    good = _joined(true)
    return Judgement(
        maps=len(good),
        reconstruction=_mean(kept),
        copy=_mean(copied),
        ignore=_mean(ignored),
        moved=_mean([_moved(energy, *two) for two in zip(pairs[::2], pairs[1::2], strict=True)]),
        separation={kind: separation(good, _joined(false[kind])) for kind in kinds},
        overlaps={kind: _mean(overlaps[kind]) for kind in kinds},
        code=_mean(costs),
    )


def _moved(energy: Autoencoder, first: Scene, second: Scene) -> Float[Tensor, "n"]:
    """Overlap of the maps in the second image with what the vectors of the same cut-outs in the
    first one draw at their places; of those that look alike in both: some are covered, or
    mirrored."""
    assert first.source is not None
    assert second.source is not None
    same = (first.source[:, None] == second.source[None]).nonzero()
    if not energy.draws or not len(same):
        return first.alpha.new_zeros(0)
    codes, there = (
        energy.encode(scene.embeddings[None].float(), scene.maps).codes[rows]
        for scene, rows in zip((first, second), same.unbind(1), strict=True)
    )
    wanted = second.alpha[same[:, 1]]
    alike = soft_overlap(_shifted(first.alpha[same[:, 0]], codes, there), wanted) > ALIKE
    joined = Codes(codes.vector, there.place, there.scale, there.image)
    drawn = energy.decode(second.embeddings[None].float(), joined).sigmoid()
    return soft_overlap(drawn, wanted)[alike]


def _shifted(alpha: Float[Tensor, "n h w"], before: Codes, after: Codes) -> Float[Tensor, "n h w"]:
    """Maps moved by whole pixels from one place to another; what leaves on one side comes in on the
    other."""
    steps = ((after.place - before.place) / STRIDE).round().long().tolist()
    return torch.stack([a.roll(step, (0, 1)) for a, step in zip(alpha, steps, strict=True)])


def _next_like(scenes: Sequence[Scene], number: int) -> Scene | None:
    """The next image of the same size, after the last the first; None without another one."""
    shape, later = scenes[number].embeddings.shape, [*scenes[number + 1 :], *scenes[:number]]
    return next((scene for scene in later if scene.embeddings.shape == shape), None)


def separation(true: Float[Tensor, "n"], false: Float[Tensor, "m"]) -> float:
    """AUROC: how often a false map has the higher energy; nan without any."""
    if not len(true) or not len(false):
        return float("nan")
    wrong = np.r_[np.zeros(len(true)), np.ones(len(false))]
    return float(roc_auc_score(wrong, torch.cat([true, false]).double().cpu().numpy()))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if parts else torch.zeros(0)


def _mean(parts: Sequence[Tensor]) -> float:
    whole = _joined(parts)
    return float(whole.mean()) if len(whole) else float("nan")


@torch.no_grad()
def fit_scale(
    energy: Autoencoder,
    scenes: Sequence[Scene],
    *,
    overlap: tuple[float, float] = (0.3, 0.85),
    kinds: Sequence[Kind],
    seed: int = 0,
) -> None:
    """Set tau, c and the weight of R so that sigmoid(-E) is the probability that a map is true and
    not corrupted, by logistic regression: for energies that are not trained for it."""
    distances, costs, wrong = list[Tensor](), list[Tensor](), list[int]()
    for number, scene in enumerate(scenes):
        if not len(scene.alpha):
            continue
        pixels, maps, draws = scene.embeddings[None].float(), scene.maps, Draws(seed, 0, [number])
        which = draws.below(len(kinds), maps.image)
        wanted = overlap[0] + (overlap[1] - overlap[0]) * draws.uniform(maps.image)
        bad = Maps(corrupted(geometry_of(maps), which, wanted, draws, among=kinds), maps.image)
        for label, some in ((0, maps), (1, bad)):
            d, cost = energy.parts(pixels, some)
            distances.append(d)
            costs.append(cost)
            wrong += [label] * len(some)
    if not wrong:
        return
    x = torch.stack([_joined(distances), _joined(costs)], 1).double().cpu().numpy()
    slopes, offset = _nonnegative(x, np.array(wrong))
    tau = max(slopes[0], FLATTEST)
    energy.log_tau.fill_(float(np.log(tau)))
    energy.offset.fill_(float(-offset / tau))
    energy.weight.fill_(slopes[1])


def _nonnegative(
    x: Float[np.ndarray, "n 2"], wrong: Int[np.ndarray, "n"]
) -> tuple[tuple[float, float], float]:
    """Slopes of a logistic regression that are not below 0, and its offset: a column whose slope
    would be is left out."""
    used = [k for k in (0, 1) if x[:, k].std() > 0]
    while used:
        spread = x[:, used].std(0)
        fit = LogisticRegression(C=100.0, max_iter=1000).fit(x[:, used] / spread, wrong)
        slopes = fit.coef_[0] / spread
        if (slopes >= 0).all():
            found = {k: float(s) for k, s in zip(used, slopes, strict=True)}
            return (found.get(0, 0.0), found.get(1, 0.0)), float(fit.intercept_[0])
        used = [k for k, s in zip(used, slopes, strict=True) if s >= 0]
    return (0.0, 0.0), 0.0
