"""`genseg energy`: for the alpha decoder of a run, whole, killed, and used by generation."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composed import SMALL, draw_images, few_composites
from energy_runs import LITTLE, alpha_run, decode_everything, shaped
from safetensors.numpy import load_file

import genseg
from genseg import config as configs
from genseg.cli import main
from genseg.energies import sample
from genseg.recipes import recipe
from genseg.workflows.energy.config import CHOICES, EnergyConfig
from genseg.workflows.energy.energy import shape_energy
from genseg.workflows.energy.session import EnergySession


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the alpha task, of a few steps."""
    return alpha_run(images, tmp_path_factory.mktemp("runs") / "alpha")


@pytest.fixture(autouse=True)
def whatever_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decode_everything(monkeypatch)


def test_it_leaves_an_energy_and_the_decoder_as_it_was(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "alpha.safetensors").read_bytes()
    assert main(shaped(run, tmp_path / "e", "critic", "--steps", "3", "judge_every=1 steps")) == 0
    assert (run / "alpha.safetensors").read_bytes() == before
    said = capsys.readouterr()
    assert "Reconstruction" in said.out and "rank correlation" in said.out
    left = {file.name for file in (tmp_path / "e").iterdir()}
    assert {"energy.safetensors", "config.yaml", "metrics.jsonl", "report.html"} <= left
    rows = [json.loads(line) for line in (tmp_path / "e/metrics.jsonl").read_text().splitlines()]
    assert any("copy" in row and "auroc_union" in row for row in rows)
    assert all(np.isfinite(x).all() for x in load_file(tmp_path / "e/energy.safetensors").values())
    # the same command once more finds it finished
    assert main(shaped(run, tmp_path / "e", "critic", "--steps", "3", "judge_every=1 steps")) == 0


def same(one: Path, two: Path) -> bool:
    a, b = (load_file(folder / "energy.safetensors") for folder in (one, two))
    return a.keys() == b.keys() and all(a[k].tobytes() == b[k].tobytes() for k in a)


@pytest.mark.parametrize("name", ["maximum_likelihood", "adversarial", "kmeans", "critic"])
def test_an_interrupted_run_ends_as_an_undisturbed_one(
    name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those with a state of their own; that all go on exactly is in tests/energies."""
    few = {
        "kmeans": ["shape.centres=4", "shape.trained=true"],
        "maximum_likelihood": ["shape.chains=16", "shape.rounds=2"],
    }.get(name, [])

    def once(out: str) -> bool:
        kept = [text for text in LITTLE if text.split("=")[0] not in {f.split("=")[0] for f in few}]
        keys = [*kept, f"alpha={run}", f"run={tmp_path / out}", "steps=3", *few]
        config = configs.load(
            EnergyConfig,
            file=recipe(Path(name), "energy"),
            overrides=[*keys, "checkpoint.every=1 steps"],
            choices=CHOICES,
        )
        return shape_energy(config).complete

    assert once("one")
    measured = EnergySession.measured

    def then_interrupt(session: EnergySession, step: int, *rest: Any) -> None:
        measured(session, step, *rest)
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(EnergySession, "measured", then_interrupt)
        assert not once("two")
    assert not (tmp_path / "two/energy.safetensors").exists()
    assert once("two")
    assert same(tmp_path / "one", tmp_path / "two")


def test_generation_ranks_by_it_and_keeps_its_form(
    run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for name in ("0.png", "1.png", "5a.png"):  # the last is no image
        shutil.copy(images / name, few)
    more = ["use.refine=true", "use.candidate=0.001"]
    assert main(shaped(run, tmp_path / "e", "critic", "--steps", "3", *more)) == 0
    usual = ["generate", str(run), str(few), "--score", "0.01"]
    assert main([*usual, "--out", str(tmp_path / "plain")]) == 0
    ranked = [*usual, "--energy", str(tmp_path / "e"), "--out", str(tmp_path / "ranked")]
    assert main(ranked) == 0
    plain, found = (
        json.loads((tmp_path / name / "instances.json").read_text()) for name in ("plain", "ranked")
    )
    assert plain.keys() == found.keys() and len(plain["images"]) == len(found["images"])
    for a in found["annotations"]:
        assert 0 <= a["score"] <= 1 and a["area"] > 0
    # into a result of another ranking nothing is mixed
    assert main([*usual, "--out", str(tmp_path / "ranked")]) == 2
    assert "energy" in capsys.readouterr().err
    python = genseg.generate(run, few, out=tmp_path / "python", score=0.01, energy=tmp_path / "e")
    assert python.file is not None
    again = json.loads(python.file.read_text())
    assert again["annotations"] == found["annotations"]


def test_python_shapes_the_energy_of_the_command(run: Path, tmp_path: Path) -> None:
    keys: dict[str, Any] = {
        **{"composites": 6, "judged": 4, "batch_size": 4, "threads": 1, "steps": 3},
        "judge_every": "0 percent",
    }
    made = genseg.energy(run, run=tmp_path / "python", shape="denoising", **keys)
    assert main(shaped(run, tmp_path / "command", "denoising", "--steps", "3")) == 0
    assert same(tmp_path / "python", tmp_path / "command")
    assert made.complete and made.judgement is not None
    assert set(made.judgement.separation) >= {"shift", "union"}
    assert made.energy.is_file() and "denoising" in str(made)


def test_minutes_become_steps_that_stay_when_it_goes_on(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genseg.workflows.energy.parts.FEWEST", 4)
    given = shaped(run, tmp_path / "e", "autoencoder", "--minutes", "0.0001")
    measured = EnergySession.measured

    def then_interrupt(session: EnergySession, step: int, *rest: Any) -> None:
        measured(session, step, *rest)
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(EnergySession, "measured", then_interrupt)
        assert main(given) == 130
    monkeypatch.setattr("genseg.workflows.energy.parts.FEWEST", 9)
    assert main(given) == 0
    assert "steps: 4" in (tmp_path / "e/config.yaml").read_text()


def refused(given: list[str], capsys: pytest.CaptureFixture[str], *words: str) -> None:
    """It ends with exit code 2, and the message has the words."""
    capsys.readouterr()
    try:
        code = main(given)
    except SystemExit as end:
        code = int(end.code or 0)
    error = capsys.readouterr().err
    assert code == 2, error
    assert "Traceback" not in error
    for word in words:
        assert word in error, error


def test_what_cannot_be_done_is_said(
    run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(shaped(run, tmp_path / "e", "nosuch"), capsys, "nosuch", "denoising")
    refused(shaped(tmp_path / "nothing", tmp_path / "e", "pca"), capsys, "alpha.safetensors")
    refused(shaped(run, tmp_path / "e", "mixture", "--steps", "2"), capsys, "too few", "composites")
    assert not (tmp_path / "e/metrics.jsonl").exists(), "before the training, not after it"
    many = shaped(run, tmp_path / "e", "pca", "shape.components=32")
    refused(many, capsys, "shape.components")
    for name, key in (("value", "reconstruct"), ("metric", "reconstruct"), ("hmc", "code_noise")):
        refused(shaped(run, tmp_path / "e", name, f"shape.{key}=1"), capsys, key)
    refused(shaped(run, tmp_path / "e", "value", "use.refine=true"), capsys, "draws nothing")
    refused(shaped(run, run, "denoising", "--steps", "2"), capsys, "folder of its own")
    refused(
        shaped(run, tmp_path / "f", "denoising", "batch_size=40"),
        capsys,
        "batch_size",
        "composites",
    )
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "alpha.safetensors").write_bytes((run / "alpha.safetensors").read_bytes())
    refused(shaped(alone, tmp_path / "g", "denoising"), capsys, "config.yaml", "composites")
    refused(
        ["generate", str(run), str(images), "--out", str(tmp_path / "o"), "--energy", str(alone)],
        capsys,
        "energy.safetensors",
        "genseg energy",
    )
    refused(
        ["generate", "tree", str(images), "--out", str(tmp_path / "o"), "--energy", str(alone)],
        capsys,
        "proposer",
    )


def test_an_energy_is_for_the_decoder_that_it_was_trained_for(
    run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shaped(run, tmp_path / "e", "denoising", "--steps", "2")) == 0
    other = tmp_path / "other"
    usual = ["pretrain", "--config", "alpha", f"data.path={images}", f"run={other}", *SMALL]
    usual += ["data.workers=0", "precision=no"]
    with few_composites():
        assert main([*usual, "steps=2", "images=null", "seed=5"]) == 0
    refused(
        [
            *("generate", str(other), str(images), "--out", str(tmp_path / "o")),
            *("--energy", str(tmp_path / "e")),
        ],
        capsys,
        "another alpha decoder",
        "genseg energy",
    )
    assert not (tmp_path / "o/instances.json").exists()


def test_chains_that_leave_the_numbers_stop_the_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(energy: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, torch.nan)

    monkeypatch.setattr(sample, "gradient", broken)
    assert main(shaped(run, tmp_path / "e", "contrastive_divergence", "--steps", "2")) == 1
    said = capsys.readouterr().err
    assert "push nan" in said and "optimizer.lr" in said and "Traceback" not in said
    assert not (tmp_path / "e/energy.safetensors").exists()
