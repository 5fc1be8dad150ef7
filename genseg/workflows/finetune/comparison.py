"""What the cells of a comparison say: numbers first, then the words and the plot that follow from
them.

compare.json holds the numbers. The console and the page put them into words here; nothing reads
those words again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genseg.core.words import amount
from genseg.measure.paired import Difference, mean_and_spread, paired_difference
from genseg.runs.folder import RunError
from genseg.show.chart import Line, chart

Values = Mapping[tuple[str, int], Mapping[int, float]]  # by arm and labels, then by seed
WORDS = ("better", "worse", "no clear difference", "too few pairs to tell")


@dataclass(frozen=True)
class Contrast:
    """An arm against the base, the first arm, at one number of labelled images; there is at least
    one pair."""

    arm: str
    base: str
    labels: int
    difference: Difference

    @property
    def word(self) -> str:
        """One of WORDS."""
        d = self.difference
        if d.pairs < 2:
            return WORDS[3]
        return WORDS[2] if not d.clear else WORDS[0] if d.mean > 0 else WORDS[1]

    @property
    def numbers(self) -> str:
        """'+0.2633 ± 0.0033 over 3 pairs'; the part after ± is the standard error."""
        d = self.difference
        return (
            f"{d.mean:+.4f} ± {d.error:.4f} over {d.pairs} pairs"
            if d.pairs > 1
            else f"{d.mean:+.4f}, one pair"
        )

    def as_json(self) -> dict[str, Any]:
        """Mean, standard error (null for one pair), pairs, and whether the difference is clear."""
        d = self.difference
        error = d.error if d.pairs > 1 else None
        return {
            **asdict(self),
            "difference": d.mean,
            "error": error,
            "pairs": d.pairs,
            "clear": d.clear,
        }


def by_seed(cells: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], dict[int, float]]:
    """(arm, labels) -> seed -> value, of the cells in which something could be measured. Raises
    KeyError, TypeError or ValueError for cells of another form."""
    values: dict[tuple[str, int], dict[int, float]] = {}
    for c in cells:
        if c["value"] is not None and math.isfinite(float(c["value"])):
            values.setdefault((str(c["arm"]), int(c["labels"])), {})[int(c["seed"])] = float(
                c["value"]
            )
    return values


def contrasts(arms: Sequence[str], labels: Sequence[int], values: Values) -> list[Contrast]:
    """Each arm against the first one, in pairs of equal labels and seeds; those without a pair are
    left out."""
    base, *others = arms
    made = [
        Contrast(arm, base, n, _paired(values, (arm, n), (base, n)))
        for arm in others
        for n in labels
    ]
    return [c for c in made if c.difference.pairs]


def verdict(metric: str, arms: Sequence[str], labels: Sequence[int], values: Values) -> str:
    """Whether the arms differ from the first one, a sentence for each; nothing where no pair is
    finished."""
    made, said = contrasts(arms, labels, values), []
    for arm in arms[1:]:
        own = [c for c in made if c.arm == arm]
        parts = [_part([c for c in own if c.word == word]) for word in WORDS]
        if told := "; ".join(filter(None, parts)):
            saved = labels_saved(arm, arms[0], labels, values)
            reached = (
                f". With {saved[0]} it reaches what {arms[0]} reaches with {saved[1]}"
                if saved
                else ""
            )
            said.append(f"{arm} against {arms[0]}, {metric}: {told}{reached}.")
    return " ".join(said)


def _part(alike: Sequence[Contrast]) -> str:
    """The contrasts of one word: 'better with 4 labelled images (+0.1 ± 0.02 over 3 pairs) and 8
    (...)'."""
    if not alike:
        return ""
    counts = [amount(alike[0].labels, "labelled image"), *(f"{c.labels:,}" for c in alike[1:])]
    each = " and ".join(f"{count} ({c.numbers})" for count, c in zip(counts, alike, strict=True))
    return f"{alike[0].word} with {each}"


def sentences(arms: Sequence[str], labels: Sequence[int], values: Values) -> list[str]:
    """What the console says below its table: each contrast, and the labels that an arm saves."""
    made, said = contrasts(arms, labels, values), []
    for arm in arms[1:]:
        for c in (c for c in made if c.arm == arm):
            said.append(
                f"{arm} with {amount(c.labels, 'labelled image')}: {c.numbers} against {c.base}: "
                f"{c.word}"
            )
        if saved := labels_saved(arm, arms[0], labels, values):
            few, many = amount(saved[0], "labelled image"), saved[1]
            said.append(f"{arm} with {few} reaches what {arms[0]} reaches with {many}")
    return said


def labels_saved(
    arm: str, base: str, labels: Sequence[int], values: Values
) -> tuple[int, int] | None:
    """The fewest labels that an arm needs for what the base has with more, and how many those are.

    Only where the base clearly gains by more labels (else nothing is saved) and the arm's mean over
    the seeds of both is no lower.
    """
    best: tuple[float, int, int] | None = None
    for few in labels:
        for many in labels:
            gained = _paired(values, (base, many), (base, few))
            behind = [_paired(values, (arm, few), (base, n)).mean < 0 for n in labels if n <= many]
            pairs = _paired(values, (arm, few), (base, many)).pairs
            if few < many and gained.clear and gained.mean > 0 and pairs > 1 and not any(behind):
                best = max(best or (0.0, 0, 0), (many / few, few, many))
    return None if best is None else best[1:]


def _paired(values: Values, a: tuple[str, int], b: tuple[str, int]) -> Difference:
    """The difference of two cells' numbers, over the seeds that both have."""
    one, other = values.get(a, {}), values.get(b, {})
    shared = sorted(one.keys() & other.keys())
    return paired_difference([one[s] for s in shared], [other[s] for s in shared])


def as_table(result: Mapping[str, Any]) -> str:
    """The content of compare.json as text: mean and standard deviation of each arm and number of
    labels, and whether the arms differ."""
    values = by_seed(result["cells"])
    width = max([len(a) for a in result["arms"]] + [3])
    head = (
        f"{result['metric']}, mean and standard deviation over seeds (draws of labels, and "
        "trainings)"
    )
    lines = [
        f"{head}\n{'arm':{width}s}"
        + "".join(f"{n:>20d}" for n in result["labels"])
        + "  labelled images"
    ]
    for arm in result["arms"]:
        row = f"{arm:{width}s}"
        for n in result["labels"]:
            got = list(values.get((arm, n), {}).values())
            mean, spread = mean_and_spread(got)
            text = (
                f"{mean:.4f} ± {spread:.4f} ({len(got)})"
                if len(got) > 1
                else f"{mean:.4f}"
                if got
                else "-"
            )
            row += f"{text:>20s}"
        lines.append(row)
    return "\n".join([*lines, "", *sentences(result["arms"], result["labels"], values)])


def transfer_plot(content: Mapping[str, Any], source: Path) -> str:
    """The chart of a compare.json: mean and standard deviation of each arm over the number of
    labelled images."""
    values, lines = checked_values(content, source), []
    for arm in map(str, content["arms"]):
        known = [(n, values[arm, n]) for n in map(int, content["labels"]) if (arm, n) in values]
        own = [(n, *mean_and_spread(list(found.values()))) for n, found in known]
        spreads = [0.0 if math.isnan(s) else s for _, _, s in own]
        lines.append(Line(arm, [float(n) for n, _, _ in own], [m for _, m, _ in own], spreads))
    return chart(str(content["metric"]), lines, x_label="labelled images", dots=True)


def checked_values(content: Mapping[str, Any], source: Path) -> Values:
    """The numbers of a compare.json's cells. Raises RunError when `source`, whose content it is,
    has another form."""
    try:
        _ = (
            [str(a) for a in content["arms"]],
            [int(n) for n in content["labels"]],
            content["metric"],
        )
        return by_seed(content["cells"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{source} needs arms, labels, metric and cells of arm, labels, seed and value; got "
            f"{error!r}"
        ) from None
