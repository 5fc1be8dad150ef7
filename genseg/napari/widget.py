"""The plugin of napari: an image layer and a run become a layer of labels with scores."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from jaxtyping import Int, Shaped

from genseg.model import Model, load

if TYPE_CHECKING:
    import napari.layers
    import napari.types

Features = dict[str, list[Any]]


def find_instances(
    image: "napari.layers.Image",
    run: Annotated[Path, {"mode": "d"}],
    score: Annotated[float, {"widget_type": "FloatSlider", "max": 1.0, "step": 0.01}] = 0.5,
) -> "napari.types.LayerDataTuple":
    """A layer of labels with the instances of an image layer, and their scores as its features.

    image: grey, or RGB where the layer says so; each plane of a stack is an image of its own
    run: a run directory of genseg pretrain with the alpha task, or of genseg finetune
    score: the least score of an instance
    """
    data = image.data[0] if image.multiscale else image.data
    labels, features = label_planes(np.asarray(data), load(run), rgb=image.rgb, score=score)
    about = {
        "name": f"{image.name} instances",
        "features": features,
        "scale": tuple(image.scale),
        "translate": tuple(image.translate),
    }
    return labels, about, "labels"


def label_planes(
    data: Shaped[np.ndarray, "*planes"], model: Model, *, rgb: bool, score: float
) -> tuple[Int[np.ndarray, "*_"], Features]:
    """The label image of an array, numbered through over its planes, and a row of features for each
    number, from 0, the background, on.

    data: rows and columns behind any number of axes, and behind them 3 or 4 channels where it is
        rgb. Where instances overlap, the better one has the pixels

    Raises ValueError for an array without rows and columns.
    """
    shape = data.shape[:-1] if rgb else data.shape
    if len(shape) < 2:
        raise ValueError(f"an image layer has rows and columns; this one has the shape {shape}")
    labels = np.zeros(shape, np.int32)
    features: Features = {"index": [0], "score": [np.nan], "category": [""], "area": [0]}
    for at in np.ndindex(shape[:-2]):
        found = model.instances(data[at], score=score)
        numbers, before = found.labels(), len(features["index"]) - 1
        labels[at] = np.where(numbers > 0, numbers + before, 0)
        features["index"] += range(before + 1, before + 1 + len(found))
        features["score"] += found.scores.tolist()
        features["category"] += [found.classes[c] for c in found.categories.tolist()]
        features["area"] += found.areas.tolist()
    return labels, features
