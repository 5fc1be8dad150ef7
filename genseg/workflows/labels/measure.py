"""Measure instances: a table with a row for each, and one with a row for each image."""

from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from genseg.core.check import above
from genseg.core.reading import Reading, current
from genseg.core.result import Result
from genseg.core.tables import Table, Value, check_table
from genseg.core.threads import in_order
from genseg.core.words import amount
from genseg.data.images.original import Original, read_original
from genseg.data.images.source import ImageError
from genseg.data.instances.instance import Instance
from genseg.data.instances.label_image import resolution_of
from genseg.data.labels.annotated import Usable, instance_of
from genseg.data.labels.entries import Entry
from genseg.data.labels.findings import format_findings
from genseg.data.labels.preflight import Label
from genseg.measure.regions import intensities, shape_of
from genseg.nn.kept_reading import reads_as
from genseg.workflows.labels.found import alpha_of, categories_of, read_found

Row = dict[str, Value]
Pair = tuple[float, float]


@dataclass(frozen=True)
class Measured(Result):
    """Two tables, and what their page shows.

    table, image_table: a row for each instance, and for each image
    images, instances: how many; soft: of so many instances the alpha map was there
    broken: images whose pixels could not be read, and why: their instances have shapes alone
    areas, values: pixels of each instance, and its mean in `channel`, the first one; nan: not known
    counts: instances of each image
    lines: what was found wrong, and what was not measured
    """

    table: Path
    image_table: Path
    images: int
    instances: int
    soft: int
    broken: tuple[str, ...]
    areas: Float[np.ndarray, "n"]
    values: Float[np.ndarray, "n"]
    counts: Float[np.ndarray, "i"]
    channel: str
    lines: tuple[str, ...]

    def text(self) -> str:
        said = f"{amount(self.instances, 'instance')} in {amount(self.images, 'image')}"
        return "\n".join((f"{self.table}: {said}; images: {self.image_table}", *self.lines))


@reads_as("found")
def measure(
    found: Path,
    out: Path,
    *,
    images: Path | None = None,
    score: float = 0.0,
    pixel_size: float | None = None,
) -> Measured:
    """Write `out`, .csv or .parquet: a row for each instance of a folder of genseg generate or
    predict, or of a COCO json. A table beside it, with -images behind its name, has the images.

    images: their folder; None: as the result or the json names it
    score: instances that score less are left out
    pixel_size: micrometres of a pixel's side; None: as each file says

    Images are read one after the other, with all of their channels, unless `reading` names some,
    with the pages that `found` is of, and the values of the file.
    Raises CocoError or ValueError for what a user can mend.
    """
    check_table(out)
    if pixel_size is not None:
        above(0, pixel_size=pixel_size)
    usable = read_found(found, images, score=score)
    image_table = out.with_name(f"{out.stem}-images{out.suffix}")
    work = _Work(usable, None if pixel_size is None else (pixel_size, pixel_size))
    with Table(out) as rows, Table(image_table) as image_rows:
        for of_instances, of_image in work.rows():
            for row in of_instances:
                rows.add(row)
            image_rows.add(of_image)
        if work.broken and len(work.broken) == len(usable.entries):
            raise ValueError(
                f"none of {amount(len(work.broken), 'image')} can be read, the first: "
                f"{work.broken[0]}; give their folder by --images"
            )
    return Measured(
        table=out,
        image_table=image_table,
        images=len(usable.entries),
        instances=len(work.areas),
        soft=work.soft,
        broken=tuple(work.broken),
        areas=np.array(work.areas, float),
        values=np.array(work.values, float),
        counts=np.array(work.counts, float),
        channel=work.channel,
        lines=tuple(work.lines()),
    )


class _Work:
    """The rows of both tables, image by image, and what is counted on the way."""

    def __init__(self, usable: Usable, micrometres: Pair | None) -> None:
        self.usable, self.micrometres = usable, micrometres
        self.names = dict(categories_of(usable))
        self.areas, self.values, self.counts = array("d"), array("d"), array("d")
        self.broken = list[str]()
        self.soft = self.sized = 0
        self.channel = ""

    def rows(self) -> Iterator[tuple[list[Row], Row]]:
        """Of each image: the rows of its instances, and its own."""
        entries = list(self.usable.entries.values())
        with ThreadPoolExecutor(1) as reading:  # the next image, while the last is measured
            for entry, read in zip(
                entries, in_order(reading, _read, entries, ahead=1), strict=True
            ):
                yield self._measured(entry, *read)

    def _measured(
        self, entry: Entry, original: Original | str, stated: Pair | None
    ) -> tuple[list[Row], Row]:
        if isinstance(original, str):
            self.broken.append(original)
        else:
            self.channel = self.channel or original.channels[0]
        size = self.micrometres or stated
        self.sized += size is not None
        covered = np.zeros((entry.height, entry.width), bool)
        rows = []
        for label in self.usable.labels[entry.number]:
            instance = instance_of(label, entry)
            if not label.crowd and instance.area:
                covered[instance.window] |= instance.mask
                rows.append(self._row(entry, label, instance, original, size))
        self.counts.append(len(rows))
        return rows, _image_row(entry, rows, float(covered.mean()), size)

    def _row(
        self,
        entry: Entry,
        label: Label,
        instance: Instance,
        original: Original | str,
        size: Pair | None,
    ) -> Row:
        row: Row = {
            "image": entry.title,
            "id": label.number,
            "category": self.names.get(label.category, str(label.category)),
            "score": label.score if label.record.get("score") is not None else None,
            **shape_of(instance, entry.height, entry.width, size),
        }
        value: float | None = None
        if not isinstance(original, str):
            soft = alpha_of(self.usable, entry, label, instance)
            self.soft += soft is not None
            x, absent = original.pixels, original.absent
            found = intensities(instance, x, original.channels, soft, absent)
            value = found[f"{original.channels[0]}_mean"]
            row |= found
        self.areas.append(float(instance.area))
        self.values.append(np.nan if value is None else value)
        return row

    def lines(self) -> Iterator[str]:
        """What a reader of the tables has to know."""
        images = len(self.usable.entries)
        if self.broken:
            yield (
                f"{amount(len(self.broken), 'image')} cannot be read, so there are shapes alone, "
                f"the first: {self.broken[0]}"
            )
        if self.sized < images:
            yield (
                f"note: of {amount(images - self.sized, 'image')} the size of a pixel is not "
                "known, so there are no micrometres; give --pixel-size"
            )
        if not self.usable.outlined:
            yield "note: there are no masks, so all measures are those of the boxes"
        if crowds := sum(x.crowd for labels in self.usable.labels.values() for x in labels):
            yield f"note: {amount(crowds, 'crowd')} left out, which are no single instances"
        if self.usable.lost:
            yield format_findings(self.usable.lost)


def _read(entry: Entry) -> tuple[Original | str, Pair | None]:
    """The pixels of an image, or why there are none; and the micrometres of one."""
    try:
        every = not current(Reading()).channels  # of those that the found keep the pages alone
        original = read_original(entry.path, image=entry.page, every=every)
    except ImageError as error:
        return str(error), None
    shape = original.pixels.shape[:2]
    if shape != (entry.height, entry.width):
        return (
            f"{entry.path} has {shape[1]} x {shape[0]} pixels, the json {entry.width} x "
            f"{entry.height}"
        ), None
    resolution = resolution_of(entry.path)
    return original, None if resolution is None else resolution.micrometres


def _image_row(entry: Entry, rows: list[Row], share: float, size: Pair | None) -> Row:
    """area_share: of the pixels that an instance covers, each counted once."""
    areas = [float(row["area_px"] or 0) for row in rows]
    pixels = entry.height * entry.width
    return {
        "image": entry.title,
        "width": entry.width,
        "height": entry.height,
        "instances": len(rows),
        "density_per_megapixel": len(rows) * 1e6 / pixels,
        "density_per_mm2": len(rows) * 1e6 / (pixels * size[0] * size[1]) if size else None,
        "area_share": share,
        "mean_area_px": float(np.mean(areas)) if areas else None,
        "median_area_px": float(np.median(areas)) if areas else None,
    }
