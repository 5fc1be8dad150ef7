"""Linear probes in closed form: ridge regression, each image predicted by all others."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

STRENGTHS = tuple(10.0**k for k in range(-6, 2))  # of the penalty, in parts of the mean variance
# numbers of principal dimensions that are tried
DIMENSIONS = tuple(sorted({2**k for k in range(13)} | {3 * 2**k for k in range(12)}))


@dataclass(frozen=True)
class Principal:
    """Embeddings in their principal axes, the largest variance first.

    scores: the centred embeddings along the axes; axes: in the columns; squares: sums of squares of
    the scores
    """

    scores: Float[Tensor, "n d"]
    axes: Float[Tensor, "d d"]
    squares: Float[Tensor, "d"]


@dataclass(frozen=True)
class Fitted:
    """predicted: of each image, by a fit to all others; weights: of the fit to all, per dimension
    of the embeddings; penalty: what was added to the mean square along each axis."""

    predicted: Float[Tensor, "n t"]
    weights: Float[Tensor, "d t"]
    penalty: float


def principal(features: Float[Tensor, "n d"]) -> Principal:
    """Principal component analysis, in double precision."""
    x = features.double() - features.double().mean(0)
    squares, axes = torch.linalg.eigh(x.T @ x)
    axes = axes.flip(1)
    return Principal(x @ axes, axes, squares.flip(0).clamp_min(0))


def ridge(p: Principal, targets: Float[Tensor, "n t"], *, dimensions: int = 0) -> Fitted:
    """Ridge regression of targets on embeddings, with a free offset.

    Each image is predicted by the fit to all others: its residual is that of the fit to all over 1
    - h, where h is its leverage (Allen's PRESS; Golub et al., 1979). The penalty is the one of
    STRENGTHS with the least of these residuals.

    dimensions: so many leading principal ones are used; 0: all
    """
    m = dimensions or len(p.squares)
    scores, squares = p.scores[:, :m], p.squares[:m]
    y = targets.double()
    centred = y - y.mean(0)
    moments = scores.T @ centred
    penalties = float(p.squares.mean()) * torch.tensor(STRENGTHS, dtype=torch.float64) + 1e-300
    inverse = 1 / (squares[:, None] + penalties)
    leverage = 1 / len(y) + scores.square() @ inverse
    fitted = scores @ (inverse[:, :, None] * moments[:, None]).flatten(1)
    left = centred[:, None] - fitted.unflatten(1, (len(STRENGTHS), -1))
    left = left / (1 - leverage).clamp_min(1e-9)[:, :, None]
    best = int(left.square().sum((0, 2)).argmin())
    weights = p.axes[:, :m] @ (inverse[:, best : best + 1] * moments)
    return Fitted(y - left[:, best], weights, float(penalties[best]) / len(y))


def one_hot(labels: Int[Tensor, "n"]) -> Float[Tensor, "n c"]:
    """A column for each class, 1 where it is the label."""
    return F.one_hot(labels.unique(return_inverse=True)[1]).double()


def right_of(p: Principal, labels: Int[Tensor, "n"], *, dimensions: int = 0) -> Float[Tensor, "n"]:
    """1 for each image whose class a linear probe finds that was fitted to all others, else 0: the
    class of the largest prediction of `ridge` on `one_hot` (least squares classification)."""
    wanted = one_hot(labels)
    predicted = ridge(p, wanted, dimensions=dimensions).predicted
    return (predicted.argmax(1) == wanted.argmax(1)).double()


def right_by_dimensions(
    p: Principal, labels: Int[Tensor, "n"]
) -> tuple[list[int], Float[Tensor, "k n"]]:
    """Numbers of leading principal dimensions, up to all, and `right_of` for each of them."""
    full = len(p.squares)
    tried = [m for m in DIMENSIONS if m < full] + [full]
    return tried, torch.stack([right_of(p, labels, dimensions=m) for m in tried])


def sufficient_dimensions(
    tried: list[int], accuracies: Float[Tensor, "k"], part: float = 0.95
) -> int:
    """The fewest of the tried principal dimensions whose accuracy is `part` of the best."""
    enough = accuracies >= part * accuracies.max() - 1e-12
    return tried[int(enough.long().argmax())]


def explained(
    predicted: Float[Tensor, "n t"], targets: Float[Tensor, "n t"], images: Int[Tensor, "n"]
) -> float:
    """R^2 of some images, averaged over the targets that vary: 1 - squared errors over squared
    deviations. 1: all is predicted; 0: no more than their mean; negative below. nan where none
    varies."""
    y, z = targets.double()[images], predicted[images]
    deviations = (y - y.mean(0)).square().sum(0)
    varied = deviations > 1e-12 * y.square().sum(0)
    unexplained = (y - z).square().sum(0)[varied] / deviations[varied]
    return float(1 - unexplained.mean()) if len(unexplained) else math.nan
