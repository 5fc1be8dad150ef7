"""ImageJ's regions of interest, as its ROI manager saves and opens them (by roifile)."""

import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import roifile

from genseg.data.images.coco_files import CocoError
from genseg.data.images.decode import reason_of
from genseg.data.instances.outline import Drawn, Polygon

NAME = re.compile(r"(.*?) ?#(\d+)")  # cell #42
FURTHEST = 32_000  # pixels that ImageJ's coordinates reach with certainty
SHAPES = ("POLYGON", "RECT", "OVAL", "FREEHAND", "TRACED")  # regions with an area


def region(polygons: Sequence[Polygon], *, number: int, category: str) -> roifile.ImagejRoi:
    """An instance as a region: traced, or composite where it has holes or pieces. Its name has the
    class and the number of the annotation.

    Raises ValueError for an image that is too large for ImageJ's coordinates.
    """
    rings = [ring for polygon in polygons for ring in polygon]
    corners = np.concatenate(rings)
    if corners.max() > FURTHEST:
        raise ValueError(
            f"ImageJ's regions reach {FURTHEST:,} pixels, and an instance lies at "
            f"{corners.max():,.0f}; cut the image into tiles"
        )
    name = f"{category} #{number}"
    if len(rings) == 1:
        roi = roifile.ImagejRoi.frompoints(rings[0].astype(np.int32), name=name)
        roi.roitype = roifile.ROI_TYPE.TRACED
        roi.right, roi.bottom = (int(v) for v in rings[0].max(0))
        return roi
    roi = roifile.ImagejRoi()
    roi.roitype, roi.name = roifile.ROI_TYPE.RECT, name
    roi.left, roi.top = (int(v) for v in corners.min(0))
    roi.right, roi.bottom = (int(v) for v in corners.max(0))
    path = [_path(ring) for ring in rings]
    roi.multi_coordinates = np.concatenate(path).astype(np.float32)
    roi.shape_roi_size = len(roi.multi_coordinates)
    return roi


def _path(ring: np.ndarray) -> np.ndarray:
    """Java's path of a ring: move to (0) the first point, line to (1) each other, close (4)."""
    steps = np.column_stack([np.arange(len(ring)) > 0, ring])
    return np.append(steps.ravel(), 4)


def packed(regions: Sequence[roifile.ImagejRoi]) -> bytes:
    """A zip as the ROI manager opens it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for n, roi in enumerate(regions, start=1):
            archive.writestr(f"{n:06d}-{roi.name.replace('/', '_')}.roi", roi.tobytes())
    return content.getvalue()


def drawn_regions(file: Path) -> tuple[list[Drawn], int]:
    """The regions of a .roi, or of a .zip of them, that have an area; and how many have none:
    points, lines. Raises CocoError for a file that cannot be read."""
    try:
        read = roifile.roiread(file)
        regions = read if isinstance(read, list) else [read]
        areas = [roi for roi in regions if roi.roitype.name in SHAPES]
        return [_drawn(roi) for roi in areas], len(regions) - len(areas)
    except Exception as error:  # damaged files make roifile and zipfile raise nearly anything
        raise CocoError(f"{file} cannot be read as ImageJ's regions: {reason_of(error)}") from None


def _drawn(roi: roifile.ImagejRoi) -> Drawn:
    rings = [np.array(ring, float) for ring in roi.coordinates(multi=True)]
    rings = [r[:-1] if len(r) > 1 and (r[0] == r[-1]).all() else r for r in rings]
    named = NAME.fullmatch(roi.name)
    category, number = named.groups() if named else ("", None)
    return Drawn([tuple(rings)], category, None if number is None else int(number))
