"""Instances as a few arrays, and back: what is kept of an image before it is done."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Shaped

from genseg.data.instances.instance import Instance

Arrays = Mapping[str, Shaped[np.ndarray, "*shape"]]


def pack(found: Sequence[Instance]) -> dict[str, Shaped[np.ndarray, "*shape"]]:
    """Places (top, left, height and width of n windows), scores, categories, and all alphas one
    after the other."""
    places = [(a.top, a.left, *a.alpha.shape) for a in found]
    alphas = [a.alpha.ravel() for a in found]
    return {
        "places": np.array(places, np.int64).reshape(-1, 4),
        "scores": np.array([a.score for a in found], np.float64),
        "categories": np.array([a.category for a in found], np.int64),
        "alphas": np.concatenate(alphas) if alphas else np.zeros(0, np.uint8),
    }


def unpack(arrays: Arrays) -> list[Instance]:
    """What `pack` was given."""
    found, begin = list[Instance](), 0
    for (top, left, h, w), score, category in zip(
        arrays["places"].tolist(),
        arrays["scores"].tolist(),
        arrays["categories"].tolist(),
        strict=True,
    ):
        alpha = arrays["alphas"][begin : begin + h * w].reshape(h, w)
        begin += h * w
        found.append(Instance(alpha, top, left, score, category))
    return found
