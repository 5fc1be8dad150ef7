"""Configuration: a frozen dataclass, filled from its defaults, then a YAML file, then `key=value`.

OmegaConf reads and writes YAML (1e-3 is a number, a repeated key an error) and resolves
`${other.key}`. Types are checked by our own schema and not by OmegaConf's structured configs: those
read `flag: 1` as true and `name: on` as the text 'True', have no section whose schema depends on a
name, and their messages know neither file nor line.
"""

import dataclasses
import difflib
import functools
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import MISSING, dataclass, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from genseg.schema import (
    Choices,
    ConfigError,
    Key,
    MissingKey,
    as_text,
    checked,
    default_name,
    inside,
    is_text,
    key_help,
    keys_of,
    members,
    nearest,
    wanted,
)

__all__ = ["ConfigError", "difference", "flatten", "key_help", "load", "to_yaml"]

_T = TypeVar("_T")
_LINE = "command line"


@dataclass(frozen=True)
class _Given:
    value: Any
    source: str
    verbatim: bool = False  # text of the command line, not yet read as YAML


def load(
    schema: type[_T],
    *,
    file: Path | None,
    overrides: Sequence[str],
    choices: Choices | None = None,
    standins: Sequence[str] = (),
) -> _T:
    """The defaults of `schema`, changed by the YAML `file`, then by `overrides` such as
    "optimizer.lr=0.1".

    Sections merge key by key and lists are replaced. The entries of a `dict[str, Dataclass]` are
    those that the file lists, else those of the default; "views.local.count=4" changes one,
    "views.local={count: 4}" may also add one. `choices` holds the dataclasses of each chosen
    section, such as "method", by name: the section's key `name` selects one. `standins` are values
    for keys that neither gives. Raises ConfigError with the key, its source and the remedy.
    """
    choices = choices or {}
    read = {} if file is None else _from_file(file)
    given = _from_command_line(standins) | read | _from_command_line(overrides)
    names = _names(schema, choices, given)
    chosen = {section: choices[section][name] for section, name in names.items()}
    dicts = set[str]()

    def entries(key: str, default: Mapping[str, Any], text: bool) -> list[str]:
        dicts.add(key)
        return _entries(given, key, default, text)

    keys = keys_of(schema, entries, chosen)
    sections = {key[:i] for key in keys for i, letter in enumerate(key) if letter == "."}
    for key, got in given.items():
        if key in sections and got.value != {}:
            raise ConfigError(
                f"{_got(key, got)}, but it is a section; its keys are {inside(key, keys)}"
            )
        if key not in keys and key not in sections:
            advice = _elsewhere(key, choices, names) or nearest(key, keys) + _addable(
                key, keys, dicts
            )
            raise ConfigError(f"unknown key {key} ({got.source}); {advice}")
    return cast(_T, _make(schema, _values(keys, given), chosen))


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Full key -> str, int, float, bool, None or a tuple of these, in the order of the fields."""
    flat: dict[str, Any] = {}
    for name, value in _items(config):
        if is_dataclass(value) or isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def to_yaml(config: Any) -> str:
    """Every key with its value, in the order of the fields. `load` makes an equal config of it."""
    return str(OmegaConf.to_yaml(OmegaConf.create(_plain(config))))


def difference(a: Any, b: Any) -> list[str]:
    """Lines `key: value in a -> value in b`, one for each key whose values differ."""
    old, new = (
        {key: as_text(value) for key, value in flatten(config).items()} for config in (a, b)
    )
    absent = "(no such key)"
    changed = [key for key in old | new if old.get(key) != new.get(key)]
    return [f"{key}: {old.get(key, absent)} -> {new.get(key, absent)}" for key in changed]


# Sources: what was given, and where


def _from_file(file: Path) -> dict[str, _Given]:
    try:
        text = file.read_text(encoding="utf-8")
        values = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {file} cannot be read: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"config file {file}{line} is not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"config file {file} is not valid YAML: {error}") from None
    except RecursionError:
        raise ConfigError(
            f"config file {file}: its sections are nested too deep for a recipe"
        ) from None
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(
            f"config file {file} has to hold `key: value` lines, but it is a {node.id}"
        )
    return _leaves(values, str(file), dict(_lines(node, str(file))))


def _lines(node: yaml.MappingNode, file: str, prefix: str = "") -> Iterator[tuple[str, int]]:
    for name, value in node.value:
        key, line = f"{prefix}{name.value}", name.start_mark.line + 1
        if name.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            raise ConfigError(
                f"key {key} ({file}:{line}): YAML does not read it as text; put it in quotes"
            )
        yield key, line
        if isinstance(value, yaml.MappingNode):
            yield from _lines(value, file, key + ".")


def _from_command_line(overrides: Sequence[str]) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(
                f"{override!r} ({_LINE}) is not of the form key=value, as in optimizer.lr=0.1"
            )
        value = _yaml(key, text) if text.startswith("{") else None
        if value == {}:
            raise ConfigError(f"{override} ({_LINE}) changes nothing; name a key")
        got = _Given(text, _LINE, verbatim=True)
        _add(given, _leaves({key: value}, _LINE, {}) if isinstance(value, dict) else {key: got})
    return given


def _leaves(
    values: Any, source: str, lines: Mapping[str, int], prefix: str = ""
) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and value:
            _add(given, _leaves(value, source, lines, key + "."))
        else:
            _add(given, {key: _Given(value, f"{source}:{lines[key]}" if key in lines else source)})
    return given


def _add(given: dict[str, _Given], more: dict[str, _Given]) -> None:
    for key in given.keys() & more.keys():
        raise ConfigError(f"{key} is given twice ({more[key].source}); give it once")
    given |= more


def _yaml(key: str, text: str) -> Any:
    try:
        parsed: Any = OmegaConf.to_container(
            OmegaConf.from_dotlist([f"value={text}"]), resolve=False
        )
    except (yaml.YAMLError, OmegaConfBaseException):
        raise ConfigError(
            f"{key}={text} ({_LINE}): the value is not valid YAML; try it in quotes"
        ) from None
    return parsed["value"]


# Schema: what was given fixes the names in a dict and the dataclass of a chosen section


def _entries(
    given: Mapping[str, _Given], key: str, default: Mapping[str, Any], text: bool
) -> list[str]:
    """text: the entries are texts, so all that follows the key is a name, with its dots."""
    below = {k: got for k, got in given.items() if f"{k}.".startswith(f"{key}.")}
    listed = any(got.source != _LINE for got in below.values())
    if text:
        texts = sorted([k[len(key) + 1 :] for k in below if k != key])
        for one, other in itertools.pairwise(texts):
            if other.startswith(f"{one}."):
                raise ConfigError(f"{key}: {one} and {other} cannot both be names in it")
        return list(dict.fromkeys([*([] if listed else default), *texts]))
    names = [
        k[len(key) + 1 :].split(".")[0] for k, got in below.items() if k != key and not got.verbatim
    ]
    return list(dict.fromkeys([*([] if listed else default), *names]))


def _names(schema: type, choices: Choices, given: Mapping[str, _Given]) -> dict[str, str]:
    names: dict[str, str] = {}
    for section, kinds in choices.items():
        key = f"{section}.name"
        above = {other: choices[other][name] for other, name in names.items()}
        try:
            default = default_name(schema, section, above)
        except LookupError:  # of a section that lies in another one, which is chosen without it
            continue
        got = given.get(key, _Given(default, "default"))
        if got.value is None:
            raise MissingKey(f"missing: {key}; choose one of {', '.join(kinds)}")
        if got.value not in list(kinds):
            raise ConfigError(
                f"{_got(key, got)}, wanted {' | '.join(kinds)}{_meant(got.value, kinds)}"
            )
        names[section] = got.value
    return names


def _addable(key: str, keys: Mapping[str, Key], dicts: Set[str]) -> str:
    """How to add the entry of a key to its section, where that may have more of them."""
    section, _, last = key.rpartition(".")
    owner, _, name = section.rpartition(".")
    if owner in dicts and any(k.startswith(f"{owner}.") and k.endswith(f".{last}") for k in keys):
        return f" {owner}.{name}={{{last}: VALUE, ...}} adds {name}"
    return ""


def _meant(value: Any, words: Iterable[Any]) -> str:
    """A question after the word that is most like a value, or nothing."""
    near = difflib.get_close_matches(str(value), [w for w in words if isinstance(w, str)], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _elsewhere(key: str, choices: Choices, names: Mapping[str, str]) -> str:
    """A sentence when the key belongs to a chosen section under another name."""
    entries = functools.partial(_entries, {key: _Given(None, _LINE)})

    def owns(kind: type, section: str) -> bool:
        keys = keys_of(kind, entries, {}, section + ".")
        inner = (s for s in choices if s in keys)  # a section in it that is chosen, too
        return key in keys or any(
            key == f"{s}.name" or owns(k, s) for s in inner for k in choices[s].values()
        )

    for section, name in names.items():
        owners = [other for other, kind in choices[section].items() if owns(kind, section)]
        if owners and name not in owners:
            return f"{section}.name is {name}, but this key belongs to {', '.join(owners)}"
    return ""


# Values: read, resolved, checked, put together


def _values(keys: Mapping[str, Key], given: Mapping[str, _Given]) -> dict[str, Any]:
    missing = [key for key, entry in keys.items() if entry.default is MISSING and key not in given]
    if missing:
        types = ", ".join(f"{key} ({wanted(keys[key].hint)})" for key in missing)
        raise MissingKey(f"missing: {types}; give it as key=value or in the config file")
    tree: Any = {}
    for key, entry in keys.items():
        *path, last = key.split(".")
        section = functools.reduce(lambda node, part: node.setdefault(part, {}), path, tree)
        section[last] = _read(key, given[key], entry.hint) if key in given else entry.default
        if key in given and _calls(section[last]):
            raise ConfigError(
                f"{_got(key, given[key])}: a recipe may refer to its own keys, as in ${{seed}}, "
                "and calls no function: that would copy the machine's secrets into config.yaml; "
                "write the value itself"
            )
    try:
        tree = OmegaConf.to_container(OmegaConf.create(tree), resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = str(error.full_key).split("[")[0]
        source = given[key].source if key in given else "default"
        raise ConfigError(f"{key} ({source}): {str(error).splitlines()[0]}") from None
    values = {}
    for key, entry in keys.items():
        value: Any = functools.reduce(lambda node, part: node[part], key.split("."), tree)
        got = _Given(value, given[key].source if key in given else "default")
        try:
            values[key] = checked(entry.hint, value)
        except TypeError:
            remedy = (
                "; put it in quotes"
                if is_text(entry.hint) and isinstance(value, int | float)
                else ""
            )
            remedy = remedy or _meant(value, get_args(entry.hint))
            if (
                isinstance(value, float)
                and value.is_integer()
                and int in (entry.hint, *get_args(entry.hint))
            ):
                remedy = f"; write {int(value)}"
            raise ConfigError(f"{_got(key, got)}, wanted {wanted(entry.hint)}{remedy}") from None
    return values


def _calls(value: Any) -> bool:
    """Whether a text, or one in a list, has an interpolation that calls something, as
    ${oc.env:HOME} does."""
    if isinstance(value, list | tuple):
        return any(map(_calls, value))
    if not isinstance(value, str):
        return False
    depth = 0
    for part in re.findall(r"\\.|\$\{|[:}]", value, re.DOTALL):  # what a backslash escapes is text
        if part == ":" and depth:
            return True
        depth += {"${": 1, "}": -1 if depth else 0}.get(part, 0)
    return False


def _read(key: str, got: _Given, hint: Any) -> Any:
    """The value of an override. A key of text takes it as it stands, unless null, empty or in
    quotes."""
    if not got.verbatim:
        return got.value
    plain = got.value != "null" and got.value[:1] not in ("", "'", '"')
    return got.value if is_text(hint) and plain else _yaml(key, got.value)


def _make(
    kind: Any, values: Mapping[str, Any], chosen: Mapping[str, type], prefix: str = ""
) -> Any:
    made: dict[str, Any] = {}
    for name, hint, _ in members(kind):
        key = prefix + name
        inner = chosen.get(key, hint)
        if is_dataclass(inner):
            made[name] = _make(inner, values, chosen, key + ".")
        elif get_origin(inner) is dict:
            below = [k[len(key) + 1 :] for k in values if k.startswith(key + ".")]
            entries = dict.fromkeys(k.split(".")[0] for k in below)
            texts = get_args(inner)[1] is str
            made[name] = (
                {e: values[f"{key}.{e}"] for e in below}
                if texts
                else {e: _make(get_args(inner)[1], values, chosen, f"{key}.{e}.") for e in entries}
            )
        else:
            made[name] = values[key]
    try:
        return kind(**made)
    except ValueError as error:  # the dataclass's own checks
        raise ConfigError(f"{prefix.rstrip('.') or 'config'}: {error}") from None


def _got(key: str, got: _Given) -> str:
    return f"{key}: got {json.dumps(got.value, default=str)} ({got.source})"


def _items(config: Any) -> list[tuple[str, Any]]:
    if isinstance(config, dict):
        return list(config.items())
    return [(field.name, getattr(config, field.name)) for field in dataclasses.fields(config)]


def _plain(value: Any) -> Any:
    """Dicts, lists and scalars; a text's own "${" is escaped, so that it stays text."""
    if is_dataclass(value) or isinstance(value, dict):
        return {name: _plain(inner) for name, inner in _items(value)}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value
