"""Trackers: what they show is what metrics.jsonl holds; one that is missing is told."""

import json
from pathlib import Path

import pytest
from coco_made import write_blobs

import genseg
from genseg import config as configs
from genseg.train.tracker import PACKAGES, check_tracker
from genseg.workflows.pretrain.config import CHOICES, PretrainConfig

TINY = {
    **{"steps": 2, "batch_size": 4, "threads": 1, "data.workers": 0, "views.both.size": 32},
    "log_every": "1 step",
}


def kept(run: Path) -> dict[int, dict[str, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row for row in rows}


def test_tensorboard_shows_the_lines_of_pretraining_and_of_fine_tuning(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    labels = write_blobs(tmp_path / "train", count=4, each=6)
    given = {"recipe": "simclr", "tracker": "tensorboard"}
    genseg.pretrain(tmp_path / "train/images", run=tmp_path / "pre", **given, **TINY)
    small = {"steps": 2, "batch_size": 2, "augment.size": 64, "threads": 1, "data.workers": 0}
    genseg.finetune(labels, run=tmp_path / "fine", recipe="unet", tracker="tensorboard", **small)
    for name in ("pre", "fine"):
        rows = kept(tmp_path / name)
        (folder,) = (tmp_path / name).glob("tensorboard")
        shown = accumulators.EventAccumulator(str(folder)).Reload()
        assert "loss" in shown.Tags()["scalars"]
        for tag in shown.Tags()["scalars"]:
            for event in shown.Scalars(tag):
                assert event.value == pytest.approx(rows[event.step][tag], rel=1e-6)
        assert {e.step for e in shown.Scalars("loss")} == {s for s in rows if "loss" in rows[s]}


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_one_that_is_not_installed_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(ValueError, match=f"tracker={name} needs it installed: pip install"):
        check_tracker(name)  # type: ignore[arg-type]
    check_tracker("none")


def test_both_words_are_one_and_two_trackers_are_none() -> None:
    def tracked(*words: str) -> str:
        given = ["run=r", "data.path=p", "method.name=simclr", "steps=1", *words]
        config = configs.load(PretrainConfig, file=None, overrides=given, choices=CHOICES)
        return config.tracked

    assert tracked("tensorboard=true") == "tensorboard" == tracked("tracker=tensorboard")
    assert tracked("tracker=wandb") == "wandb" and tracked() == "none"
    with pytest.raises(ValueError, match="tensorboard=true and tracker=wandb: give the second"):
        tracked("tensorboard=true", "tracker=wandb")


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_trackers_that_could_send_stay_in_the_run_directory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they are installed."""
    pytest.importorskip(name)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # what the run sets is then undone
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    write_blobs(tmp_path / "train", count=4, each=6)
    genseg.pretrain(tmp_path / "train/images", run="pre", recipe="simclr", tracker=name, **TINY)
    left = {p.relative_to(tmp_path).parts[0] for p in tmp_path.rglob("*")}
    assert left == {"train", "pre"}
    wanted = {"wandb": "wandb/offline-run-*/*.wandb", "mlflow": "mlflow.db"}[name]
    assert len(list((tmp_path / "pre").glob(wanted))) == 1
