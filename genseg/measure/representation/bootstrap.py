"""The standard error of a measure, by resampling the images."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

DRAWS = 200  # resamples
FEW_DRAWS = 20  # where each takes a tenth of a second; the error then has one of 16 %
ENOUGH = 2000  # images of a resample, where more take long
Name = TypeVar("Name")


@dataclass(frozen=True)
class Estimate:
    """A measure of some images, and its standard error: how much it would change with other images
    of the same kind. nan where one is not known."""

    value: float
    error: float = math.nan


def bootstrap(
    measure: Callable[[Int[Tensor, "n"]], Mapping[Name, float]],
    images: int,
    *,
    draws: int = DRAWS,
    most: int = 0,
    seed: int = 0,
) -> dict[Name, Estimate]:
    """The measures of all images, by name, and their standard deviations over `draws` resamples of
    as many images with replacement (Efron, 1979).

    measure: from the numbers of images, in which one may come several times, to values by name
    most: images of a resample, for measures that take long; their deviation is then scaled by the
        root of the part of images that they are (m out of n; Bickel et al., 1997); 0: all
    """
    g = torch.Generator().manual_seed(seed)
    size = min(most or images, images)
    values = measure(torch.arange(images))
    again = [measure(torch.randint(images, (size,), generator=g)) for _ in range(draws)]
    scale = math.sqrt(size / images)
    return {
        name: Estimate(float(value), scale * _deviation([float(one[name]) for one in again]))
        for name, value in values.items()
    }


def mean_of(values: Float[Tensor, "n"], *, seed: int = 0) -> Estimate:
    """The mean of a number of each image, and its standard error."""
    known = values.double()
    return bootstrap(lambda i: {"mean": float(known[i].mean())}, len(known), seed=seed)["mean"]


def resampled(features: Float[Tensor, "n d"]) -> int:
    """How many images a resample for a measure of their covariance has: enough of them for its
    rank, of which 63 in 100 differ."""
    return max(ENOUGH, 4 * features.shape[1])


def _deviation(values: list[float]) -> float:
    """The standard deviation of those that are finite; nan of fewer than two."""
    known = torch.tensor([v for v in values if math.isfinite(v)], dtype=torch.float64)
    return float(known.std()) if len(known) > 1 else math.nan
