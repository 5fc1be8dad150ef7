"""What a claim says of the arms, and whether the numbers bear it out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from genseg.measure.paired import Difference, paired_difference

Word = Literal["supported", "against", "open"]
# arm -> seed -> measure -> value
Values = Mapping[str, Mapping[int, Mapping[str, float]]]
FORM = 'write it as "a > b", "a - b > c - d on linear" or "a > b + 0.01", with spaces between'
NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")


@dataclass(frozen=True)
class Statement:
    """That a sum of arms' numbers is above 0.

    terms: sign and name of an arm
    constant: added to the sum
    measure: whose numbers; None: the study's metric
    """

    text: str
    terms: tuple[tuple[int, str], ...]
    constant: float = 0.0
    measure: str | None = None

    @property
    def arms(self) -> set[str]:
        return {name for _, name in self.terms}


@dataclass(frozen=True)
class Judged:
    """What came of a statement: its left side less its right one, in pairs of equal seeds."""

    text: str
    measure: str
    difference: Difference

    @property
    def word(self) -> Word:
        """supported or against where the difference is clear (Student's t over the seeds), else
        open."""
        d = self.difference
        if not d.clear:
            return "open"
        return "supported" if d.mean > 0 else "against"

    @property
    def numbers(self) -> str:
        """'+0.0512 ± 0.0040 over 3 seeds'; the part after ± is the standard error."""
        d = self.difference
        if d.pairs < 2:
            return f"{d.mean:+.4f}, one seed" if d.pairs else "not measured"
        return f"{d.mean:+.4f} ± {d.error:.4f} over {d.pairs} seeds"


def parse_statement(text: str) -> Statement:
    """`a - b > c + 0.01 on linear`: arms and numbers joined by + and -, compared by > or <. Raises
    ValueError for what is none."""
    body, on, measure = text.partition(" on ")
    words = body.split()
    if on and len(measure.split()) != 1:
        raise ValueError(f"statements: {text!r} is none: one measure follows on; {FORM}")
    if sum(w in "<>" for w in words) != 1 or len(words) % 2 == 0:
        raise ValueError(f"statements: {text!r} is none; {FORM}")
    flip, side, sign = (-1 if "<" in words else 1), 1, 1
    terms, constant = list[tuple[int, str]](), 0.0
    for n, word in enumerate(words):
        if n % 2:
            if word not in ("+", "-", "<", ">"):
                raise ValueError(f"statements: {text!r} is none; {FORM}")
            side = -1 if word in "<>" else side
            sign = -1 if word == "-" else 1
        elif word in ("+", "-", "<", ">"):
            raise ValueError(f"statements: {text!r} is none; {FORM}")
        elif NUMBER.fullmatch(word):
            constant += flip * side * sign * float(word)
        else:
            terms.append((flip * side * sign, word))
    if not terms:
        raise ValueError(f"statements: {text!r} names no arm; {FORM}")
    return Statement(text, tuple(terms), constant, measure.strip() or None)


def judge(statement: Statement, values: Values, metric: str) -> Judged:
    """A statement on the seeds of which all its arms have the number."""
    measure = statement.measure or metric
    known = [
        {s for s, found in values.get(arm, {}).items() if measure in found}
        for arm in sorted(statement.arms)
    ]
    seeds = sorted(set.intersection(*known))
    sums = [
        statement.constant + sum(sign * values[arm][s][measure] for sign, arm in statement.terms)
        for s in seeds
    ]
    return Judged(statement.text, measure, paired_difference(sums, [0.0] * len(sums)))


def verdict(words: Sequence[Word]) -> Word:
    """Of a claim: supported where all that it says is, against where anything speaks against it,
    else open."""
    if "against" in words:
        return "against"
    return "supported" if words and set(words) == {"supported"} else "open"
