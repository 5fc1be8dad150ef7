"""What a config dataclass says about its keys: full name, type, default, help; and what a wrong one
may mean.

A schema is a frozen dataclass of str, int, float, bool, Literal, `X | None`, tuples of these,
further frozen dataclasses, `dict[str, Dataclass]` and `dict[str, str]`. A field without default has
to be given. The help of a key is the comment at the end of its field's line, or in the lines above
it. A chosen section, such as `method`, has its dataclass selected by its key `name`; in the schema
its type may be Any. It may lie in another one, as `method.target` does.
"""

import ast
import contextlib
import dataclasses
import difflib
import functools
import inspect
import io
import json
import textwrap
import tokenize
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, is_dataclass
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Choices = Mapping[str, Mapping[str, type]]  # section -> name -> dataclass
_T = TypeVar("_T")
# a dict's full key and default, and whether it is of text -> the names in it
Entries = Callable[[str, Mapping[str, Any], bool], list[str]]


class ConfigError(ValueError):
    """A key, a value or a file that does not fit the schema."""


class MissingKey(ConfigError):
    """A key that has no default was not given."""


class UnknownKey(ConfigError):
    """A key that the schema does not have."""


@dataclass(frozen=True)
class Key:
    """One key that holds a value."""

    hint: Any  # its type
    default: Any  # MISSING: has to be given
    help: str


def members(owner: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and default of each field of a dataclass. An instance's values are its
    defaults."""
    kind = owner if isinstance(owner, type) else type(owner)
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        yield (
            field.name,
            hints[field.name],
            default if owner is kind else getattr(owner, field.name),
        )


def keys_of(
    owner: Any, entries: Entries, chosen: Mapping[str, type | None], prefix: str = ""
) -> dict[str, Key]:
    """All keys below a dataclass or an instance, by full name. A section chosen to be None is left
    out."""
    keys: dict[str, Key] = {}
    comments = _comments(owner if isinstance(owner, type) else type(owner))
    for name, hint, default in members(owner):
        key = prefix + name
        kind = chosen.get(key, hint)
        if is_dataclass(kind):
            keys |= keys_of(default if type(default) is kind else kind, entries, chosen, key + ".")
        elif get_origin(kind) is dict:
            known, held = {} if default is MISSING else default, get_args(kind)[1]
            inside = entries(key, known, held is str)
            for entry in inside:
                if held is str:
                    keys[f"{key}.{entry}"] = Key(str, known.get(entry, ""), comments.get(name, ""))
                    continue
                keys |= keys_of(known.get(entry, held), entries, chosen, f"{key}.{entry}.")
            if not inside:
                keys[key] = Key(hint, {}, comments.get(name, ""))
        elif kind is not None:
            keys[key] = Key(hint, default, comments.get(name, ""))
    return keys


def default_name(schema: type, section: str, chosen: Mapping[str, type]) -> str | None:
    """The name that selects a chosen section's dataclass when none is given.

    chosen: the dataclasses of sections that it may lie in. Raises LookupError when theirs have no
    such section.
    """
    owner: Any = schema
    parts = section.split(".")
    for n, part in enumerate(parts, start=1):
        fields = {name: (hint, default) for name, hint, default in members(owner)}
        if part not in fields:
            raise LookupError(section)
        hint, default = fields[part]
        kind = chosen.get(".".join(parts[:n]), hint) if n < len(parts) else hint
        other = is_dataclass(kind) and type(default) is not kind
        owner = kind if other and (default is MISSING or kind is not hint) else default
    return getattr(owner, "name", None)


@functools.cache
def _comments(kind: type) -> dict[str, str]:
    """Field name -> the comment at the end of its line, or else in the lines above it."""
    found: dict[str, str] = {}
    for base in filter(is_dataclass, reversed(kind.__mro__)):
        try:
            source = textwrap.dedent(inspect.getsource(base))
        except (OSError, TypeError):  # made at run time: there is no text to read
            continue
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        comments = {
            t.start[0]: t.string.lstrip("#: ") for t in tokens if t.type == tokenize.COMMENT
        }
        alone = {
            n
            for n, line in enumerate(source.splitlines(), start=1)
            if line.lstrip().startswith("#")
        }
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                first = node.lineno
                while first - 1 in alone:
                    first -= 1
                above = " ".join(comments[n] for n in range(first, node.lineno))
                found[node.target.id] = comments.get(node.end_lineno or 0, above)
    return found


def key_help(schema: type, choices: Choices) -> str:
    """A table of all keys: type, default, help. The keys of a chosen section follow, once for each
    name."""

    def shown(key: str, default: Mapping[str, Any], text: bool) -> list[str]:
        return list(default) or ([] if text else ["<name>"])

    def listed(owner: type, prefix: str) -> dict[str, Key]:
        """The keys of a dataclass, and the name of each section in it that is chosen."""
        keys = keys_of(owner, shown, dict.fromkeys(choices), prefix)
        for section, kinds in choices.items():
            if _around(section, choices) == prefix.rstrip("."):
                with contextlib.suppress(LookupError):  # this dataclass has none
                    default = default_name(owner, section[len(prefix) :], {}) or MISSING
                    keys[f"{section}.name"] = Key(
                        Literal[tuple(kinds)], default, "selects the keys below"
                    )
        return keys

    parts = [("", listed(schema, ""))]
    for section, kinds in choices.items():
        for name, kind in kinds.items():
            keys = listed(kind, f"{section}.")
            del keys[f"{section}.name"]
            parts.append((f"with {section}.name={name}", keys))
    rows = [
        [(key, wanted(k.hint), as_text(k.default), k.help) for key, k in keys.items()]
        for _, keys in parts
    ]
    longest = [max(len(row[column]) for part in rows for row in part) for column in range(3)]
    # a few lists are longer: they move their own line alone
    width = [longest[0], *(min(n, 26) for n in longest[1:])]
    lines = []
    for (title, _), part in zip(parts, rows, strict=True):
        lines += ["", title] if title else []
        lines += [
            f"{k:{width[0]}}  {t:{width[1]}}  {d:{width[2]}}  {h}".rstrip() for k, t, d, h in part
        ]
    return "\n".join(lines)


def _around(section: str, choices: Choices) -> str:
    """The chosen section that a chosen section lies in, or nothing."""
    return max((other for other in choices if section.startswith(f"{other}.")), default="", key=len)


# Types


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def is_text(hint: Any) -> bool:
    """Whether a value of this type can be nothing but text, or null."""
    return all(str in (o, *map(type, get_args(o))) for o in _options(hint) if o is not type(None))


def checked(hint: Any, value: Any) -> Any:
    """The value in its type: integers become floats, lists tuples. Raises TypeError when it does
    not fit."""
    for option in _options(hint):
        if type(value) is option or (get_origin(option) is dict and value == {}):
            return value
        if option is float and type(value) is int:
            return float(value)
        if get_origin(option) is Literal and any(
            type(v) is type(value) and v == value for v in get_args(option)
        ):
            return value
        if get_origin(option) is tuple and isinstance(value, list | tuple):
            parts = get_args(option)
            parts = parts[:1] * len(value) if parts[1:] == (...,) else parts
            if len(parts) == len(value):
                return tuple(map(checked, parts, value))
    raise TypeError(wanted(hint))


def wanted(hint: Any) -> str:
    """A type as a reader of YAML writes it: int | null, [float, float], a | b."""
    if get_origin(hint) is tuple:
        return f"[{', '.join('...' if part is ... else wanted(part) for part in get_args(hint))}]"
    if get_origin(hint) is Literal:
        return " | ".join(map(str, get_args(hint)))
    if len(_options(hint)) > 1:
        return " | ".join(map(wanted, _options(hint)))
    return {dict: "a section", type(None): "null"}.get(get_origin(hint) or hint) or str(
        hint.__name__
    )


def as_text(value: Any) -> str:
    """A value as YAML writes it on one line; text unchanged."""
    if value is MISSING:
        return "(required)"
    return value if isinstance(value, str) and value else json.dumps(value, default=str)


# Values that a program has written


def build(kind: type[_T], values: Any, *, choices: Choices | None = None, section: str = "") -> _T:
    """The instance of a dataclass that `values`, as JSON reads them, describe. A key that is left
    out has its default.

    `choices` are the dataclasses of a chosen section, as for `config.load`. Raises UnknownKey,
    MissingKey, or ConfigError where a value does not fit; each names the full key and what was got.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{section or 'facts'}: got {_short(values)}, wanted a section")
    prefix, made, left = section + "." if section else "", dict[str, Any](), dict(values)
    for name, hint, default in members(kind):
        if name in left:
            made[name] = _built(hint, left.pop(name), choices or {}, prefix + name)
        elif default is MISSING:
            raise MissingKey(f"{prefix}{name} is missing")
    if left:
        raise UnknownKey(f"unknown key {prefix}{_short(min(left)).strip(chr(34))}")
    try:
        return kind(**made)
    except ValueError as error:  # the dataclass's own checks
        raise ConfigError(f"{prefix.rstrip('.') or 'facts'}: {error}") from None


def _built(hint: Any, value: Any, choices: Choices, key: str) -> Any:
    """A value in its type; a section as its dataclass."""
    if key in choices:
        name = value.get("name") if isinstance(value, dict) else None
        if not isinstance(name, str) or name not in choices[key]:
            raise ConfigError(f"{key}.name: got {_short(name)}, wanted {' | '.join(choices[key])}")
        return build(choices[key][name], value, section=key)
    owner = next((option for option in _options(hint) if is_dataclass(option)), None)
    if owner is not None and not (value is None and type(None) in _options(hint)):
        return build(cast(type, owner), value, section=key)
    try:
        return checked(hint, value)
    except TypeError:
        raise ConfigError(f"{key}: got {_short(value)}, wanted {wanted(hint)}") from None


def _short(value: Any) -> str:
    """A value on one line of a message, however long or deep it is."""
    try:
        text = json.dumps(value, default=str)
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}, too deep or too long to show"
    return text if len(text) <= 60 else f"{text[:57]}..."


# Mistakes


def nearest(key: str, keys: Mapping[str, Key]) -> str:
    """What the unknown `key` may have meant: the same last part elsewhere, or like letters."""

    def likeness(other: str) -> tuple[bool, float, float]:
        (section, name), (other_section, other_name) = _split(key), _split(other)
        last = _ratio(name, other_name)
        full = last if section == other_section else _ratio(key, other)
        return name == other_name, full + last, max(full, last)

    best = max(keys, key=likeness)
    if likeness(best)[2] >= 0.6:
        return f"did you mean {best}?"
    section = key
    while section and not any(other.startswith(section + ".") for other in keys):
        section = section.rpartition(".")[0]
    return f"the keys {'of ' + section if section else 'here'} are {inside(section, keys)}"


def inside(section: str, keys: Mapping[str, Key]) -> str:
    """The names directly below a section ("": the whole), with commas."""
    start = section + "." if section else ""
    below = (key[len(start) :].split(".")[0] for key in keys if key.startswith(start))
    return ", ".join(dict.fromkeys(below))


def _split(key: str) -> tuple[str, str]:
    section, _, name = key.rpartition(".")
    return section, name


def _ratio(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()


def defaults_of(config: Any, prefix: str = "", usual: Any = None) -> dict[str, Any]:
    """Full key of a config -> its default, where it has one. usual: the section that the config has
    where nothing is given; a name that says which section it is has no other default."""
    found = dict[str, Any]()
    for field in dataclasses.fields(config):
        key, value = f"{prefix}{field.name}", getattr(config, field.name)
        default = field.default
        if field.default_factory is not MISSING:
            default = field.default_factory()
        if type(usual) is type(config):
            default = getattr(usual, field.name)
        if is_dataclass(value):
            found |= defaults_of(value, f"{key}.", default)
        elif isinstance(value, dict):
            for name, inner in value.items():
                if is_dataclass(inner):
                    found |= defaults_of(inner, f"{key}.{name}.")
        elif default is not MISSING and (field.name != "name" or type(usual) is type(config)):
            found[key] = default
    return found


def without_new(
    now: Mapping[str, Any], before: Mapping[str, Any], usual: Mapping[str, Any]
) -> dict[str, Any]:
    """Keys and values of a run without those that the version of genseg which began it did not
    know, where they have their default: that does what was done before. usual: the defaults."""
    return {k: v for k, v in now.items() if k in before or k not in usual or v != usual[k]}
