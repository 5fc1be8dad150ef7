"""The page of a table of measures: how large instances are, and how bright."""

from pathlib import Path

import numpy as np

from genseg.core.files import write_text
from genseg.core.words import amount
from genseg.show.chart import histogram, number
from genseg.show.page import Page, Section, render, table
from genseg.show.scatter import scatter
from genseg.workflows.labels.measure import Measured

FEWEST = 2  # instances from which on a picture of all says something


def write_measured(found: Measured) -> Path:
    """Write the page beside the table, and return where it is."""
    page = found.table.with_suffix(".html")
    areas, counts = found.areas, found.counts
    density = counts.mean() if len(counts) else 0.0
    figures = [
        (f"{found.instances:,}", f"instances in {amount(found.images, 'image')}"),
        (f"{density:.3g}", "instances in an image, on average"),
    ]
    if len(areas):
        figures.append((f"{number(float(np.median(areas)))} px²", "median area"))
    text = render(
        Page(
            title=found.table.stem,
            state="measured",
            verdict=f"{amount(found.instances, 'instance')} measured in "
            f"{amount(found.images, 'image')}.",
            sections=[_sizes(found), _files(found)] if len(areas) >= FEWEST else [_files(found)],
            figures=figures,
        )
    )
    write_text(page, text)
    return page


def _sizes(found: Measured) -> Section:
    charts = [
        histogram("Areas", found.areas.tolist(), x_label="area, px²", y_label="instances"),
        scatter(
            f"Mean of {found.channel} by area",
            found.areas.tolist(),
            found.values.tolist(),
            x_label=f"area, px² (up: mean of {found.channel})",
        ),
    ]
    figures = "".join(f"<figure>{c}</figure>" for c in charts if c)
    return Section(
        "sizes",
        "Sizes",
        "How large the instances are, and how bright",
        f'<div class="charts">{figures}</div>',
        "Left the areas; right a dot for each instance (of many a part): its area, and the mean of "
        f"{found.channel or 'a channel'} in it, in the values of the file.",
    )


def _files(found: Measured) -> Section:
    rows = [
        ("Instances", found.table.name),
        ("Images", found.image_table.name),
        ("With soft alpha map", f"{found.soft:,} of {found.instances:,}"),
    ]
    return Section("tables", "Tables", "Where the numbers are", table(("Table", "File"), rows))
