"""What a semantic model has left, as instances of a COCO json."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genseg.data.instances.coco import annotation
from genseg.data.instances.instance import cut_instance
from genseg.data.labels.class_maps import read_class_map
from genseg.workflows.generate.records import MOST as NUMBERS


def regions(
    images: Sequence[Mapping[str, Any]], categories: Sequence[Mapping[str, Any]], folder: Path
) -> Iterator[dict[str, Any]]:
    """What a semantic model has found, each class of an image as one instance; `mask` of an image
    names its map. Before `categories` are known a class has its number."""
    ids = dict(enumerate((c["id"] for c in categories), start=1))
    for image in images:
        if "mask" in image:
            classes = read_class_map(folder / image["mask"])
            for c in np.unique(classes[classes > 0]).tolist():
                whole = cut_instance(classes == c)
                assert whole is not None
                size = {"height": classes.shape[0], "width": classes.shape[1]}
                found = annotation(
                    whole, number=image["id"] * NUMBERS + c, image=image["id"], **size
                )
                yield found | {"category_id": ids.get(c, c)}
