"""What several label sets share: how well one encoder knows each, and by which directions."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from genseg.measure.representation.bootstrap import (
    FEW_DRAWS,
    Estimate,
    bootstrap,
    mean_of,
    resampled,
)
from genseg.measure.representation.ridge import Principal, explained, one_hot, ridge

# name -> the class of each image, or numbers that it has
Factors = Mapping[str, Num[Tensor, "n *t"]]


def is_class(values: Num[Tensor, "n *t"]) -> bool:
    """Whether a factor is a class, and not numbers."""
    return not values.is_floating_point()


def targets_of(values: Num[Tensor, "n *t"]) -> Float[Tensor, "n t"]:
    """A factor as columns of mean 0 and standard deviation 1, of a class one column each; what does
    not vary is 0."""
    y = one_hot(values) if is_class(values) else values.double().reshape(len(values), -1)
    spread = y.std(0, correction=0)
    scale = torch.where(spread > 1e-12 * y.abs().amax(0), spread, torch.inf)
    return (y - y.mean(0)) / scale


def factor_scores(
    p: Principal, factors: Factors, *, seed: int = 0
) -> tuple[dict[str, Estimate], dict[str, float]]:
    """How well a linear probe, fitted to all other images, knows each factor of an image; and the
    penalty of each probe.

    Of a class the part of images for which it is right, in [0, 1] (chance: the part of the largest
    class); of numbers R^2, at most 1, 0 for what the mean says already.
    """
    found, penalties = {}, {}
    for name, values in factors.items():
        if is_class(values):
            wanted = one_hot(values)
            fitted = ridge(p, wanted)
            right = fitted.predicted.argmax(1) == wanted.argmax(1)
            found[name] = mean_of(right.double(), seed=seed)
        else:
            y = targets_of(values)
            fitted = ridge(p, y)
            predicted = fitted.predicted

            def of(
                i: Int[Tensor, "n"],
                predicted: Float[Tensor, "n t"] = predicted,
                y: Float[Tensor, "n t"] = y,
            ) -> dict[str, float]:
                return {"explained": explained(predicted, y, i)}

            found[name] = bootstrap(of, len(y), seed=seed)["explained"]
        penalties[name] = fitted.penalty
    return found, penalties


def subspace(weights: Float[Tensor, "d t"]) -> Float[Tensor, "d r"]:
    """An orthonormal basis of what the columns span; directions of less than a thousandth of the
    largest are left out."""
    u, s, _ = torch.linalg.svd(weights, full_matrices=False)
    return u[:, s > 1e-3 * s.max()]


def principal_cosines(a: Float[Tensor, "d r"], b: Float[Tensor, "d s"]) -> Float[Tensor, "k"]:
    """Cosines of the principal angles of two subspaces, by orthonormal bases, the largest first
    (Björck and Golub, 1973): 1 for a shared direction, 0 for a right angle."""
    return torch.linalg.svdvals(a.T @ b).clamp(0, 1)


def overlap(a: Float[Tensor, "d r"], b: Float[Tensor, "d s"]) -> float:
    """The mean of the squared cosines of the principal angles, in [0, 1]: 1 where one subspace lies
    in the other, 0 where they are orthogonal. Random ones of r and s dimensions have max(r, s) /
    d."""
    return float(principal_cosines(a, b).square().mean())


def subspace_overlaps(
    features: Float[Tensor, "n d"],
    factors: Factors,
    penalties: Mapping[str, float],
    *,
    seed: int = 0,
) -> dict[tuple[str, str], Estimate]:
    """`overlap` of the directions that linear probes of each two factors read.

    They are the columns of the weights of ridge regression, refitted to each resample with the same
    penalty. A low overlap says that the factors can be told apart by directions; a high one that
    what changes one reading changes the other.
    """
    wanted = {name: targets_of(values) for name, values in factors.items()}
    x = features.double()

    def overlaps(i: Int[Tensor, "n"]) -> dict[tuple[str, str], float]:
        some = x[i] - x[i].mean(0)
        mean_square = some.T @ some / len(i)
        bases = {}
        for name, y in wanted.items():
            penalised = mean_square + penalties[name] * torch.eye(len(mean_square)).double()
            root = torch.linalg.cholesky(penalised)
            moments = some.T @ (y[i] - y[i].mean(0)) / len(i)
            bases[name] = subspace(torch.cholesky_solve(moments, root))
        names = list(bases)
        return {
            (a, b): overlap(bases[a], bases[b]) for n, a in enumerate(names) for b in names[n + 1 :]
        }

    most = resampled(x)
    return bootstrap(overlaps, len(x), draws=FEW_DRAWS, most=most, seed=seed)
