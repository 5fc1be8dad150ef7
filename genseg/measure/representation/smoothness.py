"""Whether like images have like embeddings."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from genseg.measure.knn import votes
from genseg.measure.representation.bootstrap import DRAWS, Estimate, bootstrap, mean_of

ROWS = 1024  # of similarities at once


def relative_change(
    views: Float[Tensor, "n q d"], features: Float[Tensor, "n d"], *, seed: int = 0
) -> Estimate:
    """How far small perturbations move an embedding, in parts of the mean distance of two images:
    mean of |f(x') - f(x)| over mean of |f(x) - f(y)|.

    At least 0; 0: not at all; 1: as far as to another image. Where f is linear this is its
    Lipschitz constant along the perturbation, free of the scale of f. nan where all images are
    equal.

    views: embeddings of q perturbed views of each image
    """
    moved = (views - features[:, None]).norm(dim=2).mean(1).double()
    # products lose the digits of small distances: of a collapsed encoder all of them
    apart = torch.cdist(features.double(), features.double()).fill_diagonal_(0)

    def of(i: Int[Tensor, "n"]) -> dict[str, float]:
        w = torch.bincount(i, minlength=len(features)).double()
        pairs = float(w.sum() ** 2 - w.square().sum())
        between = float(w @ apart @ w) / pairs if pairs else 0.0
        return {"change": float(moved[i].mean()) / between if between > 0 else math.nan}

    return bootstrap(of, len(features), seed=seed)["change"]


def alignment(views: Float[Tensor, "n q d"], *, seed: int = 0) -> Estimate:
    """The mean squared distance of two views of an image on the unit sphere (Wang and Isola, 2020,
    eq. 3, alpha 2): from 0, where views are one, to 4."""
    x = F.normalize(views.double(), dim=2)
    q = x.shape[1]
    # the mean over pairs of |a - b|^2 is q / (q - 1) * 2 (mean |a|^2 - |mean a|^2)
    each = 2 * q / (q - 1) * (x.square().sum(2).mean(1) - x.mean(1).square().sum(1))
    return mean_of(each.clamp_min(0), seed=seed)


def uniformity(features: Float[Tensor, "n d"], *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """log of the mean over pairs of images of exp(-2 |x - y|^2) on the unit sphere (Wang and Isola,
    2020, eq. 4, t 2): from 0, where all are equal, down to about -4, where they are spread
    evenly."""
    x = F.normalize(features, dim=1)
    near = (-4 * (1 - x @ x.T)).clamp_max(0).exp().double()
    near.fill_diagonal_(0)

    def of(i: Int[Tensor, "n"]) -> dict[str, float]:
        w = torch.bincount(i, minlength=len(x)).double()
        pairs = float(w.sum() ** 2 - w.square().sum())
        mean = float(w @ near @ w) / pairs if pairs else math.nan
        return {"uniformity": math.log(max(mean, 1e-300))}

    return bootstrap(of, len(x), draws=draws, seed=seed)["uniformity"]


@torch.no_grad()
def interpolated_right(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, "n"],
    asked: Int[Tensor, "m"],
    *,
    k: int = 20,
) -> Float[Tensor, "m"]:
    """1 for each asked image where the middle between its embedding and that of the nearest image
    of its class gets their class by the votes of k nearest neighbours, the two left out; else 0.

    On the unit sphere. Their mean is in [0, 1]. Where classes are in one piece and the way between
    neighbours stays in them, it is that of kNN itself or more (after the interpolations of Bengio
    et al., 2013, "Better Mixing via Deep Representations"). Each class needs two images.
    """
    x = F.normalize(features.float(), dim=1)
    classes = int(labels.max()) + 1
    found = []
    for part in asked.split(ROWS):
        rows = torch.arange(len(part))
        similarity = x[part] @ x.T
        similarity[labels[part][:, None] != labels] = -torch.inf
        similarity[rows, part] = -torch.inf
        partner = similarity.argmax(1)
        middle = F.normalize(x[part] + x[partner], dim=1) @ x.T
        middle[rows, part] = middle[rows, partner] = -torch.inf
        chosen = votes(middle, labels, classes=classes, k=min(k, len(x) - 2), temperature=0.1)
        found.append((chosen == labels[part]).double())
    return torch.cat(found)
