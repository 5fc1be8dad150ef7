"""A region of interest: polygons of a GeoJSON, or a mask."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool

from genseg.core.reading import Reading
from genseg.data.images.original import read_original
from genseg.data.images.source import ImageError
from genseg.data.instances.instance import Instance
from genseg.data.instances.outline import Polygon, inside_rings
from genseg.data.regions.georeference import LONGITUDE_FIRST, WGS84, OnMap

COARSE = 2048  # cells along the longer side, by which tiles are asked about


@dataclass(frozen=True)
class Interest:
    """cells: which parts of the image the region meets, on a coarse grid
    inside: a mask of the image at any size, or polygons in its pixels
    """

    cells: Bool[np.ndarray, "h w"]
    inside: Bool[np.ndarray, "y x"] | Sequence[Polygon]

    def meets(self, rows: slice, columns: slice, size: tuple[int, int]) -> bool:
        """Whether a window of the image, at that size, has a part of the region in it, or comes
        within a cell of it."""
        part = [
            slice(s.start * n // all_of, -(-s.stop * n // all_of))
            for s, n, all_of in zip((rows, columns), self.cells.shape, size, strict=True)
        ]
        return bool(self.cells[tuple(part)].any())

    def holds(self, instance: Instance, size: tuple[int, int]) -> bool:
        """Whether the middle of an instance's mask, of an image of that size, lies in it."""
        ys, xs = np.nonzero(instance.mask)
        y, x = float(ys.mean()) + instance.top + 0.5, float(xs.mean()) + instance.left + 0.5
        if isinstance(self.inside, np.ndarray):
            h, w = self.inside.shape
            return bool(self.inside[int(y * h / size[0]), int(x * w / size[1])])
        return any(_within(rings, x, y) for rings in self.inside)

    def rows(self, rows: slice, size: tuple[int, int]) -> Bool[np.ndarray, "_ w"]:
        """Which pixels of some rows of an image of that size lie in it."""
        if isinstance(self.inside, np.ndarray):
            (h, w), (height, width) = self.inside.shape, size
            ys = np.arange(rows.start, rows.stop) * h // height
            return self.inside[ys][:, np.arange(width) * w // width]
        inside = np.zeros((rows.stop - rows.start, size[1]), bool)
        for rings in self.inside:
            inside |= inside_rings([ring - (0, rows.start) for ring in rings], *inside.shape)
        return inside


def read_interest(file: Path, size: tuple[int, int], on_map: OnMap | None) -> Interest:
    """The region of a file in an image of that height and width: a GeoJSON in pixels of the image,
    or with a `crs` in coordinates of its map; or a picture whose pixels above 0 are the region.

    Raises ValueError for a file that is neither, or is not of this image.
    """
    if file.suffix.lower() in (".geojson", ".json"):
        polygons = _polygons(file, size, on_map)
        return Interest(_cells(polygons, size), polygons)
    try:
        # the mask is no image of the run: its channels and ranges are not the run's
        mask = np.asarray((read_original(file, reading=Reading()).pixels > 0).any(2))
    except ImageError as error:
        raise ValueError(f"--region {error}; give a .geojson, or a mask as a picture") from None
    if abs(mask.shape[0] * size[1] / (mask.shape[1] * size[0]) - 1) > 0.02:
        raise ValueError(
            f"--region {file} has {mask.shape[1]} x {mask.shape[0]} pixels and the image {size[1]} "
            f"x {size[0]}: a mask may be smaller, and needs the image's proportions"
        )
    most = max(1, -(-max(mask.shape) // COARSE))
    padded = np.pad(mask, [(0, -n % most) for n in mask.shape])
    cells = padded.reshape(padded.shape[0] // most, most, -1, most).any((1, 3))
    return Interest(_wider(np.asarray(cells)), mask)


def _polygons(file: Path, size: tuple[int, int], on_map: OnMap | None) -> list[Polygon]:
    """Polygons in pixels of the image."""
    try:
        content = json.loads(file.read_bytes())
        features = content if isinstance(content, list) else content.get("features", [content])
        shapes = [shape for f in features if (shape := f.get("geometry", f))]
        polygons = [
            tuple(np.array(ring, float)[:, :2] for ring in rings)
            for shape in shapes
            for rings in _rings(shape)
        ]
    except (OSError, ValueError, AttributeError, TypeError, KeyError, IndexError) as error:
        raise ValueError(f"--region {file} is no GeoJSON of polygons: {error}") from None
    if not polygons:
        raise ValueError(f"--region {file} holds no polygon; draw the region as one")
    crs = content.get("crs") if isinstance(content, dict) else None
    if crs is None:
        _refuse_outside(polygons, size, file)
        return polygons
    if on_map is None:
        raise ValueError(
            f"--region {file} is in coordinates of a map, and the image does not say where it lies "
            "on one; give a region in pixels"
        )
    if (number := epsg_of(crs)) != on_map.epsg:
        raise ValueError(
            f"--region {file} is in EPSG:{number or '?'}, the image in EPSG:{on_map.epsg or '?'}; "
            "reproject the region, as ogr2ogr -t_srs does"
        )
    return on_map.inward(polygons)


def _refuse_outside(polygons: Sequence[Polygon], size: tuple[int, int], file: Path) -> None:
    """Raise ValueError for polygons in pixels that lie wholly outside of an image."""
    corners = np.concatenate([outer for outer, *_ in polygons])
    low, high = corners.min(0), corners.max(0)
    if (high < 0).any() or (low > size[::-1]).any():
        raise ValueError(
            f"--region {file} lies from {low[0]:g},{low[1]:g} to {high[0]:g},{high[1]:g}, outside "
            f"of an image of {size[1]} x {size[0]} pixels; one in coordinates of a map says so by "
            'a member "crs", as QGIS and ogr2ogr -lco RFC7946=NO write it'
        )


def epsg_of(crs: Any) -> int | None:
    """The number of a GeoJSON's `crs`; None where it is not said by one."""
    name = str(crs.get("properties", {}).get("name", "")) if isinstance(crs, Mapping) else ""
    if name == LONGITUDE_FIRST:
        return WGS84
    number = name.rpartition(":")[2]
    return int(number) if "EPSG" in name and number.isdecimal() else None


def _rings(shape: Mapping[str, Any]) -> list[list[Any]]:
    match shape["type"]:
        case "Polygon":
            return [shape["coordinates"]]
        case "MultiPolygon":
            return list(shape["coordinates"])
        case "GeometryCollection":
            return [rings for part in shape["geometries"] for rings in _rings(part)]
    return []


def _cells(polygons: Sequence[Polygon], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """A coarse grid over the image: cells that a polygon meets, and those beside them."""
    scale = min(1.0, COARSE / max(size))
    grid = np.zeros([max(1, round(n * scale)) for n in size], np.uint8)
    for outer, *_ in polygons:  # a hole hides little, and costs a few tiles at most
        corners = np.clip(np.round(outer * scale), -(2**20), 2**20).astype(np.int32)
        cv2.fillPoly(grid, [corners.reshape(-1, 1, 2)], 1)
    return _wider(grid.astype(bool))


def _wider(cells: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    return np.asarray(cv2.dilate(cells.astype(np.uint8), np.ones((3, 3), np.uint8))).astype(bool)


def _within(rings: Polygon, x: float, y: float) -> bool:
    """Whether a point lies in a polygon: an odd number of edges to its left."""
    inside = False
    for ring in rings:
        x0, y0 = ring.T
        x1, y1 = np.roll(ring, -1, 0).T
        crosses = (y0 <= y) != (y1 <= y)
        at = x0[crosses] + (y - y0[crosses]) / (y1 - y0)[crosses] * (x1 - x0)[crosses]
        inside ^= bool((at < x).sum() % 2)
    return inside
