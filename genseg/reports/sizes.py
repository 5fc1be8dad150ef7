"""How many instances were found and how large they are: the first numbers of a report, and their
histogram."""

import functools
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from genseg.core.words import amount
from genseg.reports.run import Run
from genseg.show.chart import histogram, number
from genseg.show.page import Section

FEWEST = 10  # instances from which on a histogram says something


@dataclass(frozen=True)
class Tally:
    """What was found in all images. areas: in pixels, of each instance; empty: images without
    any"""

    images: int
    empty: int
    areas: Float[np.ndarray, "n"]

    @functools.cached_property
    def across(self) -> Float[np.ndarray, "n"]:
        """The diameter of the disc that has the area of each instance."""
        return np.sqrt(self.areas * (4 / math.pi))


def tally(run: Run) -> Tally | None:
    """Of all images of an instances.json, else of those that the run has looked at; None for what
    has no instances."""
    if run.semantic:
        return None
    if "tally" not in run.kept:
        run.kept["tally"] = _listed(run) if run.listed else _ranked(run) if run.ranked else None
    found: Tally | None = run.kept["tally"]
    return found


def _listed(run: Run) -> Tally:
    content = run.content
    counts = Counter(a["image_id"] for a in content["annotations"])
    areas = [
        a["area"] if "area" in a else a["bbox"][2] * a["bbox"][3] for a in content["annotations"]
    ]
    empty = sum(i["id"] not in counts for i in content["images"])
    return Tally(len(content["images"]), empty, np.array(areas, float))


def _ranked(run: Run) -> Tally:
    areas = [a.area for r in run.ranked for a in r.instances]
    return Tally(len(run.ranked), sum(not r.instances for r in run.ranked), np.array(areas, float))


def size_figures(run: Run) -> list[tuple[str, str]]:
    """Count, median size and the share of images with none, as the first screen shows them."""
    t = tally(run)
    if t is None:
        return []
    count, none = len(t.areas), 100 * t.empty / t.images
    shown = [
        (
            f"{count:,}",
            f"{'instance' if count == 1 else 'instances'} in {amount(t.images, 'image')}",
        )
    ]
    if count:
        across, area = (number(float(np.median(v))) for v in (t.across, t.areas))
        shown.append((f"{across} px", f"median diameter ({area} px²)"))
    return [*shown, (f"{none:.{1 if 0 < none < 1 else 0}f} %", "of the images have none")]


def sizes(run: Run) -> Section | None:
    """The histogram of sizes."""
    t = tally(run)
    if t is None or len(t.areas) < FEWEST:
        return None
    drawn = histogram("Sizes", t.across.tolist(), x_label="pixels across", y_label="instances")
    body = f'<div class="charts"><figure>{drawn}</figure></div>'
    low, middle, high = (number(float(v)) for v in np.quantile(t.across, (0.1, 0.5, 0.9)))
    return Section(
        "sizes",
        "Sizes",
        f"How large the {len(t.areas):,} instances are",
        body,
        f"The diameter of a disc of the same area. Eight of ten are between {low} and {high} px "
        f"across, the median is {middle} px.",
    )
