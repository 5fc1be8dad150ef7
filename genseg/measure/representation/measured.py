"""All measures of one set of embeddings."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from genseg.measure.knn import knn
from genseg.measure.linear import linear
from genseg.measure.representation.bootstrap import (
    FEW_DRAWS,
    Estimate,
    bootstrap,
    mean_of,
    resampled,
)
from genseg.measure.representation.clusters import (
    cluster_agreement,
    clusters_of,
    fisher_ratio,
    silhouettes,
    stability,
)
from genseg.measure.representation.collapse import spread
from genseg.measure.representation.dimension import lidar, neighbour_ratios, two_nn
from genseg.measure.representation.factors import Factors, factor_scores, subspace_overlaps
from genseg.measure.representation.independence import (
    correlation_of,
    off_diagonal,
    total_correlation,
)
from genseg.measure.representation.measures import FACTOR, MEASURES, OVERLAP
from genseg.measure.representation.ridge import (
    Principal,
    principal,
    right_by_dimensions,
    sufficient_dimensions,
)
from genseg.measure.representation.smoothness import (
    alignment,
    interpolated_right,
    relative_change,
    uniformity,
)
from genseg.measure.representation.spectrum import (
    entropy_rank,
    mean_squares,
    participation_ratio,
    spectrum,
    spectrum_exponent,
    variance_dimensions,
)

LEAST = 16  # images
SOME = 2000  # images where time grows with their square
MANY = 4000  # images of k-means and of the linear probe
CLUSTERS = 10  # of images without classes


@dataclass(frozen=True)
class Measured:
    """Measures of one set of embeddings by name; those that do not apply are not there.

    spectrum: variances along principal directions in parts of their sum, the largest first
    accuracies: (principal dimensions, accuracy of a linear probe on so many), where there are
    classes
    """

    measures: dict[str, Estimate]
    spectrum: tuple[float, ...]
    accuracies: tuple[tuple[int, float], ...] = ()


def measure_embeddings(
    features: Float[Tensor, "n d"],
    *,
    labels: Int[Tensor, "n"] | None = None,
    factors: Factors | None = None,
    views: Mapping[str, Float[Tensor, "p q d"]] | None = None,
    viewed: Int[Tensor, "p"] | None = None,
    seed: int = 0,
) -> Measured:
    """All measures that apply.

    labels: classes; an image that is the only one of its class is left out of what they measure
    factors: label sets to compare
    views: kind of perturbation -> embeddings of views of the images `viewed`
    seed: of all that is drawn: clusters, folds, resamples, and the images of measures that take
    some

    Distances are between embeddings of length 1; rank and correlation are of embeddings as they
    are. Silhouette, stability and uniformity are of at most 2000 images, and so many are asked for
    the accuracy between neighbours; the linear probe and the clusters of classes are of at most
    4000.

    Raises ValueError for fewer than 16 images, and for embeddings that are not finite.
    """
    n = len(features)
    if n < LEAST:
        raise ValueError(f"{n} images are too few to measure embeddings by; give {LEAST} or more")
    if broken := int((~features.isfinite()).any(1).sum()):
        raise ValueError(
            f"the embeddings of {broken} of {n} images are not finite; such an encoder is broken"
        )
    x = F.normalize(features.float(), dim=1)
    some = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:SOME]
    found = _spectral(features, seed)
    variances = spectrum(features.double())
    if views is not None and viewed is not None:
        found |= _smooth(x, views, viewed, features, seed)
    varied = float(variances.sum()) > 0
    accuracies: tuple[tuple[int, float], ...] = ()
    p = principal(features)
    count = CLUSTERS
    if varied and labels is not None:
        known = several_of(labels)
        if known.any() and len(labels[known].unique()) > 1:
            count = len(labels[known].unique())
            own = principal(features[known]) if not known.all() else p
            accuracies, more = _by_dimensions(own, labels[known], seed)
            found |= _by_class(features[known], labels[known], seed) | more
    if varied:
        found["intrinsic_dimension"] = _intrinsic(x, seed)
        found["uniformity"] = uniformity(x[some], seed=seed)
        if len(some) >= 4 * count:
            found["stability"] = stability(x[some], count, seed=seed)
    for name, e in _by_factor(features, p, factors or {}, seed) if varied else ():
        found[name] = e
    parts = (variances / variances.sum().clamp_min(1e-300)).tolist()
    return Measured(_in_order(found), tuple(parts), accuracies)


def quick_measures(features: Float[Tensor, "b d"]) -> dict[str, float]:
    """Some measures of one batch on any device that need no label, in milliseconds; those that are
    not known are left out. Of few images they are smaller than those of `measure_embeddings`:
    compare them between equal b."""
    features = features.cpu()
    variances = spectrum(features.double())
    found = {
        "uniformity": uniformity(features.float(), draws=0).value,
        "correlation": off_diagonal(correlation_of(features.double())),
        "participation_ratio": participation_ratio(variances),
        "spectrum_exponent": spectrum_exponent(variances),
        "intrinsic_dimension": two_nn(neighbour_ratios(F.normalize(features.float(), dim=1))),
    }
    return {name: value for name, value in found.items() if math.isfinite(value)}


def several_of(labels: Int[Tensor, "n"]) -> Tensor:
    """Which images have another one of their class."""
    return torch.bincount(labels)[labels] > 1


def _spectral(features: Float[Tensor, "n d"], seed: int) -> dict[str, Estimate]:
    """What is a function of the first two moments."""
    x, n = features.double(), len(features)

    def of(i: Int[Tensor, "n"]) -> dict[str, float]:
        drawn = x[i]
        variances, correlation = spectrum(drawn), correlation_of(drawn)
        return {
            "variance_dimensions": variance_dimensions(variances),
            "correlation": off_diagonal(correlation),
            # a resample holds 63 % of the images: fewer than dimensions have no determinant
            "total_correlation": (
                total_correlation(correlation, len(i)) if len(i) > 2 * x.shape[1] else math.nan
            ),
            "effective_rank": entropy_rank(mean_squares(drawn).sqrt()),
            "participation_ratio": participation_ratio(variances),
            "spectrum_exponent": spectrum_exponent(variances),
            "spread": spread(drawn),
        }

    return bootstrap(of, n, draws=FEW_DRAWS, most=resampled(x), seed=seed)


def _smooth(
    x: Float[Tensor, "n d"],
    views: Mapping[str, Float[Tensor, "p q d"]],
    viewed: Int[Tensor, "p"],
    features: Float[Tensor, "n d"],
    seed: int,
) -> dict[str, Estimate]:
    """What perturbed views say."""
    found = {
        f"change_{kind}": relative_change(F.normalize(v, dim=2), x[viewed], seed=seed)
        for kind, v in views.items()
    }
    if "crop" in views and views["crop"].shape[1] > 1:
        found["alignment"] = alignment(views["crop"], seed=seed)
    every = torch.cat([features[viewed][:, None], *views.values()], dim=1).double()
    found["lidar"] = bootstrap(
        lambda i: {"lidar": lidar(every[i])}, len(every), draws=FEW_DRAWS, seed=seed
    )["lidar"]
    return found


def _by_class(
    features: Float[Tensor, "n d"], labels: Int[Tensor, "n"], seed: int
) -> dict[str, Estimate]:
    """What classes measure. Each has two images or more."""
    x = F.normalize(features.float(), dim=1)
    drawn = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    some, few, many = drawn[:SOME], _paired(labels, drawn[:SOME]), _paired(labels, drawn[:MANY])
    right = knn(x, labels, x, leave_one_out=True) == labels
    found = {
        "interpolation": mean_of(interpolated_right(x, labels, some), seed=seed),
        "knn": mean_of(right.double(), seed=seed),
    }
    if len(labels[many].unique()) > 1:
        linear_ones = linearly_right(features[many], labels[many], seed=seed)
        found["linear"] = mean_of(linear_ones, seed=seed)
        clusters = clusters_of(x[many], len(labels[many].unique()), seed=seed)
        found |= cluster_agreement(clusters, labels[many], seed=seed)
    if len(labels[few].unique()) > 1:
        found["silhouette"] = mean_of(silhouettes(x[few], labels[few]), seed=seed)
    y = x.double()
    fisher = bootstrap(
        lambda i: {"fisher_ratio": fisher_ratio(y[i], labels[i])},
        len(x),
        draws=FEW_DRAWS,
        most=resampled(y),
        seed=seed,
    )
    return found | fisher


def _paired(labels: Int[Tensor, "n"], drawn: Int[Tensor, "m"]) -> Int[Tensor, "k"]:
    """Those of the drawn images of whose class another one is drawn."""
    return drawn[several_of(labels[drawn])]


def linearly_right(
    features: Float[Tensor, "n d"], labels: Int[Tensor, "n"], *, seed: int = 0
) -> Float[Tensor, "n"]:
    """1 for each image whose class a linear probe (`linear`) finds that was trained on the other
    half of the images, else 0. Halves are drawn class by class; each class needs two images."""
    rng = torch.Generator().manual_seed(seed)
    second = torch.zeros(len(labels), dtype=torch.bool)
    for c in labels.unique():
        own = (labels == c).nonzero()[:, 0]
        second[own[torch.randperm(len(own), generator=rng)[: len(own) // 2]]] = True
    right = torch.zeros(len(labels), dtype=torch.float64)
    for asked in (second, ~second):
        guess = linear(features[~asked].float(), labels[~asked], features[asked].float(), seed=seed)
        right[asked] = (guess == labels[asked]).double()
    return right


def _by_dimensions(
    p: Principal, labels: Int[Tensor, "n"], seed: int
) -> tuple[tuple[tuple[int, float], ...], dict[str, Estimate]]:
    """The accuracy of a linear probe on leading principal dimensions."""
    tried, right = right_by_dimensions(p, labels)
    found = bootstrap(
        lambda i: {"pca_dimensions": sufficient_dimensions(tried, right[:, i].mean(1))},
        len(labels),
        seed=seed,
    )
    return tuple(zip(tried, right.mean(1).tolist(), strict=True)), found


def _intrinsic(x: Float[Tensor, "n d"], seed: int) -> Estimate:
    ratios = neighbour_ratios(x)
    if not len(ratios):
        return Estimate(math.nan)
    return bootstrap(lambda i: {"d": two_nn(ratios[i])}, len(ratios), seed=seed)["d"]


def _by_factor(
    features: Float[Tensor, "n d"], p: Principal, factors: Factors, seed: int
) -> Iterator[tuple[str, Estimate]]:
    """What linear probes know of each label set, and the overlap of what each two read."""
    scores, penalties = factor_scores(p, factors, seed=seed)
    for name, e in scores.items():
        yield f"{FACTOR}_{name}", e
    if len(factors) > 1:
        for (a, b), e in subspace_overlaps(features, factors, penalties, seed=seed).items():
            yield f"{OVERLAP}_{a}_{b}", e


def _in_order(found: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """By the order of MEASURES, those of label sets last; what is not known is left out."""
    names = [name for family in MEASURES.values() for name in family if name in found]
    names += [name for name in found if name not in names]
    return {
        name: replace(found[name], error=found[name].error)
        for name in names
        if math.isfinite(found[name].value)
    }
