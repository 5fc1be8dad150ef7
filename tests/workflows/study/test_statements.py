"""Statements: read as they are written, judged by Student's t, added up to a verdict."""

import numpy as np
import pytest
from scipy import stats

from genseg.workflows.study.statements import judge, parse_statement, verdict


@pytest.mark.parametrize(
    ("text", "terms", "constant", "measure"),
    [
        ("a > b", {"a": 1, "b": -1}, 0, None),
        ("a < b on linear", {"a": -1, "b": 1}, 0, "linear"),
        ("a - b > c - d", {"a": 1, "b": -1, "c": -1, "d": 1}, 0, None),
        ("no-head > b + 0.5", {"no-head": 1, "b": -1}, -0.5, None),
        ("a - 0.5 < b", {"a": -1, "b": 1}, 0.5, None),
    ],
)
def test_a_statement_is_a_sum_above_0(
    text: str, terms: dict[str, int], constant: float, measure: str | None
) -> None:
    read = parse_statement(text)
    assert {arm: sign for sign, arm in read.terms} == terms == dict.fromkeys(terms) | terms
    assert (read.constant, read.measure, read.arms) == (constant, measure, set(terms))


@pytest.mark.parametrize("text", ["a", "a b", "a > b > c", "> a", "a * b > c", "1 > 2", "a > b on"])
def test_what_is_no_statement_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="statements: .* write it as"):
        parse_statement(text)


def values(**arms: list[float]) -> dict[str, dict[int, dict[str, float]]]:
    return {arm: {s: {"knn": v} for s, v in enumerate(of)} for arm, of in arms.items()}


def test_the_difference_is_that_of_students_t_over_equal_seeds() -> None:
    rng = np.random.default_rng(0)
    a, b, c = rng.normal([0.5, 0.4, 0.1], 0.05, (6, 3)).T.tolist()
    found = judge(parse_statement("a - b > c"), values(a=a, b=b, c=c), "knn")
    sums = [x - y - z for x, y, z in zip(a, b, c, strict=True)]
    told = stats.ttest_1samp(sums, 0)
    assert found.difference.mean / found.difference.error == pytest.approx(told.statistic)
    assert (found.word == "open") == (told.pvalue >= 0.05) and found.difference.pairs == 6
    shorter = values(a=a, b=b[:2], c=c)  # the seeds that all have
    assert judge(parse_statement("a - b > c"), shorter, "knn").difference.pairs == 2


def test_words_follow_from_numbers() -> None:
    known = values(a=[0.5, 0.51, 0.52], b=[0.1, 0.12, 0.11], c=[0.4, 0.6, 0.5])
    words = {t: judge(parse_statement(t), known, "knn").word for t in ("a > b", "a < b", "a > c")}
    assert words == {"a > b": "supported", "a < b": "against", "a > c": "open"}
    one = judge(parse_statement("a > b"), values(a=[0.5], b=[0.1]), "knn")
    assert (one.word, one.numbers) == ("open", "+0.4000, one seed")
    none = judge(parse_statement("a > b on linear"), known, "knn")
    assert (none.word, none.numbers, none.measure) == ("open", "not measured", "linear")
    assert judge(parse_statement("a > b"), known, "knn").numbers.endswith(" over 3 seeds")
    assert verdict(["supported", "supported"]) == "supported"
    assert verdict(["supported", "open", "against"]) == "against"
    assert verdict(["supported", "open"]) == "open" == verdict([])
