"""An energy beside the alpha task: trained with it, resumed, and asked between rounds."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composed import command, draw_images
from safetensors.numpy import load_file

from genseg.cli import main
from genseg.workflows.pretrain.session import PretrainSession

pytestmark = pytest.mark.usefixtures("few_composites")
DENOISING = ["energy.shape.name=denoising"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("images"))


def weights(run: Path) -> dict[str, np.ndarray]:
    found = {}
    for name in ("alpha", "energy"):
        found |= {f"{name} {k}": v for k, v in load_file(run / f"{name}.safetensors").items()}
    return found


def test_a_killed_run_ends_as_an_undisturbed_one(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with chains, whose state a checkpoint has to hold."""
    more = ["energy.shape.name=maximum_likelihood", "energy.shape.rounds=2", "steps=4"]
    more += ["energy.shape.chains=16", "checkpoint.every=2 steps", "alpha.rounds.count=1"]
    one, two = (command("places", images, tmp_path / name, *more) for name in ("one", "two"))
    assert main(one) == 0
    measured = PretrainSession.measured

    def then_interrupt(session: PretrainSession, step: int, *rest: Any) -> None:
        measured(session, step, *rest)
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainSession, "measured", then_interrupt)
        assert main(two) == 130
    assert main(two) == 0
    a, b = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert a.keys() == b.keys() and any("chains" not in name for name in a)
    assert all(a[name].tobytes() == b[name].tobytes() for name in a)
    rows = [json.loads(line) for line in (tmp_path / "one/metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["energy"]) and "energy_push" in row for row in rows if "loss" in row)


def test_an_energy_confirms_proposals_between_rounds(images: Path, tmp_path: Path) -> None:
    more = ["energy.shape.name=value", "alpha.rounds.critic=energy", "steps=4"]
    more += ["alpha.rounds.count=2", "checkpoint.every=4 steps"]
    assert main(command("places", images, tmp_path / "run", *more)) == 0
    assert (tmp_path / "run/banks/1.npz").is_file()
    assert (tmp_path / "run/energy.safetensors").is_file()


def test_a_prior_that_is_fitted_is_given_as_many_composites_as_it_takes(
    images: Path, tmp_path: Path
) -> None:
    """Four composites, on which the others are finished, show fewer maps than a code has numbers;
    64 of few cut-outs fewer than a mixture has."""
    more = [
        "energy.shape.name=pca",
        "steps=2",
        "alpha.rounds.count=1",
        "alpha.compose.pasted=[1,2]",
    ]
    assert main(command("places", images, tmp_path / "run", *more)) == 0
    assert (tmp_path / "run/energy.safetensors").is_file()


def test_what_does_not_go_together_is_said(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {
        "alpha.rounds.critic=energy": "energy.shape.name",
        "energy.shape.name=nosuch": "denoising",
    }
    for given, word in wrong.items():
        assert main(command("places", images, tmp_path / "run", given)) == 2
        assert word in capsys.readouterr().err
    encoder = ["pretrain", "--config", "simclr", f"data.path={images}", *DENOISING]
    assert (
        main([*encoder, f"run={tmp_path / 'run'}", "batch_size=4", "steps=1", "images=null"]) == 2
    )
    assert "alpha.name" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
