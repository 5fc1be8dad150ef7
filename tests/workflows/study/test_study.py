"""`genseg study`: cells are made once, go on where they were killed, and are put into words."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from noise import write_classes
from safetensors.torch import load_file

import genseg
from genseg.cli import main
from genseg.nn.encoder import EncoderConfig, build_encoder, torchvision_state
from genseg.nn.encoder_file import facts_of
from genseg.workflows.pretrain.session import PretrainSession
from genseg.workflows.study import make

TINY = """
claim: Training helps
recipe: simclr
keys: [views.both.size=32, batch_size=4, data.cache=32, method.hidden=16, threads=1,
       encoder.name=tu-resnet10t, log_every=1 steps, checkpoint.every=1 steps,
       precision=bf16]
images: 8
seeds: 2
measures: [knn]
arms:
  random: {kind: random}
  fitted: {kind: fitted}
  simclr: {}
  started: {start: simclr, keys: [precision=no]}
statements: [simclr > random, started - simclr < fitted - random]
short: {seeds: 1, arms: [random, simclr]}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/, tiny.yaml, and out/, in which it is finished."""
    place = tmp_path_factory.mktemp("study")
    (place / "images").mkdir()
    write_classes(place / "images", 40, ".png")
    (place / "tiny.yaml").write_text(TINY)
    assert main(command(place)) == 0
    return place


def command(place: Path, *more: str, out: str = "out") -> list[str]:
    words = ["study", str(place / "tiny.yaml"), f"data={place}/images", "--out", str(place / out)]
    return [*words, *more]


def refuse(*given: Any, **named: Any) -> None:
    raise AssertionError("nothing is to be trained")


def content(place: Path, out: str = "out") -> dict[str, Any]:
    return dict(json.loads((place / out / "tiny/study.json").read_text()))


def test_what_is_left_says_what_the_numbers_say(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "pretrain", refuse)
    before = {f: f.stat().st_mtime_ns for f in (place / "out/cells").rglob("*")}
    assert main(command(place)) == 0
    told = capsys.readouterr()
    assert before == {f: f.stat().st_mtime_ns for f in (place / "out/cells").rglob("*")}
    assert "tiny: 8 cells, 8 of 8 here are done" in told.err
    found = content(place)
    assert found["planned"] == len(found["cells"]) == 8 and found["verdict"] == "open"
    assert {c["images_seen"] for c in found["cells"]} == {0, 8}
    assert "seconds" in found["cells"][2]["values"] and "seconds" not in found["cells"][0]["values"]
    means = {
        arm: sum(c["values"]["knn"] for c in found["cells"] if c["arm"] == arm) / 2
        for arm in ("random", "simclr")
    }
    one = found["statements"][0]
    assert one["difference"] == pytest.approx(means["simclr"] - means["random"])
    assert one["pairs"] == 2 and found["differences"][1]["arm"] == "simclr"
    sentence = genseg.study(place / "tiny.yaml", place / "images", out=place / "out").sentence
    assert sentence.startswith("Open: Training helps. simclr > random on knn: ")
    assert sentence in told.out and sentence in (place / "out/tiny/table.txt").read_text()
    html = (place / "out/tiny/report.html").read_text()
    assert "Open: Training helps" in html and 'id="study"' in html and str(place) not in html
    root = ElementTree.parse(place / "out/tiny/plot.svg").getroot()
    dots = [e for e in root.iter() if e.get("class", "").startswith("dot")]
    assert len(dots) == 8 and "knn" in "".join(t for t in root.itertext())
    assert genseg.visualize(place / "out").name == "index.html"
    assert "Studies: 1 run" in (place / "out/index.html").read_text()


def test_random_weights_are_those_that_a_training_begins_with(place: Path) -> None:
    cells = {
        (c["arm"], c["seed"]): place / "out/cells" / c["cell"] for c in content(place)["cells"]
    }
    torch.manual_seed(1)
    encoder, _ = build_encoder(EncoderConfig("tu-resnet10t"))
    expected = torchvision_state(encoder)
    kept, fitted = (
        load_file(cells[a, 1] / "run/encoder.safetensors") for a in ("random", "fitted")
    )
    assert all(torch.equal(kept[k], expected[k]) for k in expected)
    changed = {k for k in kept if not torch.equal(kept[k], fitted[k])}
    assert changed and all("running" in k or "batches" in k for k in changed)
    facts = facts_of(cells["random", 1] / "run/encoder.safetensors")
    assert (facts.size, facts.method, facts.images_seen) == (32, "random", 0)
    described = json.loads((cells["started", 0] / "cell.json").read_text())["described"]
    assert described["start"] == cells["simclr", 0].name
    assert not list((place / "out/cells").glob("*/run/checkpoints"))


def test_another_measure_trains_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "pretrain", refuse)
    study = genseg.study(
        place / "tiny.yaml",
        place / "images",
        out=place / "out",
        measures=["knn", "linear", "few_shot"],
        cka=True,
        only=["random"],
        **{"statements": [], "correlate": "knn"},
    )
    rows = {(c["arm"], c["seed"]): c["values"] for c in study["cells"]}
    assert 0 <= rows["random", 1]["linear"] <= 1 and "few_shot" in rows["random", 0]
    assert "linear" not in rows["simclr", 0]  # --only
    assert [c["arms"] for c in study["cka"]] == [["random", "random"]]
    assert 0 < study["cka"][0]["mean"] <= 1 + 1e-9 and "CKA of random, its seeds" in str(study)


def test_a_killed_cell_goes_on_and_ends_as_an_undisturbed_one(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = PretrainSession.measured

    def killed(self: PretrainSession, step: int, *given: Any) -> None:
        measured(self, step, *given)
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainSession, "measured", killed)
        assert main(command(place, "--short", out="killed")) == 143
    assert "the same command goes on with the cells that are missing" in capsys.readouterr().err
    assert not content(place, "killed")["statements"][0]["pairs"]
    assert main(command(place, "--short", "--dry-run", out="killed")) == 0
    assert "1 training left, 8 images seen" in capsys.readouterr().out
    assert main(command(place, "--short", out="killed")) == 0
    assert "simclr, seed 0: 100% step 2/2" in capsys.readouterr().err
    (folder,) = (place / "killed/cells").glob("simclr-*")
    one, other = (
        load_file(place / out / "cells" / folder.name / "run/encoder.safetensors")
        for out in ("killed", "out")
    )
    assert all(torch.equal(one[k], other[k]) for k in other)


def test_shards_share_one_folder(place: Path) -> None:
    counts = []
    for shard in ("0", "1"):
        words = ["--short", "--num-shards", "2", "--shard-index", shard]
        assert main(command(place, *words, "measures=[]", "metric=seconds", out="sharded")) == 0
        counts.append(len(content(place, "sharded")["cells"]))
    assert counts == [1, 2]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--only", "nobody"], "--only nobody: there is no such arm; they are random, fitted"),
        (["--shard-index", "2"], "--shard-index 2 of --num-shards 1: use 0 to 0"),
        (["--num-shards", "0"], "--num-shards 0: use 1 or more"),
        (["--out", __file__], "is a file; name a folder"),
        (["words=nowhere"], "there is no file of word vectors nowhere"),
        (["words=nowhere", "--dry-run"], "there is no file of word vectors nowhere"),
        (["--jobs", "0"], "jobs=0: use 1 or more"),
        (["data=nowhere"], "data is given twice"),
        (["seeds=0"], "seeds=0: use 1 or more"),
        (["measures=[transfer]", "--only", "random"], "give transfer.train=TRAIN.json"),
    ],
)
def test_mistakes_end_with_2(
    place: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(place, *more)) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_changed_default_is_no_finished_cell(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = next((place / "out/cells").glob("random-*")) / "cell.json"
    text = cell.read_text()
    cell.write_text(text.replace('"encoder.stem": "imagenet"', '"encoder.stem": "small"'))
    assert main(command(place)) == 2
    assert "made with other defaults" in capsys.readouterr().err
    cell.write_text(text)


def test_images_without_classes_are_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            command(place, "--only", "random", out="flat")[:2]
            + [f"data={place}/images/a", "--out", str(place / "flat"), "--only", "random"]
        )
        == 2
    )
    assert "has no classes to measure by" in capsys.readouterr().err
