"""Instances with the values of their image, part by part: an image is read in squares, so that
large ones are never held whole."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from genseg.core.reading import Reading, current
from genseg.core.threads import in_order
from genseg.data.images.original import Original
from genseg.data.images.source import ImageError
from genseg.data.instances.instance import Instance
from genseg.data.labels.annotated import Usable, instance_of
from genseg.data.labels.entries import Entry
from genseg.data.labels.preflight import Label
from genseg.data.regions.originals import Originals, open_originals
from genseg.workflows.labels.found import alpha_of

SQUARE = 512  # pixels of its side


@dataclass(frozen=True)
class Measurable:
    """An instance, and where its label stands among those of its image.

    soft: its alpha map, where there is one
    """

    place: int
    label: Label
    instance: Instance
    soft: Instance | None = None


@dataclass(frozen=True)
class Part:
    """The instances of an image that begin in one of its squares, and the values around them.

    row: of squares, which never falls within an image
    values: of a window that begins at `top` and `left`; None: `wrong` says why
    pixel_size: micrometres, down and across, where the file says it
    """

    entry: Entry
    row: int
    found: tuple[Measurable, ...]
    top: int = 0
    left: int = 0
    values: Original | None = None
    pixel_size: tuple[float, float] | None = None
    wrong: str = ""

    def moved(self, instance: Instance) -> Instance:
        """An instance in the pixels of `values`."""
        return replace(instance, top=instance.top - self.top, left=instance.left - self.left)


def parts_of(usable: Usable) -> Iterator[Part]:
    """The parts of all images, image by image, without crowds; of an image without instances one.
    Each part is read while the one before it is looked at."""
    reader = _Reader(usable)
    with ThreadPoolExecutor(1) as reading:
        yield from in_order(reading, reader.read, _squares(usable), ahead=1)


def _squares(usable: Usable) -> Iterator[tuple[Entry, int, list[int]]]:
    """Of each square an image, the row, and the places of its labels."""
    for entry in usable.entries.values():
        squares: dict[tuple[int, int], list[int]] = {}
        for n, label in enumerate(usable.labels[entry.number]):
            left, top, _, _ = label.box_xyxy
            if not label.crowd:
                squares.setdefault((int(top) // SQUARE, int(left) // SQUARE), []).append(n)
        for (row, _), places in sorted(squares.items()) or [((0, 0), [])]:
            yield entry, row, places


@dataclass
class _Reader:
    """Reads parts of images, of which one is open."""

    usable: Usable
    opened: dict[int, Originals | str] = field(default_factory=dict)

    def read(self, wanted: tuple[Entry, int, list[int]]) -> Part:
        entry, row, places = wanted
        labels = self.usable.labels[entry.number]
        made = [Measurable(n, labels[n], instance_of(labels[n], entry)) for n in places]
        part = Part(entry, row, tuple(m for m in made if m.instance.area))
        originals = self._open(entry)
        if isinstance(originals, str):
            return replace(part, wrong=originals)
        part = replace(part, pixel_size=originals.pixel_size)
        soft = [alpha_of(self.usable, entry, m.label, m.instance) for m in part.found]
        found = tuple(replace(m, soft=a) for m, a in zip(part.found, soft, strict=True))
        top, left, height, width = _around([m.instance for m in found], soft)
        try:
            values = originals.window((top, left, height, width))
        except ImageError as error:
            return replace(part, wrong=str(error))
        return replace(part, found=found, top=top, left=left, values=values)

    def _open(self, entry: Entry) -> Originals | str:
        """The values of an image, or why there are none."""
        if entry.number not in self.opened:
            self.opened = {entry.number: _opened(entry)}
        return self.opened[entry.number]


def _opened(entry: Entry) -> Originals | str:
    try:
        every = not current(Reading()).channels  # of those that the found keep the pages alone
        originals = open_originals(entry.path, image=entry.page, every=every)
    except ImageError as error:
        return str(error)
    if originals.size != (entry.height, entry.width):
        height, width = originals.size
        return (
            f"{entry.path} has {width} x {height} pixels, the json {entry.width} x {entry.height}"
        )
    return originals


def _around(
    instances: Sequence[Instance], soft: Sequence[Instance | None]
) -> tuple[int, int, int, int]:
    """The least window that holds all of some instances, and their alphas; one pixel for none."""
    windows = [a.window for a in (*instances, *soft) if a is not None]
    if not windows:
        return 0, 0, 1, 1
    begin = np.min([[s.start for s in w] for w in windows], 0)
    end = np.max([[s.stop for s in w] for w in windows], 0)
    top, left, height, width = np.concatenate([begin, end - begin]).tolist()
    return top, left, height, width
