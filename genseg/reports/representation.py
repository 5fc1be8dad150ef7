"""What a run's encoder makes of images: the measures of genseg evaluate representation, of one run
and of several beside each other."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from genseg.core.names import REPRESENTATION_NAME
from genseg.measure.representation.measured import Measured
from genseg.measure.representation.measures import FACTOR
from genseg.reports.run import Run
from genseg.runs.folder import RunError
from genseg.show.chart import Line, chart
from genseg.show.page import Section, as_text, folded, table
from genseg.workflows.evaluate.representation_table import described, read_layers, rows_of

# by stage, each chart of some measures; the first is of parts of one
KNOWN = ("knn", "linear", "interpolation")
BY_STAGE = ("effective_rank", "participation_ratio", "intrinsic_dimension", "spectrum_exponent")
CHANGES = ("change_noise", "change_shift", "change_crop")
BETTER = "Each number with its standard error over images, and what is better: – is neither."


@dataclass(frozen=True)
class Found:
    """A representation.json. layers: name -> stage -> measures; the last name is the run's own,
    those before are baselines."""

    data: str
    lines: tuple[str, ...]
    layers: Mapping[str, Mapping[str, Measured]]

    @property
    def own(self) -> Mapping[str, Measured]:
        """The stages of the run's encoder."""
        return list(self.layers.values())[-1]


def found_in(run: Run) -> Found | None:
    """What was measured of a run. Raises RunError for a file that genseg has not written so."""
    file = run.path / REPRESENTATION_NAME
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text("utf-8"))
        lines = tuple(str(line) for line in content["lines"])
        found = Found(str(content["data"]), lines, read_layers(content))
        found.own  # noqa: B018, there is one
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise RunError(
            f"{file} cannot be read ({error!r}); make it anew with genseg evaluate representation"
        ) from None
    return found


def representation(run: Run) -> Section | None:
    """The measures of a run, its spectrum, and by stage where stages were measured."""
    found = found_in(run)
    if found is None:
        return None
    last = {name: list(stages.values())[-1] for name, stages in found.layers.items()}
    body = _tables(last) + _charts(last)
    if len(found.own) > 1:
        body += f"<h3>By stage of the encoder</h3>{_by_stage(found.own)}"
        body += _folded_stages(found.own)
    if len(found.lines) > 1:
        body += folded("What limits these numbers", "\n".join(found.lines[1:]))
    return Section(
        "representation",
        "Representation",
        "What the encoder's features are like",
        body,
        f"{found.lines[0] if found.lines else found.data}. {BETTER}",
    )


def compared(runs: Sequence[Run], *, most: int) -> str:
    """Tables and spectra of the runs that were measured on the same images, the first `most` of
    them; nothing where none was. A run whose file is damaged says so."""
    by_data: dict[str, dict[str, Measured]] = {}
    body = ""
    for run in runs:
        try:
            found = found_in(run)
        except RunError as error:
            body += f"<p>{as_text(str(error))}</p>"
            continue
        if found is None:
            continue
        columns = by_data.setdefault(found.lines[0] if found.lines else found.data, {})
        if len(columns) < most:
            columns[run.path.absolute().name] = list(found.own.values())[-1]
    for data, columns in by_data.items():
        body += f"<h3>Representations on {as_text(data)}</h3><p>{as_text(BETTER)}</p>"
        body += _tables(columns) + _charts(columns)
    return body


def _tables(columns: Mapping[str, Measured]) -> str:
    """One table, in which a family begins with its name."""
    rows = []
    for family, own in rows_of(list(columns.values())):
        rows.append([family.capitalize(), *[""] * (1 + len(columns))])
        rows += [[words, better.replace("-", "–"), *cells] for words, better, *cells in own]
    return table(["", "better", *columns], rows)


def _charts(columns: Mapping[str, Measured]) -> str:
    """Spectra, and the accuracy on leading principal dimensions."""
    spectra, accuracies = [], []
    for name, m in columns.items():
        kept = [(k, v) for k, v in enumerate(m.spectrum, start=1) if v > 1e-9]
        x, y = [math.log10(k) for k, _ in kept], [math.log10(v) for _, v in kept]
        spectra.append(Line(name, x, y))
        accuracies.append(
            Line(name, [float(k) for k, _ in m.accuracies], [a for _, a in m.accuracies])
        )
    drawn = _figure(
        "Spectrum: variance along principal directions, log10 of parts of all",
        chart("Spectrum", spectra, x_label="log10 of the place"),
    )
    title = "Accuracy of a linear probe on so many principal dimensions"
    drawn += _figure(title, chart(title, accuracies, x_label="dimensions", percent=True, dots=True))
    return f'<div class="charts">{drawn}</div>'


def _by_stage(stages: Mapping[str, Measured]) -> str:
    """Measures over the stages."""
    names = list(dict.fromkeys(name for m in stages.values() for name in m.measures))
    factors = [n for n in names if n.startswith(f"{FACTOR}_") and n != f"{FACTOR}_class"]
    drawn = ""
    for title, some, percent in (
        ("Accuracy", [n for n in KNOWN if n in names], True),
        ("What linear probes know of other label sets", factors, True),
        ("Relative change by small perturbations", [n for n in CHANGES if n in names], False),
        *((described(n).words, [n], False) for n in BY_STAGE if n in names),
    ):
        lines = [_over_stages(stages, name) for name in some]
        drawn += _figure(title, chart(title, lines, x_label="stage", percent=percent))
    return f'<div class="charts">{drawn}</div>'


def _over_stages(stages: Mapping[str, Measured], name: str) -> Line:
    known = [
        (float(k), m.measures[name])
        for k, m in enumerate(stages.values(), start=1)
        if name in m.measures
    ]
    spread = [e.error if math.isfinite(e.error) else 0.0 for _, e in known]
    word = name.removeprefix(f"{FACTOR}_").removeprefix("change_").replace("_", " ")
    return Line(word, [x for x, _ in known], [e.value for _, e in known], spread)


def _folded_stages(stages: Mapping[str, Measured]) -> str:
    return "<details><summary>All measures by stage</summary>" + _tables(stages) + "</details>"


def _figure(title: str, svg: str) -> str:
    return f"<figure><h3>{as_text(title)}</h3>{svg}</figure>" if svg else ""
