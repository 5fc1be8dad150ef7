"""What an energy is for in generation: it ranks the decoder's own instances, and mends their
maps."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from genseg.alpha.codes import GRIDS, REACH, STRIDE
from genseg.alpha.kept import FAINT, stability
from genseg.core.check import between
from genseg.data.instances.instance import OPAQUE, Instance, cut_instance
from genseg.energies.autoencoder import Autoencoder
from genseg.energies.maps import Maps, frame

LEAST = 20  # instances, without which nothing is fitted
RIGHT = 0.5  # overlap from which on an instance is right
MARGIN = 4  # pixels around a window, at the stride of the embeddings
TOGETHER = 64  # instances looked at at once


@dataclass(frozen=True)
class Evidence:
    """What is known of n instances: the decoder's score, how stable the alpha is, d and R."""

    score: Float[np.ndarray, "n"]
    stability: Float[np.ndarray, "n"]
    distance: Float[np.ndarray, "n"]
    cost: Float[np.ndarray, "n"]

    def __getitem__(self, chosen: Bool[np.ndarray, "n"]) -> "Evidence":
        return Evidence(*(x[chosen] for x in vars(self).values()))

    def columns(self) -> Float[np.ndarray, "n 4"]:
        """What a ranking weighs: more of each is better."""
        known = (logit(self.score), logit(self.stability), -self.distance, -self.cost)
        return np.stack(known, 1)


def joined_evidence(parts: Sequence[Evidence]) -> Evidence:
    """Of several groups of instances, one after another."""
    return Evidence(
        *(np.concatenate(x) for x in zip(*(vars(p).values() for p in parts), strict=True))
    )


@dataclass(frozen=True)
class Ranking:
    """The overlap that an instance is expected to have with an object, in its upper half: sigmoid(
    own logit(score) + stable logit(stability) - distance d - cost R + offset). By default the score
    itself."""

    own: float = 1.0
    stable: float = 0.0
    distance: float = 0.0
    cost: float = 0.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not math.isfinite(value):
                raise ValueError(f"{name}={value:g}: it has to be finite")

    def expected(self, known: Evidence) -> Float[np.ndarray, "n"]:
        """Of instances."""
        slopes = [self.own, self.stable, self.distance, self.cost]
        x = known.columns() @ np.array(slopes) + self.offset
        return np.asarray((1 + np.tanh(x / 2)) / 2)


def logit(p: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Of probabilities; 0 and 1 count as nearly so."""
    p = np.clip(p, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(p / (1 - p)))


def fit_ranking(known: Evidence, overlap: Float[np.ndarray, "n"]) -> Ranking:
    """The ranking of least cross-entropy with the overlaps of instances of known worth, from RIGHT
    upwards: what has less is wrong, and how wrong is of no use. Of fewer than LEAST, the score
    itself; what says nothing, or the wrong way, has no weight."""
    if len(overlap) < LEAST:
        return Ranking()
    x = known.columns()
    worth = np.clip((overlap - RIGHT) / (1 - RIGHT), 0, 1)
    used = [k for k in range(x.shape[1]) if x[:, k].std() > 1e-9]
    while used:
        spread = x[:, used].std(0)
        scaled = x[:, used] / spread
        fit = LogisticRegression(C=100.0, max_iter=1000).fit(
            np.concatenate([scaled, scaled]),
            np.repeat([1, 0], len(scaled)),
            np.concatenate([worth, 1 - worth]),
        )
        slopes = dict(zip(used, (fit.coef_[0] / spread).tolist(), strict=True))
        if min(slopes.values()) >= 0:
            own, stable, distance, cost = (slopes.get(k, 0.0) for k in range(x.shape[1]))
            return Ranking(own, stable, distance, cost, float(fit.intercept_[0]))
        used = [k for k in used if slopes[k] >= 0]
    return Ranking()


@dataclass(frozen=True)
class UseConfig:
    """How generation uses an energy."""

    candidate: float = 0.2  # least objectness and score of what is ranked
    # an instance's map becomes what its code draws, where that lowers the energy
    refine: bool = False
    search: bool = False  # look again, at fainter places, where nothing has been found
    faint: float = 0.01  # least objectness and score there

    def __post_init__(self) -> None:
        between(0, 1, candidate=self.candidate, faint=self.faint)


class Ranker:
    """What `generate` asks between decoding and suppression: new scores, and better maps.

    Instances are at the stride of the embeddings. least: score of the decoder from which on they
    are wanted
    """

    def __init__(self, energy: Autoencoder, ranking: Ranking, config: UseConfig) -> None:
        self.energy, self.ranking, self.config = energy.eval(), ranking, config

    @property
    def least(self) -> float:
        return self.config.candidate

    @property
    def faintest(self) -> float | None:
        return self.config.faint if self.config.search else None

    @torch.no_grad()
    def __call__(
        self, embeddings: Float[Tensor, "e h w"], found: Sequence[Instance]
    ) -> list[Instance]:
        """The instances of an image with the overlap that is expected of each as score, best
        first."""
        ranked = list[Instance]()
        for chosen, distance, cost, mended in self._looked(embeddings, found):
            before = [found[i] for i in chosen]
            some = [a if m is None else m for a, m in zip(before, mended, strict=True)]
            scores = self.ranking.expected(_evidence(before, distance, cost))
            ranked += [replace(a, score=float(s)) for a, s in zip(some, scores, strict=True)]
        return sorted(ranked, key=lambda a: -a.score)

    def evidence(self, embeddings: Float[Tensor, "e h w"], found: Sequence[Instance]) -> Evidence:
        """What is known of each instance."""
        distance, cost = np.zeros(len(found)), np.zeros(len(found))
        with torch.no_grad():
            for chosen, d, r, _ in self._looked(embeddings, found):
                distance[chosen], cost[chosen] = d, r
        return _evidence(found, distance, cost)

    def _looked(
        self, embeddings: Float[Tensor, "e h w"], found: Sequence[Instance]
    ) -> Iterator[
        tuple[
            list[int],
            Float[np.ndarray, "m"],
            Float[np.ndarray, "m"],
            list[Instance | None],
        ]
    ]:
        """Which instances, their d and R, and what became of their maps (None: they stay)."""
        size = (embeddings.shape[1], embeddings.shape[2])
        for chosen, corner, near, maps in windows_of(embeddings.float(), found, self.energy):
            distance, cost = self.energy.parts(near, maps)
            mended: list[Instance | None] = [None] * len(chosen)
            if self.config.refine and self.energy.draws:
                better = self.energy.reconstructed(near, maps)
                again = self.energy(near, Maps(better, maps.image))
                falls = again < self.energy.of(distance, cost)
                for k in (falls & inside(maps.alpha)).nonzero()[:, 0].tolist():
                    former = found[chosen[k]]
                    mended[k] = _instance(better[k], corner[k], size, former)
            yield (
                chosen,
                distance.double().cpu().numpy(),
                cost.double().cpu().numpy(),
                mended,
            )


def _evidence(
    found: Sequence[Instance], distance: Float[np.ndarray, "n"], cost: Float[np.ndarray, "n"]
) -> Evidence:
    score = np.array([a.score for a in found], float)
    stable = np.array([float(stability(a.alpha / OPAQUE)) for a in found], float)
    return Evidence(score, stable, distance, cost)


def windows_of(
    embeddings: Float[Tensor, "e h w"], found: Sequence[Instance], energy: Autoencoder
) -> Iterator[tuple[list[int], list[tuple[int, int]], Float[Tensor, "m e s s"], Maps]]:
    """Instances with the part of the image that the encoder sees around each, those of one scale
    together: which they are, the first row and column of each window, embeddings and maps in it.
    Beyond the image there is neither."""
    if not found:
        return
    scales, centres = _framed(found)
    for grid in GRIDS:
        scale = float(REACH * grid)
        mine = [i for i, s in enumerate(scales) if s == scale]
        span = math.ceil(energy.config.width * scale / STRIDE) + 2 * MARGIN
        for first in range(0, len(mine), TOGETHER):
            chosen = mine[first : first + TOGETHER]
            corners = [
                (round(centres[i][0] - span / 2), round(centres[i][1] - span / 2)) for i in chosen
            ]
            # beyond the image lies what is 0 once it is whitened
            near = energy.mean[:, None, None].repeat(len(chosen), 1, span, span)
            alpha = embeddings.new_zeros(len(chosen), span, span)
            for k, (i, (top, left)) in enumerate(zip(chosen, corners, strict=True)):
                y, x = max(top, 0), max(left, 0)
                part = embeddings[:, y : max(top + span, 0), x : max(left + span, 0)]
                near[
                    k, :, y - top : y - top + part.shape[1], x - left : x - left + part.shape[2]
                ] = part
                _paint(alpha[k], found[i], top, left)
            numbers = torch.arange(len(chosen), device=embeddings.device)
            yield chosen, corners, near, Maps(alpha, numbers)


def _framed(found: Sequence[Instance]) -> tuple[list[float], list[tuple[float, float]]]:
    """The scale of each instance and its centroid, in pixels of the maps."""
    scales, centres = [], []
    for a in found:
        alpha = torch.from_numpy(a.alpha)[None].float() / OPAQUE
        place, scale = frame(alpha)
        y, x = (place[0] / STRIDE).tolist()
        scales.append(float(scale))
        centres.append((y + a.top, x + a.left))
    return scales, centres


def _paint(canvas: Float[Tensor, "s s"], a: Instance, top: int, left: int) -> None:
    """Put an instance's map into a window that begins at (top, left)."""
    span = len(canvas)
    h, w = a.alpha.shape
    y0, x0 = max(a.top, top), max(a.left, left)
    y1, x1 = min(a.top + h, top + span), min(a.left + w, left + span)
    if y0 < y1 and x0 < x1:
        part = torch.from_numpy(a.alpha[y0 - a.top : y1 - a.top, x0 - a.left : x1 - a.left])
        canvas[y0 - top : y1 - top, x0 - left : x1 - left] = part.to(canvas) / OPAQUE


def inside(alpha: Float[Tensor, "m s s"]) -> Bool[Tensor, "m"]:
    """Which maps end within their window: only of these is all known that would be redrawn."""
    edge = torch.cat([alpha[:, 0], alpha[:, -1], alpha[:, :, 0], alpha[:, :, -1]], 1)
    return ~(edge > 0.5).any(1)


def _instance(
    alpha: Float[Tensor, "s s"],
    corner: tuple[int, int],
    size: tuple[int, int],
    former: Instance,
) -> Instance | None:
    """A redrawn map in an image of `size`, with the score and class of the former instance; None
    where nothing is left of it."""
    levels = (alpha * OPAQUE).round().byte()
    whole = (levels * (levels >= FAINT)).cpu().numpy()
    (top, left), (h, w) = corner, size
    y, x = max(-top, 0), max(-left, 0)
    made = cut_instance(np.ascontiguousarray(whole[y : max(h - top, y), x : max(w - left, x)]))
    if made is None:
        return None
    top, left = made.top + y + top, made.left + x + left
    return replace(former, alpha=made.alpha, top=top, left=left)
