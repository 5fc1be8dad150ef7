"""Where the pixels of a GeoTIFF lie on a map, by the tags of the file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from jaxtyping import Float

from genseg.data.images.decode import TIFFS
from genseg.data.instances.label_image import resolution_of
from genseg.data.instances.outline import Polygon

POINT = 2  # of GTRasterTypeGeoKey: coordinates are those of the middles of pixels
PROJECTED, GEOGRAPHIC = 1, 2  # of GTModelTypeGeoKey
OWN = 32767  # a code that stands for a definition of the file's own
METRE = 9001  # of ProjLinearUnitsGeoKey
WGS84 = 4326
LONGITUDE_FIRST = "urn:ogc:def:crs:OGC:1.3:CRS84"  # WGS 84, with axes as GeoJSON has them


@dataclass(frozen=True)
class OnMap:
    """An affine map from pixels to coordinates of a coordinate reference system.

    matrix: x and y = matrix @ (column, row, 1); a pixel (y, x) is the square from (x, y) to
        (x + 1, y + 1)
    epsg: the system's number, 0 where it has none; metres: its unit is the metre
    """

    matrix: Float[np.ndarray, "2 3"]
    epsg: int
    metres: bool = False

    @property
    def steps(self) -> tuple[float, float]:
        """How far it is from a pixel to the next one, down and across, in units of the map."""
        across, down = np.linalg.norm(self.matrix[:, :2], axis=0).tolist()
        return down, across

    @property
    def crs(self) -> dict[str, Any]:
        """The member of a GeoJSON, as GDAL and QGIS write it."""
        name = LONGITUDE_FIRST if self.epsg == WGS84 else f"urn:ogc:def:crs:EPSG::{self.epsg}"
        return {"type": "name", "properties": {"name": name}}

    def outward(self, polygons: Sequence[Polygon]) -> list[Polygon]:
        """From pixels to coordinates of the map. Outer rings, clockwise as seen on the image, run
        against the clock on the map, as GeoJSON wants them (RFC 7946, 3.1.6)."""
        turn, shift = self.matrix[:, :2].T, self.matrix[:, 2]
        return [tuple((r @ turn + shift)[:: self._way] for r in rings) for rings in polygons]

    def inward(self, polygons: Sequence[Polygon]) -> list[Polygon]:
        """And back, to a millionth of a pixel, which hides what decimal numbers lose."""
        turn = np.linalg.inv(self.matrix[:, :2]).T
        shift = self.matrix[:, 2]
        return [
            tuple(np.round((r - shift) @ turn, 6)[:: self._way] for r in rings)
            for rings in polygons
        ]

    @property
    def _way(self) -> int:
        """-1 where what runs against the clock as numbers of pixels runs with it on the map."""
        return -1 if np.linalg.det(self.matrix[:, :2]) < 0 else 1


def on_map(path: Path) -> OnMap | None:
    """Where the image of a file lies, as `mapping_in` says, for what is written there. Raises
    ValueError for what no affine map or no EPSG number describes."""
    mapping, ties = _said(path)
    if ties:
        raise ValueError(
            f"{path} lies on the map by {ties} tie points alone, which is no affine map; gdalwarp "
            "makes one, and --offset 0,0 stays with pixels"
        )
    if mapping is not None and not mapping.epsg:
        raise ValueError(
            f"{path}: its coordinate reference system has no EPSG number; gdal_translate -a_srs "
            "EPSG:N gives it one, and --offset 0,0 stays with pixels"
        )
    return mapping


def mapping_in(path: Path) -> OnMap | None:
    """Where the image of a file lies, in a system with a number or without; None for a file that
    does not say it."""
    return _said(path)[0]


def pixel_size(path: Path) -> tuple[float, float] | None:
    """Micrometres of a pixel of an image's file, down and across, as `pixel_size_on` says."""
    return pixel_size_on(mapping_in(path), path)


def pixel_size_on(mapping: OnMap | None, path: Path) -> tuple[float, float] | None:
    """Micrometres of a pixel, down and across: of a map in metres; of an image that lies on none as
    its file's resolution says. None: not known."""
    if mapping is not None:  # the resolution of a GeoTIFF is that of a print
        return (1e6 * mapping.steps[0], 1e6 * mapping.steps[1]) if mapping.metres else None
    resolution = resolution_of(path)
    return None if resolution is None else resolution.micrometres


def _said(path: Path) -> tuple[OnMap | None, int]:
    """Where the image of a file lies; and how many tie points say so, where nothing else does."""
    if path.suffix.lower() not in TIFFS or not path.is_file():
        return None, 0
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            mapping = mapping_of(page)
            ties = page.tags.valueof("ModelTiepointTag", ())
            scaled = page.tags.valueof("ModelPixelScaleTag") is not None
    except tifffile.TiffFileError:
        return None, 0
    return mapping, 0 if scaled or mapping is not None else np.size(ties) // 6


def mapping_of(page: tifffile.TiffPage) -> OnMap | None:
    """Where a page lies; None where its tags say no affine map, or are damaged."""
    try:
        tags = (page.geotiff_tags or {}) if page.is_geotiff else {}
    except Exception:  # of damaged tags tifffile makes nearly any error
        return None
    matrix = _matrix(tags)
    if matrix is None:
        return None
    kind = int(tags.get("GTModelTypeGeoKey", 0))
    names = {PROJECTED: "ProjectedCSTypeGeoKey", GEOGRAPHIC: "GeographicTypeGeoKey"}
    number = int(tags.get(names.get(kind, ""), OWN))
    if int(tags.get("GTRasterTypeGeoKey", 1)) == POINT:
        matrix[:, 2] -= matrix[:, :2].sum(1) / 2
    unit = int(tags.get("ProjLinearUnitsGeoKey", METRE))
    return OnMap(matrix, 0 if number == OWN else number, kind == PROJECTED and unit == METRE)


def _matrix(tags: dict[str, Any]) -> Float[np.ndarray, "2 3"] | None:
    """The affine map of the tags, before a pixel's middle counts; None without any, and where the
    tags have not their number of values."""
    whole, ties, scale = (
        np.ravel(np.array(tags.get(f"Model{name}", ()), float))
        for name in ("Transformation", "Tiepoint", "PixelScale")
    )
    if len(whole) == 16:
        return whole.reshape(4, 4)[:2][:, [0, 1, 3]].copy()
    if len(ties) < 6 or len(scale) < 2:
        return None
    across, down = scale[:2].tolist()
    column, row, _, x, y, _ = ties[:6].tolist()
    return np.array([[across, 0, x - column * across], [0, -down, y + row * down]])
