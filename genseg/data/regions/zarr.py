"""Windows of an OME-Zarr, or of a zarr array: the chunks that the window meets are decoded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from genseg.core.reading import Selection
from genseg.data.images.held import held_by_shape
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
        try:
            import zarr
        except ImportError:
            raise ValueError("a zarr, which needs a package: pip install 'genseg[zarr]'") from None
        try:
            opened: Any = zarr.open(str(path), mode="r")
        except Exception as error:  # of many kinds, by version
            raise ValueError(f"no zarr that can be opened: {error}") from None
        self.path = path
        said: dict[str, Any] = opened.attrs.asdict()
        scales = dict(said.get("ome", said)).get("multiscales")
        if scales:
            names = [d["path"] for d in scales[0]["datasets"]]
            self._arrays: list[Any] = [opened[name] for name in names]
            held = _held(scales[0], self._arrays[0])
            self.pixel_size = _pixel_size(scales[0], held)
        elif isinstance(opened, zarr.Array):
            self._arrays = [opened]
            held = held_by_shape(tuple(opened.shape), np.dtype(opened.dtype))
        else:
            raise ValueError("a zarr group without multiscales, which is no OME-Zarr image")
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


def _held(scale: Mapping[str, Any], array: Any) -> Held:
    """What the largest resolution of an OME-Zarr holds. Raises ValueError for axes without rows and
    columns."""
    named = scale.get("axes") or list("tczyx")[-array.ndim :]
    axes = [a if isinstance(a, str) else a["name"] for a in named]
    letters = "".join(a[0].upper() for a in axes)
    if not {"Y", "X"} <= set(letters) or len(letters) != array.ndim:
        raise ValueError(f"a zarr of axes {', '.join(axes)}, which is no picture")
    dtype = np.dtype(array.dtype)
    channels = dict(zip(letters, array.shape, strict=True)).get("C", 1)
    bits, colours = dtype.itemsize * 8, 1 if channels == 1 else 0
    return Held(letters, tuple(map(int, array.shape)), str(dtype), bits, colours=colours)


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
