"""The content of study.json in words: a table, sentences, and a plot."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genseg.measure.paired import mean_and_spread
from genseg.runs.folder import RunError
from genseg.show.dots import Dots, dot_plot
from genseg.workflows.study.content import by_arm, column

MOST = 6  # measures in the table of the console; study.json has all
BEST = 5  # correlations that are told
CAPITAL = {"supported": "Supported", "against": "Against", "open": "Open"}


def sentence(content: Mapping[str, Any]) -> str:
    """The verdict on the claim, and the numbers that it follows from."""
    claim = str(content["claim"]).strip().rstrip(".")
    parts = [f"{CAPITAL[content['verdict']]}: {claim}."] if content["statements"] else [f"{claim}."]
    for s in content["statements"]:
        on = "" if f" on {s['measure']}" in s["text"] else f" on {s['measure']}"
        parts.append(f"{s['text']}{on}: {numbers_of(s)}, {s['verdict']}.")
    missing = content["planned"] - len(content["cells"])
    if missing:
        parts.append(f"{missing} of {content['planned']} cells are missing.")
    return " ".join(parts)


def numbers_of(s: Mapping[str, Any]) -> str:
    """'+0.0512 ± 0.0040 over 3 seeds'; the part after ± is the standard error."""
    if not s["pairs"]:
        return "not measured"
    if s["error"] is None:
        return f"{s['difference']:+.4f}, one seed"
    return f"{s['difference']:+.4f} ± {s['error']:.4f} over {s['pairs']} seeds"


def as_table(content: Mapping[str, Any]) -> str:
    """Mean and standard deviation of each arm, its difference to the first one, and the verdict."""
    values, arms = by_arm(content["cells"]), [str(a) for a in content["arms"]]
    names = measures_of(content)[:MOST]
    width = max([len(a) for a in arms] + [3])
    lines = [f"{'arm':{width}s}" + "".join(f"{n[:19]:>20s}" for n in names)]
    for arm in arms:
        row = "".join(f"{told(list(column(values, arm, n).values())):>20s}" for n in names)
        lines.append(f"{arm:{width}s}{row}")
    lines += ["", "mean ± standard deviation (seeds)", ""]
    for d in content["differences"]:
        word = "clear" if d["clear"] else "not clear"
        lines.append(
            f"{d['arm']} against {d['base']}, {content['metric']}: {numbers_of(d)}, {word}"
        )
    lines += ["", *more(content), sentence(content)]
    return "\n".join(lines)


def more(content: Mapping[str, Any]) -> list[str]:
    """Sentences on what some studies have: likeness, rank correlations, the cost of a level."""
    said = []
    for c in content.get("cka", ()):
        one, other = c["arms"]
        between = f"{one}, its seeds" if one == other else f"{one} and {other}"
        spread = "" if c["deviation"] is None else f" ± {c['deviation']:.3f}"
        said.append(f"CKA of {between}: {c['mean']:.3f}{spread}")
    for r in content.get("correlations", ())[:BEST]:
        said.append(
            f"{r['measure']} and {content['correlate']}: rank correlation {r['rho']:+.2f} "
            f"({r['low']:+.2f} to {r['high']:+.2f}) over {r['arms']} arms"
        )
    if reach := content.get("reach"):
        said.append(_reach(reach, str(content["metric"])))
    return said


def _reach(reach: Mapping[str, Any], metric: str) -> str:
    gain = f"{reach['for_each_doubling']:+.4f} {metric} for each doubling of seconds"
    told, aim = f"{', '.join(reach['arms'])}: {gain}", f"{reach['aim']} ({reach['level']:.4f})"
    if reach["times"] is None:
        return f"{told}; on a straight line they do not reach {aim}"
    guess = ", continued beyond what was run: a guess" if reach["beyond"] else ""
    return (
        f"{told}; on a straight line they reach {aim} with {reach['times']:.3g} times its "
        f"seconds{guess}"
    )


def measures_of(content: Mapping[str, Any]) -> list[str]:
    """All measures of the cells: the metric, those that statements are about, then the others."""
    named = [content["metric"], *(s["measure"] for s in content["statements"])]
    there = [m for c in content["cells"] for m in c["values"]]
    return [m for m in dict.fromkeys([*named, *there]) if m in there]


def told(values: Sequence[float]) -> str:
    """'0.412 ± 0.003 (3)'; of one value itself, of none a dash."""
    if not values:
        return "-"
    mean, spread = mean_and_spread(values)
    return f"{figure(mean)} ± {figure(spread)} ({len(values)})" if len(values) > 1 else figure(mean)


def figure(value: float) -> str:
    """A number for a table: three digits behind the point for parts of one, fewer for large
    ones."""
    return (
        f"{value:.3f}"
        if abs(value) < 10
        else f"{value:.1f}"
        if abs(value) < 1000
        else f"{value:,.0f}"
    )


def study_plot(content: Mapping[str, Any], source: Path) -> str:
    """The metric of each arm: a dot for each seed, mean and standard deviation. Raises RunError
    when `source`, whose content it is, has another form; nothing where nothing is measured."""
    try:
        metric, values = str(content["metric"]), by_arm(content["cells"])
        rows = [
            Dots(str(a), list(column(values, str(a), metric).values())) for a in content["arms"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{source} needs arms, metric and cells of arm, seed and values; got {error!r}"
        ) from None
    known = [r for r in rows if r.values and all(map(math.isfinite, r.values))]
    return dot_plot(metric, known) if known else ""
