"""What an instance measures: its shape, and the values of an image in it."""

import math

import numpy as np
from jaxtyping import Bool, Shaped
from skimage.measure import regionprops

from genseg.data.instances.instance import OPAQUE, Instance

SQUARE = 0.01  # by this part the sides of a pixel may differ, and lengths still have one unit


def shape_of(
    instance: Instance,
    height: int,
    width: int,
    micrometres: tuple[float, float] | None = None,
) -> dict[str, float | int | None]:
    """Measures of the mask of an instance in an image of that size, by scikit-image's regionprops,
    in pixels: x to the right and y down from the middle of the first pixel; orientation in radians,
    from the downward axis to the longest one of the ellipse of equal second moments.

    micrometres: of a pixel, down and across; None: not known, and measures in them are None, as are
        lengths where a pixel is no square

    The mask must not be empty.
    """
    (found,) = regionprops(instance.mask.astype(np.uint8))
    left, top, w, h = instance.box_xywh
    y, x = found.centroid
    area = int(found.area)
    lengths = {
        "equivalent_diameter": math.sqrt(4 * area / math.pi),
        "major_axis": float(found.axis_major_length),
        "minor_axis": float(found.axis_minor_length),
        "perimeter": float(found.perimeter),
    }
    down, across = micrometres or (math.nan, math.nan)
    square = micrometres is not None and abs(down / across - 1) <= SQUARE
    return {
        "area_px": area,
        "area_um2": area * down * across if micrometres else None,
        **{f"{name}_px": value for name, value in lengths.items()},
        **{f"{name}_um": value * across if square else None for name, value in lengths.items()},
        "eccentricity": float(found.eccentricity),
        "solidity": float(found.solidity),
        "orientation": float(found.orientation),
        "centroid_x": float(x + instance.left),
        "centroid_y": float(y + instance.top),
        "touches_border": left == 0 or top == 0 or left + w == width or top + h == height,
    }


def intensities(
    instance: Instance,
    pixels: Shaped[np.ndarray, "h w c"],
    channels: tuple[str, ...],
    soft: Instance | None = None,
    absent: Bool[np.ndarray, "h w"] | None = None,
) -> dict[str, float | None]:
    """Mean, sum, least, largest and standard deviation (of all, not of a sample) of each channel in
    the mask of an instance, in the values of the file.

    soft: its alpha map; then also the mean of all pixels that it covers, each weighted by its alpha

    Values that are not finite, and those of pixels that are `absent`, count nowhere. None: there is
    no other.
    """
    known = instance.mask
    if absent is not None:
        known = known & ~absent[instance.window]
    values = pixels[instance.window][known]
    found: dict[str, float | None] = {}
    for c, name in enumerate(channels):
        found |= {f"{name}_{what}": v for what, v in _statistics(values[:, c]).items()}
        if soft is not None:
            gone = None if absent is None else absent[soft.window]
            found[f"{name}_alpha_mean"] = _weighted(pixels[soft.window][..., c], soft, gone)
    return found


def _statistics(values: Shaped[np.ndarray, "n"]) -> dict[str, float | None]:
    x = values.astype(np.float64)
    x = x[np.isfinite(x)]
    if not x.size:
        return dict.fromkeys(("mean", "sum", "min", "max", "sd"))
    return {
        "mean": float(x.mean()),
        "sum": float(x.sum()),
        "min": float(x.min()),
        "max": float(x.max()),
        "sd": float(x.std()),
    }


def _weighted(
    values: Shaped[np.ndarray, "h w"], soft: Instance, absent: Bool[np.ndarray, "h w"] | None
) -> float | None:
    x, weights = values.astype(np.float64), soft.alpha / OPAQUE
    weights = np.where(np.isfinite(x), weights, 0)
    weights = weights if absent is None else np.where(absent, 0, weights)
    total = float(weights.sum())
    return float((np.where(weights > 0, x, 0) * weights).sum() / total) if total else None
