"""Write docs/reference/ from the code: commands, keys, the Python API, the files of a run.

    python tools/reference.py
    python tools/reference.py --check

The pages are committed; --check names those that the code has left behind, and ends with 1.
"""

import argparse
import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import genseg
from genseg import cli
from genseg.config import key_help
from genseg.data.instances.instance import Instance
from genseg.model import Model
from genseg.workflows.energy.config import CHOICES as ENERGY_CHOICES
from genseg.workflows.energy.config import EnergyConfig
from genseg.workflows.finetune.config import CHOICES as FINETUNE_CHOICES
from genseg.workflows.finetune.config import FinetuneConfig
from genseg.workflows.generate.instances import Instances
from genseg.workflows.pretrain.config import CHOICES as PRETRAIN_CHOICES
from genseg.workflows.pretrain.config import PretrainConfig
from genseg.workflows.study.config import StudyConfig

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 100  # columns of a help text, on every terminal
PICTURE = "str | Path | Image | ndarray"  # genseg.model.Picture, as a signature spells it

COMMANDS = """\
Each command explains itself by `--help`; here are the same texts. `genseg --version` tells the
version.

A command ends with 0 when it is done, with 1 when it broke, and with 2 when you can mend it: its
message then says how. A command that was asked to end has 130 (Ctrl-C), 143 (SIGTERM) or 129
(SIGHUP); the same command goes on."""

KEYS = """\
A recipe is a YAML file with some of these keys. The rest have their defaults, and `key=value` on
the command line comes last:

```bash
genseg pretrain --config simclr data.path=FOLDER run=RUN optimizer.lr=0.1
```

The columns are key, type, default and meaning. `--keys` prints this table, `--print-config` the
values that a command would use. A section such as `method` has further keys for each `name`; they
stand below `with method.name=...`."""

API = """\
`import genseg` has a function for each command, and `genseg.load` for everything that a run can do
with an image. A function writes what its command writes, returns numbers and paths, and raises
ValueError for what you can mend. A key of a recipe is given as `**{"optimizer.lr": 3e-4}`.

A `Picture` is the path of a file, a PIL image, or an array. The words in brackets after a type of
arrays are its shape: `Float32[ndarray, "n h w"]`."""

RESULTS = """\
What the functions return. `print(result)` says it in the words of the command; `result.text()`
gives them."""

RUN = """\
`genseg pretrain`, `genseg energy` and `genseg finetune` write all they make into the folder `run=`
(`genseg energy` also takes `--out`). Killed, the same command goes on there; `--fresh` starts over.
A folder that holds files of these names which are not of genseg is refused."""

# title -> name of a file -> what it holds
FILES: dict[str, dict[str, str]] = {
    "genseg pretrain": {
        "encoder.safetensors": "the encoder, with torchvision's key names; in its metadata method, "
        "mean, std, size, fingerprint of the data, version",
        "timm/": 'the same for `timm.create_model("local-dir:RUN/timm")`, where timm has this very '
        "network",
        "alpha.safetensors": "encoder and alpha decoder, for `genseg generate` (with the alpha "
        "task)",
        "energy.safetensors": "an energy for that decoder, for `--energy` (with "
        "`energy.shape.name`)",
        "banks/": "the proposals of each round (with the alpha task)",
        "snapshots/": "what was found in the same few images as training went on (with the alpha "
        "task)",
        "predicted/": "the same few images, masked, and what was predicted of them as training "
        "went on (with `method.name=simmim`)",
        "report.html": "a page to look at: curves, views, instances; one file, no network",
        "metrics.jsonl": "loss terms, learning rate, kNN and more, a line for each time",
        "config.yaml": "every key with its value",
        "env.json": "versions, machine, command",
        "broken.txt": "images that could not be read, with the reason",
        "checkpoints/": "everything needed to go on",
        "tensorboard/": "the numbers for TensorBoard (with `tracker=tensorboard`)",
        "evaluated/": "instances that `genseg evaluate alpha` has generated, for each json",
    },
    "genseg energy": {
        "energy.safetensors": "the energy, its ranking and calibration, and a digest of the "
        "alpha.safetensors that it is for",
        "report.html, metrics.jsonl, config.yaml, env.json, checkpoints/": "as of `genseg "
        "pretrain`",
    },
    "genseg finetune": {
        "best.safetensors": "the model with the best score on `data.val`",
        "model.safetensors": "the last one",
        "scores.json": "all numbers of the best one",
        "preflight.txt": "what is wrong with the labels, and what happens to it",
        "report.html": "curves, and predictions beside the labels",
        "metrics.jsonl, config.yaml, env.json, checkpoints/": "as of `genseg pretrain`",
    },
    "genseg generate --out DIR": {
        "instances.json": "COCO json: RLE or polygons, boxes, scores, one category",
        "alphas/": "a soft alpha map for each instance (with `--alphas`)",
        "cutouts/": "an RGBA picture for each instance (with `--cutouts`)",
        "report.html": "a page to look at",
        "settings.json": "what the command was given: another one in this folder is refused",
        "env.json": "versions, machine, command",
        "broken.txt": "images that could not be read, with the reason",
        "parts/": "the work of each process or shard, to go on from",
    },
    "genseg predict --out DIR": {
        "predictions.json": "COCO json with the categories of the training labels",
        "masks/": "a PNG of class numbers for each image (of a segmenter)",
        "rows.jsonl": "what is done so far, to go on from",
        "report.html, settings.json, env.json, broken.txt": "as of `genseg generate`",
    },
    "genseg study FILE --out DIR": {
        "STUDY/study.json": "claim, verdict, statements, and every number",
        "STUDY/table.txt, STUDY/plot.svg, STUDY/report.html": "the same to read",
        "cells/": "an encoder and its numbers for each arm and seed, by digest; studies share them",
        "lists/": "lists of images, of parts and of what is held out",
    },
    "genseg compare --out DIR": {
        "table.txt": "the table that the command prints",
        "plot.svg": "the same as curves",
        "compare.json": "every number",
        "report.html": "a page to look at",
        "cells/": "what each fine-tuning was and scored: ARM/N-labels/seed-N",
    },
    "genseg try": {
        "sheet.png": "images, instances and cut-outs in one picture",
        "images.txt": "which images were looked at",
        "found/": "their instances, as of `genseg generate`",
        "all else": "as of `genseg pretrain`",
    },
}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a page is old")
    check = parser.parse_args().check
    old = stale(ROOT / "docs" / "reference")
    for file, text in old.items():
        if check:
            print(f"{file.relative_to(ROOT)} is out of date: run python tools/reference.py")
        else:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, "utf-8")
    sys.exit(bool(check and old))


def stale(folder: Path) -> dict[Path, str]:
    """The pages in `folder` that are not what the code says, with the text that it asks for."""
    wanted = {folder / name: text() for name, text in PAGES.items()}
    return {f: t for f, t in wanted.items() if not f.is_file() or f.read_text("utf-8") != t}


# Commands


def commands() -> str:
    """Every command's help, by what one wants to do."""
    top = cli.parser()
    parts = ["# Commands", COMMANDS, _help(top)]
    inner = _below(top)
    for title, group in cli.COMMANDS.items():
        parts.append(f"## {_sentence(title)}")
        for name, command in group.items():
            parts += [f"### genseg {name}", f"{_sentence(command.SUMMARY)}.", _help(inner[name])]
            for kind, parser in _below(inner[name]).items():
                parts += [f"#### genseg {name} {kind}", _help(parser)]
    return _page(parts)


def _below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a parser's own commands, by name."""
    kinds = (a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {name: inner for choices in kinds for name, inner in (choices or {}).items()}


def _help(parser: argparse.ArgumentParser) -> str:
    raw = argparse.RawDescriptionHelpFormatter
    parser.formatter_class = functools.partial(raw, width=WIDTH - 2)
    vars(parser)["color"] = False  # Python 3.14 has colours, of a terminal
    return _code(parser.format_help())


# Keys


def keys() -> str:
    """Every key of a recipe, as --keys prints it."""
    return _page(
        [
            *("# Keys", KEYS),
            *("## genseg pretrain", _code(key_help(PretrainConfig, PRETRAIN_CHOICES))),
            *("## genseg energy", _code(key_help(EnergyConfig, ENERGY_CHOICES))),
            *("## genseg finetune", _code(key_help(FinetuneConfig, FINETUNE_CHOICES))),
            *("## genseg study", _code(key_help(StudyConfig, {}))),
        ]
    )


# The Python API


def api() -> str:
    """What `import genseg` has, and what its functions return."""
    parts = ["# Python API", API, *_function(genseg.load)]
    for kind in (Model, Instances, Instance):
        parts += _class(kind)
    results: dict[type, None] = {}
    for verb in genseg.VERBS:
        function = getattr(genseg, verb)
        parts += _function(function)
        returned = inspect.signature(function).return_annotation
        results |= dict.fromkeys(k for k in get_args(returned) or (returned,) if k is not Path)
    parts += ["## Results", RESULTS]
    for result in results:
        parts += [f"### {result.__name__}", *_fields(result), _prose(result), *_properties(result)]
    return _page(parts)


def _function(function: Callable[..., Any]) -> list[str]:
    name = f"genseg.{function.__name__}"
    return [f"## {name}", _code(_call(name, function), "python"), _prose(function)]


def _class(kind: type) -> list[str]:
    """A class with its public methods and properties, in their order."""
    parts = [f"## {kind.__name__}", *_fields(kind), _prose(kind), *_properties(kind)]
    for name, member in _public(kind):
        if not isinstance(member, property):
            call = _code(_call(name, member), "python")
            parts += [f"### {kind.__name__}.{name}", call, _prose(member)]
    return parts


def _public(kind: type) -> Iterator[tuple[str, Any]]:
    names = {f.name for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else ()
    for name, member in vars(kind).items():
        if not name.startswith("_") and name not in names:
            yield name, member


def _fields(kind: type) -> list[str]:
    """The fields of a dataclass, one a line."""
    if not dataclasses.is_dataclass(kind):
        return []
    given = inspect.signature(kind).parameters.values()
    return [_code("\n".join(_short(str(p)) for p in given), "python")]


def _properties(kind: type) -> list[str]:
    """The properties of a class as a list, where it has some."""
    lines = []
    for name, member in _public(kind):
        if isinstance(member, property):
            assert member.fget is not None
            returned = inspect.formatannotation(inspect.signature(member.fget).return_annotation)
            words = " ".join((inspect.getdoc(member) or "").split())
            lines.append(f"* `{name}: {_short(returned)}`" + (f": {words}" if words else ""))
    return ["Properties:", "\n".join(lines)] if lines else []


def _call(name: str, function: Callable[..., Any]) -> str:
    """The signature with short names, on one line or with a line for each parameter."""
    signature = inspect.signature(function)
    words, named = list[str](), False
    for p in signature.parameters.values():
        if p.kind is p.KEYWORD_ONLY and not named:
            words.append("*")
            named = True
        if p.name != "self":
            words.append(_short(str(p)))
    result = f" -> {_short(inspect.formatannotation(signature.return_annotation))}"
    line = f"{name}({', '.join(words)}){result}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {word}," for word in words), f"){result}"])


def _short(text: str) -> str:
    """Names without their modules; text in quotes stays, in those that ruff writes."""
    names = re.compile(r"'([^'\"]*)'|\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])")
    text = names.sub(lambda found: "" if found[1] is None else f'"{found[1]}"', text)
    return text.replace(PICTURE, "Picture").replace("<factory>", "...")


def _prose(owner: Any) -> str:
    """A docstring as Markdown: lines `name: what it is` become a list."""
    return "\n\n".join(_paragraph(p) for p in (inspect.getdoc(owner) or "").split("\n\n"))


def _paragraph(text: str) -> str:
    item = re.compile(r"(\w+(?:, \w+)*): ")
    if not item.match(text):
        return text
    lines = []
    for line in re.sub(rf"; (?={item.pattern})", "\n", text).splitlines():
        if found := item.match(line):
            named = ", ".join(f"`{name}`" for name in found[1].split(", "))
            lines.append(f"* {named}: {line[found.end() :]}")
        else:
            lines.append(f"  {line.strip()}")
    return "\n".join(lines)


# The files of a run


def run() -> str:
    """What commands leave behind."""
    parts = ["# Files of a run", RUN]
    for title, files in FILES.items():
        parts.append(f"## {title}")
        rows = [f"| {_names(names)} | {what} |" for names, what in files.items()]
        parts.append("\n".join(["| file | what it holds |", "|---|---|", *rows]))
    return _page(parts)


def _names(names: str) -> str:
    """File names as code; words stay."""
    return ", ".join(f"`{n}`" if {".", "/"} & {*n} else n for n in names.split(", "))


# Markdown


def _page(parts: list[str]) -> str:
    note = "<!-- Written by tools/reference.py from the code: change it there. -->"
    return "\n\n".join([parts[0], note, *parts[1:]]) + "\n"


def _code(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands,
    "keys.md": keys,
    "api.md": api,
    "run.md": run,
}

if __name__ == "__main__":
    main()
