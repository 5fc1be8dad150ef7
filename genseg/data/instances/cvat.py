"""CVAT's own xml, "CVAT for images 1.1": polygons, boxes, ellipses and brush masks."""

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from genseg.data.images.coco_files import CocoError
from genseg.data.instances.instance import OPAQUE, Instance
from genseg.data.instances.outline import Drawn, Polygon

CORNERS = 64  # of the polygon that stands for an ellipse
Attributes = Mapping[str, str]


@dataclass(frozen=True)
class DrawnImage:
    """An image as CVAT has it. others: how many shapes without an area it has"""

    name: str
    height: int
    width: int
    drawn: tuple[Drawn, ...]
    others: int


def drawn_images(file: io.BufferedIOBase, source: str) -> Iterator[DrawnImage]:
    """The images of an annotations.xml, one after the other. Shapes of one group are one object; an
    attribute `id` is the number that it had before.

    Raises CocoError, with `source`, for what is no such file.
    """
    try:
        for _, element in ElementTree.iterparse(file):
            if element.tag == "image":
                yield _image(element)
                element.clear()  # its shapes, or a large file would stay in memory
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise CocoError(f"{source} cannot be read as CVAT's xml: {error!r}") from None


def _image(element: ElementTree.Element) -> DrawnImage:
    groups: dict[object, list[tuple[ElementTree.Element, Polygon | Instance]]] = {}
    others = 0
    for n, shape in enumerate(element):
        if shape.tag in SHAPES:
            group = shape.get("group_id") or "0"
            key = n if group == "0" else (group, shape.get("label"))
            groups.setdefault(key, []).append((shape, SHAPES[shape.tag](shape.attrib)))
        else:
            others += shape.tag in ("polyline", "points", "cuboid", "skeleton")
    height, width = int(element.attrib["height"]), int(element.attrib["width"])
    drawn = tuple(_joined(members, height, width) for members in groups.values())
    return DrawnImage(element.attrib["name"], height, width, drawn, others)


def _joined(
    members: list[tuple[ElementTree.Element, Polygon | Instance]], height: int, width: int
) -> Drawn:
    """The shapes of one object."""
    first = members[0][0]
    said = next((a.text for a in first.iter("attribute") if a.get("name") == "id"), None)
    number = int(said) if said and said.strip().isdecimal() else None
    shapes = [shape for _, shape in members]
    label = first.get("label") or ""
    if len(shapes) == 1 and isinstance(shapes[0], Instance):
        return Drawn(shapes[0], label, number)
    polygons = [s for s in shapes if not isinstance(s, Instance)]
    if len(polygons) == len(shapes):
        return Drawn(polygons, label, number)
    whole = np.zeros((height, width), np.uint8)
    for shape in shapes:
        one = Drawn(shape if isinstance(shape, Instance) else [shape]).instance(height, width)
        if one is not None:
            whole[one.window][one.mask] = OPAQUE
    return Drawn(Instance(whole, 0, 0), label, number)


def _polygon(a: Attributes) -> Polygon:
    return (np.array([[float(v) for v in p.split(",")] for p in a["points"].split(";")]),)


def _box(a: Attributes) -> Polygon:
    left, top, right, bottom = (float(a[k]) for k in ("xtl", "ytl", "xbr", "ybr"))
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return (_turned(corners, (corners[0] + corners[2]) / 2, float(a.get("rotation", 0))),)


def _ellipse(a: Attributes) -> Polygon:
    middle = np.array([float(a["cx"]), float(a["cy"])])
    angle = np.arange(CORNERS) * (2 * np.pi / CORNERS)
    radii = np.array([float(a["rx"]), float(a["ry"])])
    points = middle + radii * np.stack([np.cos(angle), np.sin(angle)], 1)
    return (_turned(points, middle, float(a.get("rotation", 0))),)


def _turned(points: np.ndarray, middle: np.ndarray, degrees: float) -> np.ndarray:
    """Points turned around a middle, clockwise as seen."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return middle + (points - middle) @ np.array([[c, s], [-s, c]])


def _mask(a: Attributes) -> Instance:
    """Runs of outside and inside in turn, row by row of the mask's own box."""
    left, top, width, height = (int(float(a[k])) for k in ("left", "top", "width", "height"))
    runs = [int(n) for n in a["rle"].split(",")]
    if sum(runs) != width * height or min(runs) < 0:
        raise ValueError(f"a mask's runs do not fill its {width} x {height} pixels")
    values = np.repeat(np.arange(len(runs)) % 2 * OPAQUE, runs).astype(np.uint8)
    return Instance(values.reshape(height, width), top, left)


SHAPES: dict[str, Callable[[Attributes], Polygon | Instance]] = {
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
}
