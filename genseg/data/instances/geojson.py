"""GeoJSON as QuPath has it: features with a class, measurements and an id, in pixels of a slide."""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genseg.data.images.coco_files import CocoError
from genseg.data.instances.outline import Drawn, Polygon

# of a tile, as QuPath names it: slide [d=2,x=512,y=1024,w=256,h=256].png; d: shrunk so many times
TILE = re.compile(r"\s*\[(?:d=([\d.]+),)?x=(-?\d+),y=(-?\d+),w=\d+,h=\d+[^\]]*\]")
AREAS = ("Polygon", "MultiPolygon")


@dataclass(frozen=True)
class Place:
    """Where an image lies in a slide: its first pixel, and how many of the slide's pixels one of
    its own is."""

    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0

    def outward(self, polygons: Sequence[Polygon]) -> list[Polygon]:
        """From pixels of the image to those of the slide."""
        return [tuple(r * self.scale + (self.x, self.y) for r in rings) for rings in polygons]

    def inward(self, polygons: Sequence[Polygon]) -> list[Polygon]:
        """And back."""
        return [tuple((r - (self.x, self.y)) / self.scale for r in rings) for rings in polygons]


def tile_of(name: str) -> tuple[str, Place] | None:
    """The slide and the place of a tile by its name, as QuPath writes them; None for another."""
    found = TILE.search(name)
    if found is None:
        return None
    scale, x, y = found.groups()
    return name[: found.start()], Place(float(x), float(y), float(scale or 1))


def feature(
    polygons: Sequence[Polygon],
    *,
    number: int,
    category: str,
    colour: tuple[int, int, int],
    measurements: Mapping[str, float],
) -> dict[str, Any]:
    """A detection as QuPath imports it. Its id, a UUID, is the number of the annotation."""
    shapes = [[_closed(ring) for ring in rings] for rings in polygons]
    one = len(shapes) == 1
    return {
        "type": "Feature",
        "id": str(uuid.UUID(int=number)),
        "geometry": {
            "type": "Polygon" if one else "MultiPolygon",
            "coordinates": shapes[0] if one else shapes,
        },
        "properties": {
            "objectType": "detection",
            "name": str(number),
            "classification": {"name": category, "color": list(colour)},
            "measurements": dict(measurements),
        },
    }


def _closed(ring: Any) -> list[list[float | int]]:
    """A ring whose last point is its first, whole numbers as such."""
    points = [*ring.tolist(), ring[0].tolist()]
    return [[int(v) if v == int(v) else v for v in point] for point in points]


def drawn_in(content: Any, source: str) -> tuple[list[Drawn], int]:
    """The areas of a GeoJSON (a collection, a list of features, one feature), in pixels of the
    slide; and how many features are none: points, lines.

    A UUID of `feature` is the number that it was made of. Raises CocoError, with `source`, for what
    is no GeoJSON.
    """
    features = content.get("features", [content]) if isinstance(content, dict) else content
    if not isinstance(features, list):
        raise CocoError(f"{source} is no GeoJSON: it has no list of features")
    found, others = list[Drawn](), 0
    for n, one in enumerate(features):
        geometry = one.get("geometry") if isinstance(one, dict) else None
        if not isinstance(geometry, dict):
            raise CocoError(f"{source}: feature {n} has no geometry")
        if geometry.get("type") not in AREAS:
            others += 1
            continue
        try:
            shapes = geometry["coordinates"]
            shapes = [shapes] if geometry["type"] == "Polygon" else shapes
            polygons = [tuple(_ring(ring) for ring in rings) for rings in shapes]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CocoError(f"{source}: feature {n} has bad coordinates: {error}") from None
        found.append(Drawn(polygons, _category(one.get("properties")), _number(one.get("id"))))
    return found, others


def _ring(points: Any) -> np.ndarray:
    ring = np.array([point[:2] for point in points], float)
    if ring.ndim != 2 or not np.isfinite(ring).all():
        raise ValueError("a ring needs points of two finite numbers")
    return ring[:-1] if len(ring) > 1 and (ring[0] == ring[-1]).all() else ring


def _category(properties: Any) -> str:
    known = properties.get("classification") if isinstance(properties, dict) else None
    if isinstance(known, dict):
        names = known.get("names")  # QuPath writes these for derived classes
        return str(known.get("name") or (": ".join(map(str, names)) if names else ""))
    return known if isinstance(known, str) else ""


def _number(said: Any) -> int | None:
    """The number in an id of `feature`; QuPath's own ids are random, and give none."""
    try:
        number = uuid.UUID(str(said)).int
    except ValueError:
        return None
    return number if number < 2**63 else None
