"""Windows of an OME-Zarr, or of a zarr array: the chunks that the window meets are decoded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from genseg.core.reading import Selection
from genseg.data.images.held import zarr_in
from genseg.data.images.planes import Held, as_stack, check_image, choose, combine
from genseg.data.regions.georeference import OnMap
from genseg.data.regions.image import Sizes, checked_window, page_of

# micrometres of OME-Zarr's units of length
MICROMETRES = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "meter": 1e6}


Pair = tuple[float, float]


class ZarrRegions:
    """An image of a zarr, by the channels and pages of a selection; the contract of
    `RegionImage`."""

    on_map: OnMap | None = None
    pixel_size: Pair | None = None
    levels: Sizes

    def __init__(self, path: Path, selection: Selection, image: int = 0) -> None:
        """Raises ValueError where zarr is not installed, and for what is no image."""
        self.path = path
        self._arrays, held, scale = zarr_in(path)
        if scale:
            self.pixel_size = _pixel_size(scale, held)
        self.choice = choose(held, selection)
        self.held = as_stack(held) if self.choice.stacked else held
        check_image(self.held, self.choice, image)
        self.pages = self.choice.images[max(image, 1) - 1]
        y, x = self.held.axes.index("Y"), self.held.axes.index("X")
        self.levels = tuple((int(a.shape[y]), int(a.shape[x])) for a in self._arrays)

    def read(
        self, top: int, left: int, height: int, width: int, level: int = 0
    ) -> Shaped[np.ndarray, "height width c"]:
        """A window of a level."""
        rows, columns = checked_window(self.levels[level], top, left, height, width)
        array, channels = self._arrays[level], self.choice.channels
        pages = [page_of(array, self.held, p, channels, rows, columns) for p in self.pages]
        return combine(np.stack(pages), self.choice.how)


def _pixel_size(scale: Mapping[str, Any], held: Held) -> Pair | None:
    """Micrometres, where the axes have a unit."""
    steps = scale["datasets"][0].get("coordinateTransformations", ())
    scales = [step["scale"] for step in steps if step.get("type") == "scale"]
    units = [a.get("unit", "") if isinstance(a, dict) else "" for a in scale.get("axes", ())]
    if not scales or len(units) != len(held.axes):
        return None
    sizes = {
        a: float(s) * MICROMETRES[u]
        for a, s, u in zip(held.axes, scales[0], units, strict=True)
        if u in MICROMETRES
    }
    return (sizes["Y"], sizes["X"]) if {"Y", "X"} <= set(sizes) else None
