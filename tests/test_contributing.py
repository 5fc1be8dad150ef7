"""What CONTRIBUTING.md names is there: paths, rooms, commands, and the registries of its
recipes."""

import re
import subprocess
from pathlib import Path

from genseg.cli import COMMANDS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
ENDINGS = (".py", ".md", ".toml", ".yaml", ".js")
# neither rooms nor modules of one
OTHERS = {"__init__.py", "__main__.py", "__pycache__", "embedded", "configs"}


def quoted(text: str) -> list[str]:
    """All that stands in backticks, on one line or across two."""
    return [" ".join(word.split()) for word in re.findall(r"`([^`]+)`", text)]


def is_path(word: str) -> bool:
    return " " not in word and "=" not in word and ("/" in word or word.endswith(ENDINGS))


def exists(word: str, names: set[str]) -> bool:
    """Whether a path is there, from the root or below genseg/; of a name alone, whether a file has
    it; of one with NAME in it, whether its folder is there."""
    if "NAME" in word:
        return exists(str(Path(word).parent), names)
    below = [(base / word).exists() for base in (ROOT, ROOT / "genseg")]
    return any(below) or ("/" not in word and word in names)


def test_every_path_exists() -> None:
    found = sorted({word for word in quoted(TEXT) if is_path(word)})
    assert len(found) > 60
    names = {path.name for path in (ROOT / "genseg").rglob("*.py")}
    missing = [word for word in found if not exists(word, names)]
    assert not missing, missing
    assert not exists("genseg/methods/nothing.py", names) and not exists("nowhere.py", names)
    assert exists("genseg/methods/NAME.py", names) and not exists("genseg/no/NAME.py", names)


def test_every_room_and_every_command_is_in_the_maps() -> None:
    rooms = TEXT.split("| room below")[1].split("\n\n")[0]
    known = {word.split("/")[0] for word in quoted(rooms)}
    there = {p.name for p in (ROOT / "genseg").iterdir() if p.suffix == ".py" or p.is_dir()}
    assert there - OTHERS <= known, there - OTHERS - known
    commands = {name for group in COMMANDS.values() for name in group}
    rows = [row.split("|")[1] for row in TEXT.split("| command |")[1].split("\n\n")[0].split("\n")]
    mapped = {word.split()[0] for row in rows[2:] for word in quoted(row)}
    assert mapped == commands


def test_the_names_of_the_recipes_are_in_the_files_that_they_name() -> None:
    for name, file in (
        ("METHODS: dict", "genseg/methods/__init__.py"),
        ("PROPOSERS: dict", "genseg/data/proposals/propose.py"),
        ("Proposals = Literal", "genseg/data/proposals/propose.py"),
        ("PROPOSERS = (", "tools/digests.py"),
        ("VERSION = ", "genseg/workflows/pretrain/rounds.py"),
        ("SHAPINGS: Mapping", "genseg/energies/strategies.py"),
        ("class ShapeConfig", "genseg/energies/config.py"),
        ("class Corrupting(ShapeConfig", "genseg/energies/config.py"),
        ("Measures = ", "genseg/measure/class_agnostic.py"),
        ("SECTIONS: tuple", "genseg/reports/report.py"),
        ("COMMANDS: dict", "genseg/cli.py"),
        ("VERBS = (", "genseg/__init__.py"),
        ("class Result", "genseg/core/result.py"),
        ("class AlphaScores(Result, Mapping", "genseg/workflows/evaluate/alpha.py"),
        ("SUMMARY = ", "genseg/commands/split.py"),
    ):
        assert f"\n{name}" in "\n" + (ROOT / file).read_text("utf-8"), f"{name} in {file}"
        assert f"`{file}`" in TEXT, file


def test_make_takes_the_arguments_that_it_names() -> None:
    words = ["make", "--dry-run", "test", "ARGS=-k moco -x"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert 'make test ARGS="-k moco -x"' in TEXT and "-k moco -x" in done.stdout
