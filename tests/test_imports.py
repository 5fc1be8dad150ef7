"""The rooms of docs/DESIGN.md, section 3: imports point one way, and each outside library has its
place."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = (  # each imports from itself and from those before it
    *("schema", "config", "recipes", "core", "nn"),
    *(
        "data.images",
        "data.instances",
        "data.regions",
        "data.scenes",
        "data.proposals",
        "data.composites",
        "data.labels",
    ),
    *(
        "methods",
        "alpha",
        "energies",
        "joint",
        "transfer",
        "onnx",
        "measure",
        "runs",
        "train",
        "show",
    ),
    *("workflows.labels", "workflows.export", "workflows.generate", "workflows.vectors"),
    *("workflows.evaluate", "workflows.pretrain", "workflows.finetune", "workflows.energy"),
    "workflows.study",
    *(
        "reports",
        "reports.instances",
        "model",
        "napari",
        "tryout",
        "api",
        "api_encoders",
        "api_instances",
        "commands",
        "commands.instances",
        "cli",
        "__main__",
    ),
)
HOMES = {  # the only files that import these
    "omegaconf": {"config.py"},
    "albumentations": {"data/images/views.py"},
    "gradio": {"reports/app.py"},
}
BY_NAME = {
    "imread",
    "imreadmulti",
    "imreadanimation",
    "imwrite",
    "imwritemulti",
    "imwriteanimation",
    "imcount",
}
CONFIG = {"schema", "config", "recipes"}  # general: they import nothing else of genseg
# a part takes its own dataclass, never the whole config
CONFIG_READERS = {
    "runs",
    "workflows",
    "reports",
    "model",
    "tryout",
    "api",
    "api_encoders",
    "api_instances",
    "commands",
    "cli",
}
UNKNOWN_TO_TRAIN = {"methods", "alpha", "energies", "joint"}  # the loop knows no method


def imported(tree: ast.Module) -> list[str]:
    """Full names of all modules (or of names in them) that are imported anywhere in a file."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names += [f"{module}.{alias.name}" for alias in node.names]
    return names


def files_by_opencv(tree: ast.Module) -> list[str]:
    """Functions of OpenCV that take a file's name, wherever a file names them."""
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    names = [
        node.attr
        for node in attributes
        if isinstance(node.value, ast.Name) and node.value.id == "cv2"
    ]
    names += [name.removeprefix("cv2.") for name in imported(tree) if name.startswith("cv2.")]
    return sorted(BY_NAME & set(names))


def room_of(name: str) -> str | None:
    """The room of a module such as `data.images.files` or `cli`, below genseg; None where there is
    none."""
    parts = name.split(".")
    return next((room for n in (2, 1) if (room := ".".join(parts[:n])) in ROOMS), None)


def violations(path: str, source: str) -> list[str]:
    """What a file of genseg, at `path` below it, imports against the rules."""
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    room = module if module in ("__init__", "data", "workflows") else room_of(module)
    if room is None:
        return [
            f"{path} is in no room: put it into one, or add the room to docs/DESIGN.md and to "
            "this test"
        ]
    wrong = [
        f"{path}: cv2.{name} dies of a name that is no UTF-8: use data/images/png.py or decode.py"
        for name in files_by_opencv(ast.parse(source))
    ]
    for name in imported(ast.parse(source)):
        top, _, rest = name.partition(".")
        if name.startswith("."):
            wrong.append(f"{path}: relative import {name}")
        elif top == "__future__":
            wrong.append(f"{path}: {name}, which turns checked shapes into strings")
        elif path not in HOMES.get(top, {path}):
            wrong.append(f"{path}: {top} belongs into {sorted(HOMES[top])}")
        elif top == "genseg" and rest != "__version__":
            wrong += [f"{path}: {name}: {why}" for why in [against(room, rest)] if why]
    return wrong


def against(room: str, name: str) -> str | None:
    """Why `room` may not import `name`, a module of genseg or a name in one, or None."""
    target, top = room_of(name), room.split(".")[0]
    if room in ("__init__", "data", "workflows"):
        return f"importing {'genseg' if room == '__init__' else room} imports nothing"
    if target is None:
        return "no such room"
    if target == "config" and top not in CONFIG | CONFIG_READERS:
        return "only workflows and what is above them know the config"
    if room in CONFIG and target not in CONFIG:
        return "the config knows no part"
    if room == "train" and target in UNKNOWN_TO_TRAIN:
        return "the loop knows no method"
    if ROOMS.index(target) > ROOMS.index(room):
        return f"{room} lies below {target}"
    return None


def python_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_genseg_keeps_the_rules() -> None:
    files = python_files("genseg")
    assert files
    base = ROOT / "genseg"
    wrong = [
        w for f in files for w in violations(f.relative_to(base).as_posix(), f.read_text("utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("core/dist.py", "from genseg.nn.heads import mlp", "core lies below nn"),
        ("core/dist.py", "from genseg import nn", "core lies below nn"),
        (
            "data/images/loader.py",
            "def f():\n    import genseg.workflows.pretrain.pretrain",
            "data.images lies below",
        ),
        (
            "data/images/loader.py",
            "from genseg.data.labels import read",
            "data.images lies below data.labels",
        ),
        (
            "methods/moco.py",
            "from genseg.config import load",
            "only workflows and what is above them",
        ),
        (
            "config.py",
            "from genseg.data.images.views import ViewConfig",
            "the config knows no part",
        ),
        (
            "nn/encoder.py",
            "from genseg.config import load",
            "only workflows and what is above them",
        ),
        ("schema.py", "from genseg.config import load", "schema lies below config"),
        ("train/loop.py", "from genseg.methods import METHODS", "the loop knows no method"),
        ("nn/heads.py", "from .encoder import Encoder", "relative import"),
        ("nn/heads.py", "from __future__ import annotations", "turns checked shapes"),
        (
            "workflows/pretrain/parts.py",
            "from omegaconf import OmegaConf",
            "omegaconf belongs into",
        ),
        (
            "data/images/loader.py",
            "import albumentations.augmentations as A",
            "albumentations belongs into",
        ),
        (
            "workflows/generate/predict.py",
            "import cv2\ncv2.imwrite('a.png', x)",
            "cv2.imwrite dies of a name",
        ),
        (
            "data/images/png.py",
            "def f():\n    from cv2 import imread as read",
            "cv2.imread dies of a name",
        ),
        ("helpers/text.py", "", "is in no room"),
        ("nn/heads.py", "from genseg.helpers.text import x", "no such room"),
        ("__init__.py", "from genseg.cli import main", "importing genseg imports nothing"),
    ],
)
def test_a_breach_is_found(path: str, source: str, expected: str) -> None:
    assert any(expected in w for w in violations(path, source)), violations(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("core/contrast.py", "from genseg.core import dist"),
        (
            "data/images/loader.py",
            "from genseg.data.images.source import ImageSource\nimport torch",
        ),
        (
            "workflows/pretrain/parts.py",
            "from genseg.config import resolve\nfrom genseg.methods import METHODS",
        ),
        (
            "cli.py",
            "from genseg import __version__\nfrom genseg.workflows.pretrain.pretrain import "
            "run_pretrain",
        ),
        ("train/loop.py", "from genseg.measure.knn import knn"),
        ("config.py", "from omegaconf import OmegaConf\nfrom genseg.schema import keys_of"),
    ],
)
def test_what_is_allowed_is_no_breach(path: str, source: str) -> None:
    assert violations(path, source) == []


def test_no_file_is_long_and_none_is_named_utils() -> None:
    files = python_files("genseg", "tools", "datasets", "tests")
    lines = {f: len(f.read_text("utf-8").splitlines()) for f in files}
    most = {f: 500 if "tests" in f.relative_to(ROOT).parts else 400 for f in files}
    long = {str(f.relative_to(ROOT)): n for f, n in lines.items() if n > most[f]}
    assert not long, f"over 400 lines, or 500 of tests: {long}"
    utils = [
        str(f.relative_to(ROOT)) for f in files if "utils" in (f.stem, *f.relative_to(ROOT).parts)
    ]
    assert not utils, f"every helper has an owner: {utils}"


def test_datasets_is_no_package() -> None:
    """It would shadow Hugging Face's `datasets` for everyone who runs from the repository."""
    assert not (ROOT / "datasets" / "__init__.py").exists()


def arrows() -> dict[tuple[str, str], int]:
    """How many imports lead from one room to another."""
    found: dict[tuple[str, str], int] = {}
    base = ROOT / "genseg"
    for file in python_files("genseg"):
        module = ".".join(file.relative_to(base).with_suffix("").parts)
        for name in imported(ast.parse(file.read_text("utf-8"))):
            top, _, rest = name.partition(".")
            here, there = room_of(module), room_of(rest) if top == "genseg" else None
            if here and there and here != there:
                found[here, there] = found.get((here, there), 0) + 1
    return found


def test_no_room_is_a_list() -> None:
    """A folder whose files do not explain each other wants sub-rooms."""
    sizes = {room: len(files_of(room)) for room in ROOMS}
    assert max(sizes.values()) <= 20, sizes


def files_of(room: str) -> list[Path]:
    """The modules of a room, without those of its sub-rooms."""
    folder = ROOT / "genseg" / room.replace(".", "/")
    return [f for f in folder.glob("*.py") if f.name != "__init__.py"]


if __name__ == "__main__":
    found = arrows()
    for room in ROOMS:
        below = sorted(there for here, there in found if here == room)
        print(f"{room:20} {len(files_of(room)):3} files  imports from {', '.join(below) or '-'}")
    print(f"{len(ROOMS)} rooms, {len(found)} arrows, none upwards")
