"""The lines of guides that need a run, but none that has learnt, work as they stand there."""

import json
import re
import shlex
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from small import ENCODER

from genseg import config as configs
from genseg.alpha.decoder import AlphaDecoder, DecoderConfig
from genseg.alpha.kept import GenerateConfig
from genseg.alpha.model import AlphaModel, Look, save_alpha
from genseg.cli import main
from genseg.core.names import ALPHA_NAME, CONFIG_NAME, ENCODER_NAME, ENERGY_NAME
from genseg.data.instances.coco import annotation
from genseg.data.instances.instance import Instance
from genseg.energies.strategies import SHAPINGS
from genseg.nn.encoder import Encoder, EncoderConfig
from genseg.nn.encoder_file import EncoderFacts, save_encoder
from genseg.workflows.pretrain.config import CHOICES, PretrainConfig

FOLDER = Path(__file__).parents[1] / "docs" / "guides"
NAMES = ("encoders", "pages", "labelling_tools", "measuring", "many_machines")
GUIDES = "\n".join((FOLDER / f"{name}.md").read_text() for name in ("alpha_maps", *NAMES))
ENERGY = (FOLDER / "energy.md").read_text()
SMALL = DecoderConfig(channels=(16, 16, 8, 8), embedding=5, code=6, hidden=3, tower=8)


def blocks(language: str, text: str = GUIDES) -> list[str]:
    return re.findall(rf" *```{language}\n(.*?)```", text, re.S)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: FOLDER/ with five images, and runs/alpha with random weights that find
    something."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig())
    look = Look((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 512, True)
    model = AlphaModel(
        encoder,
        AlphaDecoder(encoder, SMALL),
        look,
        GenerateConfig(candidate=0, score=0, min_area=1),
    )
    (tmp_path / "runs/alpha").mkdir(parents=True)
    save_alpha(model, tmp_path / "runs/alpha" / ALPHA_NAME, EncoderConfig())
    facts = EncoderFacts(EncoderConfig(), "none", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 32)
    save_encoder(encoder, tmp_path / "runs/alpha" / ENCODER_NAME, facts)
    (tmp_path / "FOLDER").mkdir()
    for i, image in enumerate(images()):
        cv2.imwrite(str(tmp_path / "FOLDER" / f"{i}.png"), image[..., ::-1])
    for file in ("LABELS.json", "TRAIN.json", "TEST.json"):
        (tmp_path / file).write_text(json.dumps(labels()))
    return tmp_path


def labels() -> dict[str, object]:
    """Six squares of each of two categories in every image of FOLDER."""
    listed = [
        {"id": i, "file_name": f"FOLDER/{i}.png", "height": 40, "width": 48} for i in range(1, 5)
    ]
    annotations = []
    for n in range(48):
        square = Instance(np.full((9, 9), 255, np.uint8), 8 * (n % 4), 9 * (n % 5))
        found = annotation(square, number=n + 1, image=1 + n // 12, height=40, width=48)
        annotations.append({**found, "category_id": 1 + n % 2})
    return {
        "images": listed,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (5, 40, 48, 3), dtype=np.uint8)


def test_the_commands(place: Path) -> None:
    """Those of alpha_maps.md that look at proposals come first; test_readme.py runs the others."""
    lines = [
        line.strip() for block in blocks("bash") for line in block.splitlines() if line.strip()
    ]
    tuning = [line for line in lines if re.search(r"--out proposals\b", line)]
    found = [*tuning, *(line for line in lines if line not in tuning and "runs/alpha" not in line)]
    found = [line for line in found if not line.startswith("genseg visualize found")]
    assert len(found) == 22 and all(line.startswith("genseg ") for line in found)
    for line in found:
        words = ["runs/alpha" if w == "RUN" else w for w in shlex.split(line)[1:]]
        shards = range(
            int(words[words.index("--num-shards") + 1]) if "--num-shards" in words else 1
        )
        for shard in shards:
            own = ["--shard-index", str(shard)] if len(shards) > 1 else []
            assert not (place / "SHARED/instances.json").exists()
            assert main([*words, *own]) == 0, line
    assert {f.name for f in (place / "proposals").iterdir() if f.is_file()} >= {
        *("grid.png", "pairs.png", "report.html", "cvat.zip", "fiftyone.json", "labelstudio.json")
    }
    assert (place / "runs/alpha/report.html").is_file()
    assert len(json.loads((place / "SHARED/instances.json").read_text())["images"]) == 5


LITTLE = {"steps": 2, "batch_size": 4, "threads": 1}  # of whatever is trained
COMPOSED = [
    *("alpha.side=64", "alpha.compose.size=64", "alpha.proposals=blobs", "alpha.compose.sure=0"),
    *("alpha.rounds.count=1", "alpha.compose.pasted=[1,2]", "probe.every=0 steps"),
]
SHAPED = {"composites": 6, "judged": 4}
BESIDE = [
    *(
        f"encoder.name={ENCODER}",
        "data.cache=0",
        "data.workers=0",
        "views.both.size=32",
        "images=null",
    ),
    *("alpha.decoder.channels=[16,16,8,8]", "alpha.decoder.tower=8", "checkpoint.every=2 steps"),
]


@pytest.mark.usefixtures("few_composites")
def test_the_commands_and_the_python_of_energies(place: Path) -> None:
    """For the run that is there, which gets the config of one that composes."""
    given = ["method.name=none", "alpha.name=places", "data.path=FOLDER", "run=runs/alpha"]
    config = configs.load(
        PretrainConfig, file=None, overrides=[*given, "steps=1", *COMPOSED], choices=CHOICES
    )
    (place / "runs/alpha" / CONFIG_NAME).write_text(configs.to_yaml(config))
    little = [f"{key}={value}" for key, value in LITTLE.items()]
    small = {
        "energy": [*little, *(f"{key}={value}" for key, value in SHAPED.items())],
        "pretrain": [*little, *COMPOSED, *BESIDE],
        "finetune": [*little, "images=null", "augment.size=64", "data.workers=0"],
    }
    lines = [line for block in blocks("bash", ENERGY) for line in block.splitlines()]
    assert len(lines) == 12 and all(line.startswith("genseg ") for line in lines)
    for line in lines:
        words = shlex.split(line.replace("--minutes 3", ""))[1:]
        assert main([*words, *small.get(words[0], [])]) == 0, line
    for run in ("alpha-critic", "denoising", "places-critic", "both"):
        assert (place / "runs" / run / ENERGY_NAME).is_file()
    (python,) = blocks("python", ENERGY)
    keys = ", ".join(f"{key}={value}" for key, value in (LITTLE | SHAPED).items())
    exec(compile(python.replace("steps=600", keys), "energy.md", "exec"), {})
    assert (place / "found-ranked/instances.json").is_file()


def test_the_table_of_shapings_has_all_of_them_with_all_of_their_keys() -> None:
    table = ENERGY.split("| name | family |")[1].split("\n\n")[0]
    rows = [row.split("|")[1:-1] for row in table.splitlines()[2:]]
    told = {name.strip(" `"): set(re.findall(r"\w+", keys)) for name, _, _, keys in rows}
    assert told.keys() == SHAPINGS.keys() and len(rows) == len(told)
    for name, keys in told.items():
        own = {field.name for field in fields(SHAPINGS[name].config)}
        unread = {"code_noise"} if name == "hmc" else set()
        assert keys == own - {"name", "reconstruct"} - unread, name


def test_the_keys_are_those_of_the_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "--keys"]) == 0
    keys = capsys.readouterr().out
    named = set(re.findall(r"`(alpha\.[a-z_.]+)", GUIDES))
    assert len(named) >= 5
    for name in named:
        assert f"\n{name} " in keys, name
    for name in re.findall(r"`(energy\.[a-z_]+(?:\.[a-z_]+)?)`", ENERGY):
        assert name == ENERGY_NAME or f"\n{name} " in keys, name


def test_every_key_is_in_a_recipe_or_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    """A key that no recipe sets and no page names is one too many."""
    docs = [f for f in FOLDER.parent.rglob("*.md") if f.parent.name != "reference"]
    recipes = (FOLDER.parents[1] / "configs").rglob("*.yaml")
    text = "\n".join(f.read_text() for f in (*recipes, *docs))
    keys = set()
    for command in ("pretrain", "finetune", "energy"):
        assert main([command, "--keys"]) == 0
        keys |= set(re.findall(r"(?m)^([a-z_][\w.<>]*) ", capsys.readouterr().out))
    last = {key: key.rpartition(".")[2] for key in keys}
    unknown = [key for key, name in last.items() if not re.search(rf"\b{name}\b", text)]
    assert len(keys) > 150 and not unknown
