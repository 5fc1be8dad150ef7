"""Schema: the help of every key, types as a reader writes them, and the nearest key."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from genseg.config import flatten, load
from genseg.schema import (
    Key,
    checked,
    defaults_of,
    is_text,
    key_help,
    nearest,
    wanted,
    without_new,
)
from genseg.workflows.pretrain.config import CHOICES, PretrainConfig


@dataclass(frozen=True)
class View:
    count: int = 2  # crops of each image
    size: int = 64


@dataclass(frozen=True)
class MoCo:
    name: str = "moco"
    queue: int = 65536  # keys kept: a multiple of the batch


@dataclass(frozen=True)
class Base:
    seed: int = 0  # of everything random


@dataclass(frozen=True)
class Config(Base):
    path: str = "# no comment"
    mean: tuple[float, float] = (
        0.5,
        0.25,
    )  # of the channels
    method: Any = None
    tag: str | None = None
    # above the line,
    #: in two lines
    run: str = ""
    other: str = ""


@dataclass(frozen=True)
class Needs:
    views: dict[str, View]
    data: str  # folder
    method: Any = MoCo(queue=5)


def test_help_lists_every_key_with_type_default_and_comment() -> None:
    lines = key_help(Needs, {"method": {"moco": MoCo}}).splitlines()
    assert [line.split() for line in lines] == [
        ["views.<name>.count", "int", "2", "crops", "of", "each", "image"],
        ["views.<name>.size", "int", "64"],
        ["data", "str", "(required)", "folder"],
        ["method.name", "moco", "moco", "selects", "the", "keys", "below"],
        [],
        ["with", "method.name=moco"],
        ["method.queue", "int", "65536", "keys", "kept:", "a", "multiple", "of", "the", "batch"],
    ]
    assert len({line.index(" int ") for line in lines if " int " in line}) == 1, (
        "columns are aligned"
    )


def test_help_reads_inherited_fields_and_those_over_several_lines() -> None:
    lines = key_help(Config, {}).splitlines()
    ends = {line.split()[0]: line for line in lines}
    assert ends["seed"].endswith("of everything random")
    assert ends["mean"].endswith("[0.5, 0.25]   of the channels")
    assert ends["path"].endswith("# no comment")
    assert ends["run"].endswith("above the line, in two lines")
    assert ends["other"].endswith('""'), "the comment of another field is not its own"


@pytest.mark.parametrize(
    ("hint", "text", "good", "bad"),
    [
        (int, "int", [3], [3.0, True, "3", None]),
        (float, "float", [3.5, float("inf")], [False, "3", None, [1.0]]),
        (bool, "bool", [True], [1, "true", None]),
        (str, "str", ["", "x"], [1, None, False]),
        (int | None, "int | null", [3, None], [1.5, "null"]),
        (Literal["a", "b"], "a | b", ["a"], ["c", None]),
        (Literal[1, 2], "1 | 2", [1], [True, 1.0, 3]),
        (int | Literal["auto"], "int | auto", [1, "auto"], ["other", 1.5]),
        (tuple[int, str], "[int, str]", [(1, "a")], [(1,), ("a", 1), "ab", {}]),
        (tuple[int, ...], "[int, ...]", [(), (1, 2, 3)], [(1.5,), 1]),
        (tuple[tuple[int, int], ...], "[[int, int], ...]", [((1, 2), (3, 4))], [(1, 2)]),
        (tuple[int, int] | None, "[int, int] | null", [(1, 2), None], [(1,)]),
    ],
)
def test_a_type_takes_its_values_and_no_others(
    hint: Any, text: str, good: list[Any], bad: list[Any]
) -> None:
    assert wanted(hint) == text
    for value in good:
        assert checked(hint, value) == value
        if isinstance(value, tuple):
            assert checked(hint, list(value)) == value
    for value in bad:
        with pytest.raises(TypeError):
            checked(hint, value)


def test_only_keys_that_can_be_nothing_but_text_take_it_as_it_stands() -> None:
    assert [is_text(h) for h in (str, str | None, Literal["a"], Literal["a"] | None)] == [True] * 4
    assert [is_text(h) for h in (int, int | str, tuple[str, ...], Literal[1, 2], float | None)] == [
        False
    ] * 5


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("lr", "did you mean optimizer.lr?"),
        ("head.lr", "did you mean optimizer.lr?"),
        ("optimiser.lr", "did you mean optimizer.lr?"),
        ("heads.hidden_dim", "did you mean head.hidden?"),
        ("warmpu", "did you mean optimizer.warmup?"),
        ("optimizer.q", "the keys of optimizer are lr, warmup"),
        ("q", "the keys here are optimizer, head, steps"),
    ],
)
def test_the_nearest_key(key: str, expected: str) -> None:
    keys = {
        name: Key(int, 0, "")
        for name in ("optimizer.lr", "optimizer.warmup", "head.hidden", "steps")
    }
    assert nearest(key, keys) == expected


def test_a_key_that_came_later_counts_where_it_is_not_its_default() -> None:
    """A run of before such keys goes on; not with another value, though it begins alike."""
    config = load(
        PretrainConfig,
        file=None,
        overrides=["data.path=x", "run=y", "alpha.name=places", "method.name=byol"],
        choices=CHOICES,
    )
    usual, now = defaults_of(config), flatten(config)
    later = ("alpha.generate.stability", "alpha.decoder.grids", "encoder.in_channels")
    assert [usual[k] for k in later] == [0.0, (4, 8, 16), 3]
    assert usual["method.target.name"] == "ema" and "method.name" not in usual
    assert "run" not in usual  # it has none
    before = {k: v for k, v in now.items() if k not in later}
    assert without_new(now, before, usual) == before
    other = {**now, "alpha.generate.stability": 0.05, "encoder.in_channels": 32}
    assert without_new(other, before, usual).keys() - before.keys() == {
        "alpha.generate.stability",
        "encoder.in_channels",
    }
    assert without_new(other, now, usual) == other  # what the run knew always counts
