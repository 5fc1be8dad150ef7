"""How long the measures of genseg evaluate representation take, embeddings given. On an idle
machine:

  python tools/benchmark_measures.py --images 10000 --dimensions 512

Embeddings are Gaussian, of a spectrum that falls as 1 / k, with ten classes; 1000 images have six
perturbed views. Seconds are those of the wall and of all cores together.
"""

import argparse
import time
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genseg.measure.representation.measured import Measured, measure_embeddings
from genseg.measure.representation.perturb import PERTURBATIONS


def made(
    images: int, dimensions: int
) -> tuple[Float[Tensor, "n d"], Int[Tensor, "n"], dict[str, Float[Tensor, "p 2 d"]]]:
    """Embeddings, their classes, and embeddings of views of the first thousand."""
    g = torch.Generator().manual_seed(0)
    scale = torch.arange(1, dimensions + 1) ** -0.5
    labels = torch.randint(0, 10, (images,), generator=g)
    means = torch.randn(10, dimensions, generator=g) * scale
    features = means[labels] + torch.randn(images, dimensions, generator=g) * scale
    some = features[:1000, None]
    views = {
        kind: some + 0.1 * scale * torch.randn(len(some), 2, dimensions, generator=g)
        for kind in PERTURBATIONS
    }
    return features, labels, views


def timed(what: str, measure: Callable[[], Measured]) -> None:
    """Print a line about one call."""
    wall, cores = time.perf_counter(), time.process_time()
    found = measure()
    wall, cores = time.perf_counter() - wall, time.process_time() - cores
    print(f"{what:32s}{len(found.measures):3d} measures {wall:6.1f} s, of cores {cores:6.1f} s")


def main() -> None:
    """Measure twice."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=512)
    o = parser.parse_args()
    features, labels, views = made(o.images, o.dimensions)
    viewed = torch.arange(len(views["crop"]))
    factors = {"class": labels, "place": features[:, :2] + torch.randn(o.images, 2)}
    print(f"{o.images} images of {o.dimensions} dimensions, {torch.get_num_threads()} threads")
    timed("images alone", lambda: measure_embeddings(features))
    timed(
        "views, classes, two label sets",
        lambda: measure_embeddings(
            features, labels=labels, factors=factors, views=views, viewed=viewed
        ),
    )


if __name__ == "__main__":
    main()
