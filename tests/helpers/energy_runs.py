"""Runs of a few steps for the tests of energies: one with the alpha task, and the command that
shapes an energy for it."""

from pathlib import Path

import pytest
from composed import SMALL, few_composites

from genseg.alpha.kept import GenerateConfig
from genseg.cli import main

LITTLE = ["composites=6", "judged=4", "batch_size=4", "threads=1", "judge_every=0 percent"]


def alpha_run(images: Path, folder: Path) -> Path:
    """A run with the alpha task, of a few steps."""
    given = ["pretrain", "--config", "alpha", f"data.path={images}", f"run={folder}", *SMALL]
    more = ["data.workers=0", "steps=6", "images=null", "alpha.generate.score=0.01"]
    more += ["precision=no"]  # as energies have it: accelerate has one for a process
    with few_composites():
        assert main([*given, *more]) == 0
    return folder


def shaped(run: Path, out: Path, name: str, *more: str) -> list[str]:
    """The command; keys of `more` replace the usual ones."""
    given = {text.split("=")[0] for text in more}
    usual = [text for text in LITTLE if text.split("=")[0] not in given]
    return ["energy", str(run), "--shape", name, "--out", str(out), *usual, *more]


def decode_everything(patch: pytest.MonkeyPatch) -> None:
    """The decoder has hardly learnt: whatever it draws is among its own instances from now on."""
    everything = GenerateConfig(candidate=0, score=0, min_area=1)
    patch.setattr("genseg.energies.material.OWN", everything)
