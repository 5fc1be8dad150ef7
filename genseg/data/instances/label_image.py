"""Label images, as Cellpose, StarDist, Fiji and napari have them: a number for each instance, 0 for
background."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from jaxtyping import Int, Shaped
from PIL import Image
from scipy.ndimage import find_objects, label

from genseg.data.images.coco_files import CocoError
from genseg.data.images.decode import TIFFS, reason_of
from genseg.data.instances.instance import OPAQUE, Instance

SUFFIXES = (*TIFFS, ".png")
# of a file's name behind that of its image
ENDINGS = ("", "_masks", "_cp_masks", "_mask", "_labels", "_label")
# of the units that ImageJ writes
MICROMETRES = {
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "\\u00B5m"), 1.0),
    **{"nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25_400.0, "in": 25_400.0},
}
COARSE = 10.0  # micrometres of a pixel that is printed at 2540 per inch, which no printer does
MOST = 2**16 - 1  # instances that 16 bits can tell apart


@dataclass(frozen=True)
class LabelImage:
    """numbers: the instance of each pixel; pages: of the file, of which the first is read."""

    numbers: Int[np.ndarray, "h w"]
    pages: int = 1

    @property
    def binary(self) -> bool:
        """Whether it looks like a mask: one value in several pieces, so instances that touch
        nowhere are one."""
        values = np.unique(self.numbers)
        return values[values != 0].size == 1 and label(self.numbers != 0)[1] > 1


def label_file(folder: Path, image: str) -> Path | None:
    """The label image of an image, which is named relative to its own folder; None where there is
    none.

    `leaf.png.tif` comes before `leaf.tif`: it belongs to `leaf.png` alone.
    """
    whole = folder / image
    own = (whole.with_name(whole.name + suffix) for suffix in SUFFIXES)
    shared = (
        whole.with_name(f"{whole.stem}{end}{suffix}") for end in ENDINGS for suffix in SUFFIXES
    )
    return next((place for place in (*own, *shared) if place.is_file()), None)


def read_label_image(path: Path) -> LabelImage:
    """The number of the instance of each pixel, as the file stores it: a display that inverts
    (white is zero) changes none. Raises CocoError for a file that is no label image."""
    try:
        values, pages = _tiff(path) if path.suffix.lower() != ".png" else (_png(path), 1)
    except CocoError:
        raise
    except Exception as error:  # damaged files make PIL and tifffile raise nearly anything
        raise CocoError(f"{path} cannot be read: {reason_of(error)}") from None
    if values.ndim != 2:
        raise CocoError(
            f"{path}: a label image is grey, each value an instance; got {values.shape[-1]} "
            "channels"
        )
    if values.dtype.kind == "f":
        odd = values[~np.isfinite(values) | (values != np.rint(values))]
        if odd.size:
            raise CocoError(
                f"{path}: it holds {odd[0]:g}, and a label image whole numbers, each value an "
                "instance; save the labels and not their probabilities, as "
                "labels.astype('uint16')"
            )
    least, most = (values.min(), values.max()) if values.size else (0, 0)
    if float(least) < 0:
        raise CocoError(f"{path}: it holds {least:g}; instances are 1, 2, ..., and 0 is background")
    if float(most) >= 2**63:
        raise CocoError(f"{path}: it holds {most:g}; number the instances from 1 on")
    return LabelImage(values.astype(np.int64), pages)


def _tiff(path: Path) -> tuple[Shaped[np.ndarray, "*shape"], int]:
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        if page.samplesperpixel > 1:
            raise CocoError(
                f"{path}: a label image is grey, each value an instance; got "
                f"{page.samplesperpixel} channels"
            )
        return page.asarray(), len(file.pages)


def _png(path: Path) -> Shaped[np.ndarray, "*shape"]:
    with Image.open(path) as image:
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
            raise CocoError(
                f"{path}: a label image is grey, each value an instance; got {image.mode}"
            )
        return np.asarray(image)


def instances_of(numbers: Int[np.ndarray, "h w"]) -> list[Instance]:
    """The instances of a label image, in the order of their numbers, which may have gaps."""
    values, dense = np.unique(numbers, return_inverse=True)
    # find_objects has an entry for each number
    dense = dense.reshape(numbers.shape) + (values[0] != 0)
    windows = enumerate(find_objects(dense), start=1)
    return [
        Instance((dense[w] == n).astype(np.uint8) * OPAQUE, w[0].start, w[1].start)
        for n, w in windows
    ]


@dataclass(frozen=True)
class Resolution:
    """Pixels per unit, across and down, in TIFF's terms; description: names the unit for ImageJ
    where TIFF has none; physical: OME says it, so it is not of a print."""

    across: float
    down: float
    unit: int  # TIFF's ResolutionUnit: 1 none, 2 inch, 3 centimetre
    description: str = ""
    physical: bool = False

    @property
    def micrometres(self) -> tuple[float, float] | None:
        """Of a pixel, down and across, where OME or ImageJ say it; else only below COARSE, since
        larger ones are those of a print."""
        unit = self.description.partition("unit=")[2].strip()
        size = MICROMETRES.get(unit) if unit else {2: 25_400.0, 3: 10_000.0}.get(self.unit)
        if size is None:
            return None
        down, across = size / self.down, size / self.across
        known = self.physical or bool(unit) or max(down, across) < COARSE
        return (down, across) if known else None


def resolution_of(path: Path) -> Resolution | None:
    """The size of the pixels that an image's file states; None where it states none, or cannot be
    read."""
    try:
        if path.suffix.lower() in TIFFS:
            with tifffile.TiffFile(path) as file:
                return _of_tiff(file)
        with Image.open(path) as image:
            across, down = (float(v) for v in image.info["dpi"])
            return _known(across, down, 2)
    except Exception:  # it is a courtesy: the labels are whole without it
        return None


def _of_tiff(file: tifffile.TiffFile) -> Resolution | None:
    tags = file.pages.first.tags
    if file.is_ome and file.ome_metadata:
        elements = ElementTree.fromstring(file.ome_metadata).iter()
        sizes = next((e.attrib for e in elements if e.tag.endswith("Pixels")), {})
        if (across := _by_ome(sizes, "X")) is not None:
            known = _known(across, _by_ome(sizes, "Y") or across, 3)
            return known and replace(known, physical=True)
    pair = [tags.valueof(name) for name in ("XResolution", "YResolution")]
    if None in pair:
        return None
    across, down = (n / d for n, d in pair)
    unit = (file.imagej_metadata or {}).get("unit") if file.is_imagej else None
    return _known(
        across,
        down,
        int(tags.valueof("ResolutionUnit", 2)),
        f"ImageJ=1.11a\nunit={unit}\n" if unit else "",
    )


def _by_ome(sizes: Mapping[str, str], axis: str) -> float | None:
    """Pixels per centimetre, as OME says of an axis; None where it says nothing."""
    size = sizes.get(f"PhysicalSize{axis}")
    unit = MICROMETRES.get(sizes.get(f"PhysicalSize{axis}Unit", "µm"))
    return None if size is None or unit is None else 1e4 / (float(size) * unit)


def _known(across: float, down: float, unit: int, description: str = "") -> Resolution | None:
    sane = all(math.isfinite(v) and v > 0 for v in (across, down)) and (unit != 1 or description)
    return Resolution(across, down, unit, description) if sane else None


def write_label_image(
    path: Path, numbers: Int[np.ndarray, "h w"], resolution: Resolution | None = None
) -> None:
    """A TIFF of 16 bits by deflate, which every reader knows without a further package.

    Raises ValueError for more instances than that can hold.
    """
    if numbers.max(initial=0) > MOST:
        raise ValueError(
            f"{path}: {numbers.max()} instances, and 16 bits tell {MOST} apart; raise --score"
        )
    stated: dict[str, Any] = {}
    if resolution is not None:
        stated = {
            "resolution": (resolution.across, resolution.down),
            "resolutionunit": resolution.unit,
        }
        stated |= {"description": resolution.description} if resolution.description else {}
    content = io.BytesIO()
    tifffile.imwrite(
        content, numbers.astype(np.uint16), compression="zlib", metadata=None, **stated
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())
