"""What the files of a set hold: axes, channels, bits, size of a pixel, and the values of each
channel."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genseg.core.reading import Reading, Selection, current
from genseg.data.images.counted import held_by_file
from genseg.data.images.original import read_original
from genseg.data.images.planes import Held, choose
from genseg.data.regions.georeference import pixel_size
from genseg.data.regions.opened import by_windows

PERCENTILES = (0, 1, 50, 99, 100)
ASKED, TAKEN = 32, 50_000  # images whose values are looked at, evenly from all; values of each
KINDS = 6  # that a report lists


@dataclass(frozen=True)
class HeldReport:
    """kinds: what files hold, and how many hold it; pixel_sizes: micrometres across and down, ""
    where not known; values: of each channel by name the PERCENTILES, over `looked` images; refused:
    files that hold more than is said what to use of, with what to say."""

    kinds: tuple[tuple[str, int], ...]
    pixel_sizes: tuple[tuple[str, int], ...]
    values: tuple[tuple[str, tuple[float, ...]], ...]
    looked: int
    refused: tuple[tuple[str, str], ...]

    def lines(self) -> list[str]:
        """A table of channels."""
        if not self.values:
            return []
        width = max(12, *(len(name) + 2 for name, _ in self.values))
        head = "".join(f"{name:>11}" for name in ("min", "1 %", "50 %", "99 %", "max"))
        title = f"{'values':{width}}{head}  of {self.looked} images"
        rows = [
            f"{name:{width}}" + "".join(f"{value:>11.5g}" for value in numbers)
            for name, numbers in self.values
        ]
        return ["", title, *rows]


def held_report(paths: Sequence[Path], files: Sequence[str]) -> HeldReport:
    """The report of readable files; files: their names."""
    kinds, sizes, refused = Counter[str](), Counter[str](), list[tuple[str, str]]()
    values: dict[str, list[np.ndarray]] = {}
    looked = 0
    chosen = {n * len(paths) // min(len(paths), ASKED) for n in range(min(len(paths), ASKED))}
    for n, (path, name) in enumerate(zip(paths, files, strict=True)):
        held = held_by_file(path, plain=True)
        if held is None:
            continue
        kinds[held.what] += 1
        try:
            choose(held, current().selection)
        except ValueError as error:
            refused.append((name, str(error)))
        if n in chosen:
            size = pixel_size(path)
            sizes[f"{size[1]:.4g} x {size[0]:.4g}" if size else ""] += 1
            looked += not by_windows(path) and _add(path, held, values)
    percentiles = {
        name: tuple(np.nanpercentile(np.concatenate(parts), PERCENTILES).tolist())
        for name, parts in values.items()
    }
    return HeldReport(
        tuple(kinds.most_common()),
        tuple(sizes.most_common()),
        tuple(percentiles.items()),
        looked,
        tuple(refused),
    )


def _add(path: Path, held: Held, values: dict[str, list[np.ndarray]]) -> bool:
    """Add values of all channels, of one page in the middle where none is chosen."""
    words = current()
    middle = "" if held.pages == 1 and not held.further else str((held.pages + 1) // 2)
    reading = Reading(words.channels, words.pages or middle)
    try:
        several = len(choose(held, Selection((1,), reading.pages)).images) > 1
        found = read_original(path, image=int(several), reading=reading)
    except ValueError:
        return False
    known = np.ones(found.pixels.shape[:2], bool) if found.absent is None else ~found.absent
    for c, name in enumerate(found.channels):
        x = found.pixels[..., c][known].astype(np.float64)
        x = x[np.isfinite(x)][:: max(1, x.size // TAKEN)]
        if x.size:
            values.setdefault(name, []).append(x)
    return True
