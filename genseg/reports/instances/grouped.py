"""The page of groups: cut-outs of each, to give them names."""

from pathlib import Path

import cv2
import numpy as np

from genseg.core.files import write_text
from genseg.core.words import amount
from genseg.show.brightness import brightened, display_gain
from genseg.show.draw import overlay
from genseg.show.page import Page, Section, figure, render
from genseg.show.viewer import data_uri
from genseg.workflows.vectors.group import Grouped, Shown

SIDE = 112  # pixels of a cut-out in the page
COMMAND = "The same command with --names and a name for each group, by commas, writes them."


def write_grouped(found: Grouped) -> Path:
    """Write the page beside the json, and return where it is."""
    page = found.file.with_suffix(".html")
    sections = [
        Section(
            f"group-{n}",
            name,
            f"{name}: {amount(count, 'instance')}",
            f'<div class="alike">{"".join(_cell(s, n - 1) for s in shown)}</div>',
            "The most typical first." if n > 1 else f"The most typical first. {COMMAND}",
        )
        for n, (name, count, shown) in enumerate(
            zip(found.names, found.counts, found.shown, strict=True), start=1
        )
    ]
    figures = [
        (f"{sum(found.counts):,}", "instances"),
        (f"{len(found.names)}", "groups of like look"),
    ]
    said = f"{amount(sum(found.counts), 'instance')} in {len(found.names)} groups, without a label."
    text = render(Page(found.file.stem, "grouped", said, sections, figures))
    write_text(page, text)
    return page


def _cell(shown: Shown, hue: int) -> str:
    """A cut-out with a line around the instance."""
    pixels = brightened(shown.pixels, display_gain(shown.pixels))
    scale = SIDE / len(pixels)
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    large = np.asarray(cv2.resize(pixels, (SIDE, SIDE), interpolation=kind))
    alpha = np.asarray(cv2.resize(shown.instance.alpha, (SIDE, SIDE), interpolation=kind))
    drawn = overlay(large, [type(shown.instance)(alpha, 0, 0)], strength=0, hues=[hue])
    name = str(shown.number)
    return figure(data_uri(drawn, quality=82), name, alt=f"instance {name}", size=(SIDE, SIDE))
