"""Sections of a config that lie in others: chosen ones, and those of texts."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from genseg.config import ConfigError, key_help, load, to_yaml


@dataclass(frozen=True)
class Still:
    name: str = "still"


@dataclass(frozen=True)
class Named:
    file: str
    name: str = "named"
    names: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plain:
    name: str = "plain"


@dataclass(frozen=True)
class Aimed:
    name: str = "aimed"
    target: Any = Still()


@dataclass(frozen=True)
class Nested:
    method: Any = Plain()


INNER = {
    "method": {"plain": Plain, "aimed": Aimed},
    "method.target": {"still": Still, "named": Named},
}


def nested(*overrides: str, file: Path | None = None) -> Nested:
    return load(Nested, file=file, overrides=overrides, choices=INNER)


def test_a_chosen_section_may_lie_in_another(tmp_path: Path) -> None:
    assert nested() == Nested()
    assert nested("method.name=aimed") == Nested(Aimed())
    named = ["method.name=aimed", "method.target.name=named", "method.target.file=x"]
    config = nested(*named)
    assert config == Nested(Aimed(target=Named("x")))
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    assert nested(file=tmp_path / "c.yaml") == config
    for words, complaint in (
        (["method.target.name=still"], "method.name is plain, but this key belongs to aimed"),
        (["method.target.file=x"], "method.name is plain, but this key belongs to aimed"),
        (
            ["method.name=aimed", "method.target.file=x"],
            "method.target.name is still, but this key belongs to named",
        ),
        (["method.name=aimed", "method.target.name=stil"], "wanted still | named; did you mean"),
        (named[:2], "missing: method.target.file"),
    ):
        with pytest.raises(ConfigError, match=re.escape(complaint)):
            nested(*words)


def test_a_section_of_texts_has_any_names(tmp_path: Path) -> None:
    """With dots, too; a file's replace the default's, the command line's are added."""
    named = ["method.name=aimed", "method.target.name=named", "method.target.file=x"]
    one = nested(*named, "method.target.names.no. 5=number five")
    assert one.method.target.names == {"no. 5": "number five"}
    many = nested(*named, 'method.target.names={a b: "c d", cat: lion}')
    assert many.method.target.names == {"cat": "lion", "a b": "c d"}
    (tmp_path / "c.yaml").write_text("method: {target: {names: {no. 5: five, x: y}}}")
    read_back = nested(*named, file=tmp_path / "c.yaml")
    assert read_back.method.target.names == {"no. 5": "five", "x": "y"}
    (tmp_path / "d.yaml").write_text(to_yaml(read_back))
    assert nested(file=tmp_path / "d.yaml") == read_back
    with pytest.raises(ConfigError, match="a and a.b cannot both be names"):
        nested(*named, "method.target.names={a: x, a.b: y}")
    with pytest.raises(ConfigError, match="got 3 .command line., wanted str; put it in quotes"):
        nested(*named, "method.target.names={a: 3}")


def test_the_help_lists_a_nested_section_where_it_is() -> None:
    lines = [line.split()[0:3] for line in key_help(Nested, INNER).splitlines() if line]
    assert lines == [
        ["method.name", "plain", "|"],
        ["with", "method.name=plain"],
        ["with", "method.name=aimed"],
        ["method.target.name", "still", "|"],
        ["with", "method.target.name=still"],
        ["with", "method.target.name=named"],
        ["method.target.file", "str", "(required)"],
        ["method.target.names", "a", "section"],
    ]
