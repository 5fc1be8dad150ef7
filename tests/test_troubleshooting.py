"""docs/troubleshooting.md quotes messages that genseg says, and names keys and options that it
has."""

import ast
import re
from pathlib import Path

from genseg import config as configs
from genseg.cli import parser
from genseg.workflows.finetune.config import CHOICES as FINETUNE_CHOICES
from genseg.workflows.finetune.config import FinetuneConfig
from genseg.workflows.pretrain.config import CHOICES, PretrainConfig

ROOT = Path(__file__).parents[1]
TEXT = " ".join((ROOT / "docs/troubleshooting.md").read_text("utf-8").split())
SAID = (  # what stands between the numbers of a message
    "in composites no instance is right more often than",
    "on nothing is left",
    "collapsed: all images get nearly the same embedding (spread",
    "not learning: the loss",
    "is that of a network that knows nothing",
    "so no update was made.",
    "one batch-norm group for queries and keys lets MoCo cheat",
    "say what to use, by",
    "in a recipe",
    "images of more than 8 bits are made 8 bits by the values of each alone",
    "is no image",
    "was started with another config (old -> new)",
    "precision=auto is another one here",
    "Start as many processes as it began with",
    "have changed since this run was started",
    "another process is at work in it",
    "and no checkpoints/ to go on from",
    "and no env.json of genseg's",
    "cannot be read: see",
    "images cannot be read, more than data.max_broken=",
    "a TIFF of compression",
    "precision=fp16 needs a GPU",
    "processes were launched but",
)


def strings() -> str:
    """All text of genseg's source: pieces of one message in a row, as they are said."""
    found = []
    for file in (ROOT / "genseg").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "{}" for v in node.values]
                found.append("".join(map(str, parts)))
    return "\n".join(found)


def test_the_messages_are_those_of_genseg() -> None:
    source = strings()
    for words in SAID:
        assert words in TEXT, words
        assert words in source, words


def test_the_keys_exist() -> None:
    helps = (
        configs.key_help(PretrainConfig, CHOICES),
        configs.key_help(FinetuneConfig, FINETUNE_CHOICES),
    )
    keys = {line.split(" ")[0] for text in helps for line in text.splitlines()}
    quoted = " ".join(re.findall(r"`([^`]+)`", TEXT))
    named = set(re.findall(r"(?<![\w/.-])([a-z_]+(?:\.[a-z_]+)*)(?==)", quoted))
    named |= set(
        re.findall(r"\b((?:alpha|data|views|optimizer|method|model|augment)\.[a-z_.]+)", quoted)
    )
    assert len(named) > 25
    unknown = {name for name in named if name.replace("views.both", "views.<name>") not in keys}
    assert not unknown, unknown


def test_the_commands_are_understood() -> None:
    found = re.findall(r"`genseg ((?:generate|scan|try) [^`]+)`", TEXT)
    assert len(found) >= 5
    for words in found:
        _, rest = parser().parse_known_args(words.split())
        assert not rest, words


def test_every_link_leads_to_a_heading_or_a_file() -> None:
    lines = (ROOT / "docs/troubleshooting.md").read_text("utf-8").splitlines()
    heads = {
        re.sub(r"[^\w -]", "", line[3:].lower()).replace(" ", "-")
        for line in lines
        if line.startswith("## ")
    }
    targets = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert {target[1:] for target in targets if target.startswith("#")} == heads
    assert all((ROOT / "docs" / target).exists() for target in targets if target[0] != "#")
