"""Measure instances: a table with a row for each, and one with a row for each image."""

import itertools
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from genseg.core.check import above
from genseg.core.result import Result
from genseg.core.tables import Table, Value, check_table
from genseg.core.words import amount
from genseg.data.instances.instance import Instance
from genseg.data.labels.annotated import Usable
from genseg.data.labels.entries import Entry
from genseg.data.labels.findings import format_findings
from genseg.measure.regions import intensities, shape_of
from genseg.nn.kept_reading import reads_as
from genseg.workflows.labels.found import categories_of, read_found
from genseg.workflows.labels.parts import SQUARE, Measurable, Part, parts_of

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

    Images are read square by square, with all of their channels, unless `reading` names some,
    with the pages that `found` is of, and the values of the file. Memory grows with the instances
    of `found`, and with the largest of them, and not with the images.
    Raises CocoError or ValueError for what a user can mend.
    """
    check_table(out)
    if pixel_size is not None:
        above(0, pixel_size=pixel_size)
    usable = read_found(found, images, score=score)
    image_table = out.with_name(f"{out.stem}-images{out.suffix}")
    work = _Work(usable, None if pixel_size is None else (pixel_size, pixel_size))
    with Table(out) as rows, Table(image_table) as image_rows:
        work.measure(rows, image_rows)
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
    """The rows of both tables, part by part of the images, and what is counted on the way."""

    def __init__(self, usable: Usable, micrometres: Pair | None) -> None:
        self.usable, self.micrometres = usable, micrometres
        self.names = dict(categories_of(usable))
        self.areas, self.values, self.counts = array("d"), array("d"), array("d")
        self.broken = list[str]()
        self.soft = self.sized = self.before = 0
        self.channel = ""

    def measure(self, rows: Table, image_rows: Table) -> None:
        """Add the rows of all images."""
        by_image = itertools.groupby(parts_of(self.usable), key=lambda part: part.entry.number)
        for number, parts in by_image:
            self._add_image(self.usable.entries[number], parts, rows, image_rows)

    def _add_image(
        self, entry: Entry, parts: Iterator[Part], rows: Table, image_rows: Table
    ) -> None:
        """The rows of an image: its instances come in the order of their labels, as columns do."""
        count = len(self.usable.labels[entry.number])
        areas, values = np.zeros(count), np.full(count, np.nan)
        covered, wrong = _Covered(entry.width), ""
        size: Pair | None = None
        for part in parts:
            size, wrong = self.micrometres or part.pixel_size, wrong or part.wrong
            if part.values is not None:
                self.channel = self.channel or part.values.channels[0]
            covered.begin(part.row * SQUARE)
            for m in part.found:
                covered.add(m.instance)
                row, value = self._row(part, m, size)
                areas[m.place], values[m.place] = m.instance.area, value
                rows.add(row, self.before + m.place)
        if wrong:
            self.broken.append(wrong)
        self.sized += size is not None
        self.before += count
        there = areas > 0
        self.areas.extend(areas[there])
        self.values.extend(values[there])
        self.counts.append(int(there.sum()))
        image_rows.add(_image_row(entry, areas[there], covered.pixels, size))

    def _row(self, part: Part, m: Measurable, size: Pair | None) -> tuple[Row, float]:
        """The row of an instance, and its mean in the first channel."""
        entry, label = part.entry, m.label
        row: Row = {
            "image": entry.title,
            "id": label.number,
            "category": self.names.get(label.category, str(label.category)),
            "score": label.score if label.record.get("score") is not None else None,
            **shape_of(m.instance, entry.height, entry.width, size),
        }
        if part.values is None:
            return row, np.nan
        self.soft += m.soft is not None
        x, channels, absent = part.values.pixels, part.values.channels, part.values.absent
        soft = None if m.soft is None else part.moved(m.soft)
        found = intensities(part.moved(m.instance), x, channels, soft, absent)
        value = found[f"{channels[0]}_mean"]
        return row | found, np.nan if value is None else value

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


class _Covered:
    """How many pixels some masks cover, each counted once. They come by rows of squares, of which
    those that are held are as many as a mask is high."""

    def __init__(self, width: int) -> None:
        self.width, self._done = width, 0
        self._bands: dict[int, Bool[np.ndarray, "h w"]] = {}

    @property
    def pixels(self) -> int:
        return self._done + sum(int(band.sum()) for band in self._bands.values())

    def begin(self, top: int) -> None:
        """No mask that comes from now on reaches above a row of pixels."""
        for n in [n for n in self._bands if (n + 1) * SQUARE <= top]:
            self._done += int(self._bands.pop(n).sum())

    def add(self, instance: Instance) -> None:
        """A further mask."""
        mask, (rows, columns) = instance.mask, instance.window
        for n in range(rows.start // SQUARE, -(-rows.stop // SQUARE)):
            band = self._bands.setdefault(n, np.zeros((SQUARE, self.width), bool))
            a, b = max(rows.start, n * SQUARE), min(rows.stop, (n + 1) * SQUARE)
            part = mask[a - rows.start : b - rows.start]
            band[a - n * SQUARE : b - n * SQUARE, columns] |= part


def _image_row(entry: Entry, areas: Float[np.ndarray, "n"], covered: int, size: Pair | None) -> Row:
    """covered: pixels that an instance covers, each counted once."""
    count = int(areas.size)
    pixels = entry.height * entry.width
    return {
        "image": entry.title,
        "width": entry.width,
        "height": entry.height,
        "instances": count,
        "density_per_megapixel": count * 1e6 / pixels,
        "density_per_mm2": count * 1e6 / (pixels * size[0] * size[1]) if size else None,
        "area_share": covered / pixels,
        "mean_area_px": float(np.mean(areas)) if count else None,
        "median_area_px": float(np.median(areas)) if count else None,
    }
