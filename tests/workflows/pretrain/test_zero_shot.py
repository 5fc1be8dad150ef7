"""A run on word vectors from its first line to what it reads from images: supervised, and said so;
exactly resumed; right by a naive twin."""

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from coco_made import write_blobs
from safetensors.torch import load_file

import genseg
from genseg.cli import main
from genseg.data.images.cache import build_cache
from genseg.data.images.files import fingerprint
from genseg.data.images.source import ImageSource
from genseg.data.labels.box_crops import BoxCrops, crop_list
from genseg.data.labels.labelled_set import read_labelled
from genseg.nn.encoder_file import facts_of
from genseg.runs.checkpoint import load_latest, unflatten
from genseg.workflows.pretrain.zero_shot import _rows

COLOURS = {"red": (30, 30, 220), "green": (30, 220, 30), "blue": (220, 30, 30)}
WORDS = "red 1 0 0.2\ngreen 0 1 0.2\nblue 0.3 0.3 1\ncat 1 1 0\ndog 0 1 1\nsky 0 0 1\n"
RECIPES = Path(__file__).parents[3] / "configs/pretrain"
TINY = [
    *("batch_size=6", "data.workers=0", "data.cache=32", "threads=1", "precision=no"),
    *("views.first.size=32", "views.second.size=32", "method.hidden=16", "method.dim=8"),
    *("steps=2", "checkpoint.every=1 steps", "probe.every=2 steps"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of one colour each, a class for each colour; word vectors; boxes of cats and
    dogs."""
    place, rng = tmp_path_factory.mktemp("words"), np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (place / "colours" / name).mkdir(parents=True)
        for i in range(4):
            pixels = np.array(colour) + rng.integers(-30, 30, (40, 44, 3))
            cv2.imwrite(
                str(place / f"colours/{name}/{i}.png"), pixels.clip(0, 255).astype(np.uint8)
            )
    (place / "words.txt").write_text(WORDS)
    write_blobs(place / "boxes", count=2, each=6)
    return place


def command(place: Path, run: Path, *more: str) -> list[str]:
    given = [*TINY, f"data.path={place / 'colours'}", f"method.target.words={place / 'words.txt'}"]
    own = {word.partition("=")[0] for word in more}
    given = [word for word in given if word.partition("=")[0] not in own]
    return ["pretrain", "--config", "byol_semantic", f"run={run}", *given, *more]


SEMANTIC = ["method.target.unseen=[blue]", "method.target.form=network"]


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    """Of which blue is never shown as a word."""
    assert main(command(place, place / "run", *SEMANTIC)) == 0
    return place / "run"


def test_that_it_is_supervised_is_said_everywhere(
    run: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(place, run, *SEMANTIC)) == 0
    printed = capsys.readouterr()
    assert "byol, supervised by class names: 12 images" in printed.err
    assert "encoder.safetensors: byol, supervised by class names, 12 images seen" in printed.out
    assert "Training has seen labels." in printed.out
    assert facts_of(run / "encoder.safetensors").method == "byol, supervised by class names"
    tag = json.loads((run / "timm/config.json").read_text())["pretrained_cfg"]["tag"]
    assert tag == "genseg_byol_supervised_by_class_names"
    assert (run / "report.html").read_text().count("supervised by class names") >= 2


def test_a_run_that_goes_on_ends_with_the_same_bytes(run: Path, place: Path) -> None:
    half = to_the_middle(run, place / "half")
    assert main(command(place, half, *SEMANTIC)) == 0
    ended = [load_latest(r) for r in (run, half)]
    assert all(e is not None and e[1]["step"] == 2 for e in ended)
    (first, _), (second, _) = ended
    assert first.keys() == second.keys()
    assert all(torch.equal(x, second[name]) for name, x in first.items())


def to_the_middle(run: Path, copy: Path) -> Path:
    """A copy of a run of two steps, at its first."""
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoints/step_00000002")
    (copy / "checkpoints/latest").write_text("step_00000001\n")
    return copy


def test_a_checkpoint_of_before_there_were_targets_goes_on(place: Path) -> None:
    """Its config has no such key, and what it holds is the paper's teacher."""
    words = ["pretrain", "--config", "byol", *TINY, "method.head=mlp", "method.momentum=0.99"]
    words += [f"data.path={place / 'colours'}", f"run={place / 'old'}"]
    assert main(words) == 0
    state = place / "old/checkpoints/step_00000001/state.json"
    content = json.loads(state.read_text())
    assert content["state"]["config"].pop("method.target.name") == "ema"
    content["sha256"] = hashlib.sha256(json.dumps(content["state"]).encode()).hexdigest()
    state.write_text(json.dumps(content))
    to_the_middle(place / "old", place / "older")
    assert main([*words[:-1], f"run={place / 'older'}"]) == 0
    mine, other = (load_file(place / r / "encoder.safetensors") for r in ("old", "older"))
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert main([*words[:-1], f"run={place / 'older'}", "method.target.name=online"]) == 2


def test_what_is_read_is_what_a_naive_twin_reads(
    run: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = genseg.zero_shot(run, place / "colours", classes=["sky"])
    assert (found.seen, found.unseen) == (("green", "red"), ("blue",))
    assert {name: (row.images, row.names) for name, row in found.items()} == {
        "seen classes, among these": (8, 2),
        "unseen classes, among all": (4, 4),
        "all classes, among all": (12, 4),
    }
    tensors, state = load_latest(run)
    content = unflatten(tensors, state["structure"])["module"]
    assert tuple(state["classes"]) == ("blue", "green", "red")
    names = ["blue", "green", "red", "sky"]
    table = {w: [float(x) for x in v] for w, *v in map(str.split, WORDS.splitlines())}
    facts, model = facts_of(run / "encoder.safetensors"), genseg.load(run)
    right = 0
    for name in COLOURS:
        files = sorted((place / "colours" / name).glob("*.png"))
        x = torch.as_tensor(model.embed(files)).double()
        for part in ("head", "predictor"):
            w = {k[len(part) + 1 :]: v.double() for k, v in content.items() if k.startswith(part)}
            x = x @ w["0.weight"].T + w["0.bias"]
            x = (x - w["1.running_mean"]) / (w["1.running_var"] + 1e-5).sqrt()
            x = (x * w["1.weight"] + w["1.bias"]).clamp_min(0) @ w["3.weight"].T
        for row in x.numpy():
            cosines = [np.dot(row, table[n]) / np.linalg.norm(table[n]) for n in names]
            right += names[int(np.argmax(cosines))] == name
    assert found["all classes, among all"].accuracy.top1 == pytest.approx(right / 12)
    assert facts.size == 32
    line = ["probe", str(run), "--data", str(place / "colours")]
    assert main([*line, "--classes", "sky", "--limit", "0"]) == 0
    assert found.text() == capsys.readouterr().out.strip()
    assert "classes that training never saw: blue" in found.text()


def test_accuracies_of_groups_by_hand() -> None:
    """Images of a, a, b, c; the unseen c is right among unseen ones, and among all taken for b."""
    vectors = torch.eye(4)
    made = torch.tensor([[2, 0, 0, 0], [0, 1, 0, 0], [0, 3, 0, 0], [0, 2, 1, 0]]).float()
    truth = torch.tensor([0, 0, 1, 2])
    rows = _rows(made, vectors, truth, ["a", "b", "c", "d"], ("a", "b"), ("c", "d"))
    assert {name: (r.images, r.names, r.accuracy.top1) for name, r in rows.items()} == {
        "seen classes, among these": (3, 2, pytest.approx(2 / 3)),
        "unseen classes, among these": (1, 2, 1.0),
        "unseen classes, among all": (1, 4, 0.0),
        "all classes, among all": (4, 4, 0.5),
    }
    assert rows["all classes, among all"].accuracy.balanced == pytest.approx(0.5)


def test_boxes_of_a_coco_json_are_images_with_classes(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled, _ = read_labelled(place / "boxes/labels.json", masks=False)
    crops, images = BoxCrops(labelled, 0.1), crop_list(labelled)
    assert len(images) == len(crops) == 10 and images.classes == ("cat", "dog")
    assert list(images.labels) == crops.labels
    source, cached = ImageSource(images, None), build_cache(images, side=500, workers=2)
    for i in range(10):
        assert np.array_equal(source.read(i)[0], crops.read(i)[0])
        assert np.array_equal(cached.image(i), crops.read(i)[0])
    moved = crop_list(labelled, 0.3)
    assert fingerprint(moved) != fingerprint(images)
    run, data = place / "crops", place / "boxes/labels.json"
    assert main(command(place, run, f"data.path={data}", "steps=1")) == 0
    assert "2 classes by sub-folder or list, for training and kNN" in capsys.readouterr().err
    found = genseg.zero_shot(run, data)
    assert found.seen == ("cat", "dog") and len(found) == 2


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["method.target.unseen=[pink]"], "no classes pink; the classes are blue, green, red"),
        (["method.target.unseen=[red, blue]"], "needs two classes or more"),
        (["method.target.names={blue: navy, red: crimson}"], "blue: 'navy'; red: 'crimson'"),
        (["method.target.names={pink: red}"], "there are no classes pink"),
        (["method.target.labelled=0"], "labelled=0: it has to be above 0"),
        (["data.path={place}/colours/red", "batch_size=2"], "data.path has none"),
        (["method.target.block=2"], "method.target.name is semantic, but this key belongs to mid"),
        (["method.teacher_norm=ema"], "teacher_norm=ema is for a target that follows"),
    ],
)
def test_mistakes_end_with_code_2(
    more: list[str], complaint: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(place=place) if "{place}" in word else word for word in more]
    assert main(command(place, place / "wrong", *words)) == 2
    assert complaint in capsys.readouterr().err


def test_mistakes_of_the_reading_end_with_code_2(
    run: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "long.txt").write_text("red 1 0 0 0\ngreen 0 1 0 0\nblue 0 0 1 0\n")
    for words, complaint in (
        ([str(run), "--data", str(place / "colours/red")], "has 0 classes"),
        ([str(place / "old"), "--data", str(place / "colours")], "no run of genseg pretrain"),
        ([str(run), "--data", str(place / "colours"), "--classes", "cow"], "cow: 'cow'"),
        (
            [str(run), "--data", str(place / "colours"), "--words", str(place / "long.txt")],
            "has vectors of 4 numbers, and",
        ),
    ):
        shutil.rmtree(place / "old", ignore_errors=True)
        assert main(["probe", *words]) == 2
        assert complaint in capsys.readouterr().err
    assert main(["probe", str(run), "--train", str(place / "colours")]) == 2
    assert "give --train and --test, or --data" in capsys.readouterr().err
    called = genseg.zero_shot(run, place / "colours", names={"blue": "sky"})
    assert called["unseen classes, among all"].names == 3
