"""Sections of the report of a study."""

from collections.abc import Mapping
from typing import Any

from genseg.core.names import STUDY_NAME
from genseg.reports.run import Run
from genseg.runs.folder import RunError
from genseg.show.page import Section, table
from genseg.workflows.study.content import by_arm, column
from genseg.workflows.study.words import measures_of, numbers_of, sentence, study_plot, told


def said(run: Run) -> str:
    """The verdict on the claim; nothing for another run. Raises RunError when study.json has
    another form."""
    return "" if run.studied is None else _checked(run, sentence)


def arms(run: Run) -> Section | None:
    """Every number of every arm, the statements of the claim, the plot."""
    content = run.studied
    if content is None:
        return None
    plot = study_plot(content, run.path / STUDY_NAME)
    body = _checked(run, _table) + (f"<figure>{plot}</figure>" if plot else "")
    body += _checked(run, _statements) + _checked(run, _differences)
    return Section(
        "study",
        "Study",
        "What the arms are worth",
        body,
        "Mean ± standard deviation over seeds (how many). A seed draws all that is random, for all "
        "arms alike.",
    )


def likeness(run: Run) -> Section | None:
    """How alike the arms' features are."""
    content = run.studied
    if content is None or not content.get("cka"):
        return None
    names = list(dict.fromkeys(a for c in content["cka"] for a in c["arms"]))
    found = {tuple(c["arms"]): f"{c['mean']:.3f}" for c in content["cka"]}
    rows = [[one, *(found.get((one, o), found.get((o, one), "–")) for o in names)] for one in names]
    return Section(
        "cka",
        "Likeness",
        "How alike the arms' features of the same images are",
        table(["", *names], rows),
        "Linear CKA: 1 where one is the other turned and scaled. Of an arm with itself: between "
        "its seeds.",
    )


def predictors(run: Run) -> Section | None:
    """Which number predicts the one that the study asks for."""
    content = run.studied
    if content is None or not content.get("correlations"):
        return None
    rows = [
        [r["measure"], f"{r['rho']:+.2f}", f"{r['low']:+.2f} to {r['high']:+.2f}", str(r["arms"])]
        for r in content["correlations"]
    ]
    return Section(
        "predictors",
        "Predictors",
        f"Which number goes with {content['correlate']}",
        table(["measure", "rank correlation", "95 % by bootstrap", "arms"], rows),
        "Spearman's, over arms by the mean of their seeds.",
    )


def _table(content: Mapping[str, Any]) -> str:
    values, names = by_arm(content["cells"]), measures_of(content)
    rows = [
        [str(arm), *(told(list(column(values, str(arm), n).values())) for n in names)]
        for arm in content["arms"]
    ]
    return table(["", *names], rows)


def _statements(content: Mapping[str, Any]) -> str:
    rows = [[s["text"], s["measure"], numbers_of(s), s["verdict"]] for s in content["statements"]]
    head = ["statement", "measure", "difference ± standard error", ""]
    return f"<h3>The claim</h3>{table(head, rows)}" if rows else ""


def _differences(content: Mapping[str, Any]) -> str:
    rows = [
        [d["arm"], numbers_of(d), "clear" if d["clear"] else "not clear"]
        for d in content["differences"]
    ]
    if not rows:
        return ""
    head = [f"against {content['arms'][0]}", f"{content['metric']} ± standard error", ""]
    note = "In pairs of equal seeds. Chance alone calls one difference in twenty clear."
    return f"<h3>Differences</h3>{table(head, rows)}<p>{note}</p>"


def _checked(run: Run, make: Any) -> str:
    """What `make` says of study.json. Raises RunError when that has another form."""
    try:
        return str(make(run.studied))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{run.path / STUDY_NAME} is not what genseg study writes ({error!r}); make it anew"
        ) from None
