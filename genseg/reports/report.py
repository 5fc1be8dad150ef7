"""The report of a run: one HTML file, made of what lies in the run directory."""

import math
import time
from collections.abc import Callable
from pathlib import Path

from genseg.core.files import write_text
from genseg.core.names import REPORT_NAME
from genseg.core.words import amount
from genseg.methods.semantic import SUPERVISED
from genseg.nn.kept_reading import reads_as
from genseg.reports import energies, studies
from genseg.reports.neighbours import alike
from genseg.reports.numbers import classes, curves, data, gain, made, transfer
from genseg.reports.pictures import extremes, found, pictures_of, steps
from genseg.reports.representation import representation
from genseg.reports.run import LEFT_BEHIND, Run
from genseg.reports.sizes import size_figures, sizes, tally
from genseg.reports.start import proposals
from genseg.reports.training_pictures import composites, predicted, views
from genseg.runs.folder import RunError
from genseg.show.page import Page, Section, render
from genseg.workflows.evaluate.detector import SHOWN

NO_BREAK = "\N{NO-BREAK SPACE}"
EARLIEST = 10  # seconds into a run of its first report
# Wait at least this many times the last report's cost before the next: it takes less than two
# percent of a run.
PATIENCE = 60
# In the order of the page. Each is left out where the directory has nothing for it.
SECTIONS: tuple[Callable[[Run], Section | None], ...] = (
    transfer,
    studies.arms,
    studies.likeness,
    studies.predictors,
    found,
    proposals,
    sizes,
    classes,
    energies.maps,
    energies.descent,
    energies.own,
    energies.landscape,
    energies.walks,
    steps,
    extremes,
    alike,
    representation,
    composites,
    predicted,
    views,
    curves,
    data,
    made,
)


@reads_as("path")
def write_report(
    path: Path, folder: str | None = None, *, look: bool = True, live: bool = False
) -> Path:
    """Write `path/report.html` from what a command has left behind in `path`, and return where it
    is.

    folder: images to show, in place of those that it was made from
    look: let a finished model look at some images, which takes seconds
    live: this process is at work in `path`, so the page reads itself again

    Raises ValueError for what a user can mend.
    """
    if not any((path / name).exists() for name in LEFT_BEHIND):
        raise RunError(
            f"{path} holds none of {', '.join(LEFT_BEHIND)}: give a run directory, or a folder of "
            "genseg generate"
        )
    run = Run(path, folder, look, live)
    page = Page(
        title=path.absolute().name,
        state=run.state,
        verdict=verdict(run),
        figures=figures(run),
        running=run.running,
        sections=[s for make in SECTIONS if (s := make(run)) is not None],
    )
    write_text(path / REPORT_NAME, render(page))
    return path / REPORT_NAME


def verdict(run: Run) -> str:
    """What came out and whether it is good, in a sentence or two, as far as the directory knows."""
    said = []
    if text := gain(run) or studies.said(run):
        said.append(text)
    if text := energies.said(run):
        said.append(text)
    if run.scores is not None:
        where = (
            f"On {run.scores.images:,} validation images the best model has"
            if run.scores.images
            else "So far it has"
        )
        said.append(
            f"{where} {', '.join(f'{name} {value:.3f}' for name, value in shown_scores(run))}."
        )
    if run.semantic and not run.judged and run.ranked:
        told = ", ".join(f"{100 * part:.2g} % are {name}" for name, part in class_parts(run))
        said.append(
            f"Of the pixels of {amount(len(run.ranked), 'image')} {told or 'none has a class'}."
        )
    elif (t := tally(run)) is not None and not run.judged:
        mean = len(t.areas) / t.images
        each = f", {mean:{'.0f' if mean >= 10 else '.2g'}} in each" if t.images > 1 else ""
        none = f"; {amount(t.empty, 'image')} without any." if t.empty else "; no image is empty."
        said.append(
            f"{amount(len(t.areas), 'instance')} in {amount(t.images, 'image')}{each}{none}"
        )
    elif (pictures := pictures_of(run)[0]) and run.part_over < 1:
        found = sum(len(p.instances) for p in pictures)
        said.append(f"So far {amount(found, 'instance')} in {amount(len(pictures), 'image')}.")
    if run.config is not None and not run.begun and run.part_over < 1:
        said.insert(0, "Training has not begun.")
    if run.config is not None and run.config.supervised:
        said.append(f"The encoder is {SUPERVISED}.")
    agreements = [row["agreement"] for row in run.rows if "agreement" in row]
    if agreements:
        trend = (
            f", after {100 * agreements[-2]:.0f} % in the round before"
            if len(agreements) > 1
            else ""
        )
        said.append(f"Two looks at an image agree by {100 * agreements[-1]:.0f} %{trend}.")
    votes = [row["knn_top1"] for row in run.rows if "knn_top1" in row]
    if len(votes) > 1:
        said.append(
            f"Nearest neighbours find the right class for {100 * votes[-1]:.0f} % of the images, "
            f"before training for {100 * votes[0]:.0f} %."
        )
    nothing = (
        "Nothing has been measured yet."
        if run.part_over < 1
        else "Nothing was measured while it trained."
    )
    return (" ".join(said) or nothing).replace(" %", f"{NO_BREAK}%")


def shown_scores(run: Run) -> list[tuple[str, float]]:
    """The first numbers of a fine-tuned model."""
    known = run.scores.values if run.scores is not None else {}
    # masks first: they are what a model is judged by
    order = sorted(SHOWN, key=lambda name: name.startswith("box"))
    return [(name, known[name]) for name in order if not math.isnan(known.get(name, math.nan))]


def figures(run: Run) -> list[tuple[str, str]]:
    """The numbers of the first screen: value, and what it is. How training went is told further
    down."""
    shown = [(f"{value:.3f}", name) for name, value in shown_scores(run)]
    if run.semantic and not run.judged:
        shown += [
            (f"{100 * part:.1f} %", f"of the pixels are {name}") for name, part in class_parts(run)
        ]
    shown += energies.energy_figures(run)
    shown += size_figures(run)
    seen = [row["images"] for row in run.rows if "images" in row]
    return [*shown, (f"{int(seen[-1]):,}", "images seen in training")] if seen else shown


def class_parts(run: Run) -> list[tuple[str, float]]:
    """The classes that a semantic model has found most of, and their parts of all pixels; a few."""
    if run.listed:
        regions = [pair for i in run.listed for pair in zip(i.numbers, i.areas, strict=True)]
        known = [(run.classes.get(number, "the class"), area) for number, area in regions]
    else:
        known = [
            (name, a.area)
            for p in run.looked[0]
            for name, a in zip(p.labels, p.instances, strict=True)
        ]
    parts: dict[str, float] = {}
    for name, area in known:
        parts[name] = parts.get(name, 0.0) + float(area) / sum(
            r.height * r.width for r in run.ranked
        )
    return sorted(parts.items(), key=lambda part: -part[1])[:4]


class LiveReport:
    """The report of a run that goes on. It is written now and then, so that it never takes much of
    the run's time."""

    def __init__(self, run: Path, say: Callable[[str], None]) -> None:
        self.run, self.say, self.last, self.cost = run, say, time.monotonic(), 0.0
        self.broken = False

    def update(self) -> None:
        """Write it, unless that was done only just now. What hinders it is said once: training goes
        on."""
        begun = time.monotonic()
        if self.broken or begun - self.last < max(EARLIEST, PATIENCE * self.cost):
            return
        try:
            write_report(self.run, look=False, live=True)
        except (ValueError, OSError) as error:
            self.broken = True
            self.say(f"no report while the run goes on: {error}")
        self.last = time.monotonic()
        self.cost = self.last - begun

    def done(self, *, complete: bool) -> None:
        """Write it a last time, with what a complete run finds."""
        try_report(self.run, look=complete)


def try_report(path: Path, folder: str | None = None, *, look: bool = True) -> None:
    """Write the report at the end of a command and say where it is. What hinders it is said and
    ends nothing: the command's own work is done."""
    try:
        print(f"report: {write_report(path, folder, look=look)}")
    except (ValueError, OSError) as error:
        print(f"there is no report: {error}; mend it and give genseg visualize {path}")
