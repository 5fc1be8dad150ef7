"""Measures of representations in tables of text, and as JSON takes them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from genseg.measure.representation.bootstrap import Estimate
from genseg.measure.representation.measured import Measured
from genseg.measure.representation.measures import FACTOR, MEASURES, OVERLAP, Measure

WORDS = {name: m for family in MEASURES.values() for name, m in family.items()}
SHARED = "shared factors"  # the family of measures of label sets
Layers = Mapping[str, Mapping[str, Measured]]


def described(name: str) -> Measure:
    """What a measure is called, and whether more of it is better."""
    if name in WORDS:
        return WORDS[name]
    kind, _, rest = name.partition("_")
    if kind == OVERLAP:
        return Measure(f"overlap of {rest.replace('_', ' and ')}")
    return Measure(f"a linear probe knows {rest}", "higher")


def shown(e: Estimate | None) -> str:
    """A value and its standard error, to the digits that the error leaves."""
    if e is None:
        return "-"
    if not math.isfinite(e.error) or e.error < 1e-6:
        return f"{e.value:.4g}"
    digits = min(6, max(0, 1 - math.floor(math.log10(e.error))))
    return f"{e.value:.{digits}f} ± {e.error:.{digits}f}"


def families(columns: Sequence[Measured]) -> Iterator[tuple[str, list[str]]]:
    """The names of the measures that some column has, by family."""
    names = dict.fromkeys(name for column in columns for name in column.measures)
    for family, measures in MEASURES.items():
        if own := [name for name in measures if name in names]:
            yield family, own
    if own := [name for name in names if name.startswith((f"{FACTOR}_", f"{OVERLAP}_"))]:
        yield SHARED, own


def rows_of(columns: Sequence[Measured]) -> Iterator[tuple[str, list[list[str]]]]:
    """Family -> rows of a measure, whether more is better, and a cell for each column."""
    for family, names in families(columns):
        rows = []
        for name in names:
            m = described(name)
            rows.append([m.words, m.better, *(shown(c.measures.get(name)) for c in columns)])
        yield family, rows


def tables(layers: Layers, similarity: Mapping[tuple[str, str], Estimate]) -> Iterator[str]:
    """The lines of all tables: of each run by stage where there are several, of all runs beside
    each other, and of their similarity."""
    for name, stages in layers.items():
        if len(stages) > 1:
            yield f"{name}, by stage"
            yield from _table(stages)
            yield ""
    last = {name: list(stages.values())[-1] for name, stages in layers.items()}
    numbered = {str(n): column for n, column in enumerate(last.values(), start=1)}
    yield from (f"{n}: {name}" for n, name in enumerate(last, start=1))
    yield from _table(numbered)
    if similarity:
        yield ""
        yield "similarity (linear CKA, 0 to 1)"
        names = list(last)
        for (a, b), e in similarity.items():
            yield f"  {names.index(a) + 1} and {names.index(b) + 1}: {shown(e)}"


def _table(columns: Mapping[str, Measured]) -> Iterator[str]:
    made = list(rows_of(list(columns.values())))
    wide = max((len(row[0]) for _, rows in made for row in rows), default=0) + 2
    yield f"{'':{wide + 2}s}{'better':8s}" + "".join(f"{name:>20s}" for name in columns)
    for family, rows in made:
        yield family
        for words, better, *cells in rows:
            yield f"  {words:{wide}s}{better:8s}" + "".join(f"{cell:>20s}" for cell in cells)


def as_json(
    layers: Layers, similarity: Mapping[tuple[str, str], Estimate], head: Mapping[str, Any]
) -> dict[str, Any]:
    """All numbers as representation.json has them."""
    return {
        **head,
        "runs": {
            name: {
                stage: {
                    "measures": {k: _pair(e) for k, e in m.measures.items()},
                    "spectrum": [float(f"{v:.4g}") for v in m.spectrum],
                    "accuracies": [list(a) for a in m.accuracies],
                }
                for stage, m in stages.items()
            }
            for name, stages in layers.items()
        },
        "similarity": [[a, b, *_pair(e)] for (a, b), e in similarity.items()],
    }


def read_layers(content: Mapping[str, Any]) -> dict[str, dict[str, Measured]]:
    """Run -> stage -> measures, of a representation.json. Raises KeyError, TypeError or ValueError
    for a file of another form."""
    return {
        str(name): {
            str(stage): Measured(
                {str(k): _estimate(*pair) for k, pair in m["measures"].items()},
                tuple(float(v) for v in m["spectrum"]),
                tuple((int(k), float(a)) for k, a in m["accuracies"]),
            )
            for stage, m in stages.items()
        }
        for name, stages in content["runs"].items()
    }


def _pair(e: Estimate) -> list[float | None]:
    return [
        e.value if math.isfinite(e.value) else None,
        e.error if math.isfinite(e.error) else None,
    ]


def _estimate(value: float | None, error: float | None) -> Estimate:
    return Estimate(
        math.nan if value is None else float(value), math.nan if error is None else float(error)
    )
