"""log_measures: more is logged, and the same is learnt."""

from pathlib import Path

from noise import write_classes
from safetensors.torch import load_file

from genseg import config as configs
from genseg.runs.metrics import read_metrics
from genseg.workflows.pretrain.config import CHOICES, PretrainConfig
from genseg.workflows.pretrain.pretrain import pretrain as run_pretrain

TINY = (
    *("method={name: simclr, hidden: 16}", "views={both: {count: 2, size: 32}}"),
    *("encoder.name=tu-test_resnet", "optimizer.lr=0.1", "steps=2", "batch_size=4", "threads=1"),
    *("data.workers=0", "log_every=1 steps", "probe.every=0 steps"),
)
MORE = {"uniformity", "correlation", "participation_ratio", "spectrum_exponent"}


def test_more_is_logged_and_weights_and_losses_stay(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    write_classes(tmp_path / "images", 8, ".png")
    for name, more in (("plain", "false"), ("measured", "true")):
        given = [f"data.path={tmp_path / 'images'}", f"run={tmp_path / name}"]
        keys = [*given, *TINY, f"log_measures={more}"]
        run_pretrain(configs.load(PretrainConfig, file=None, overrides=keys, choices=CHOICES))
    plain, measured = (read_metrics(tmp_path / n / "metrics.jsonl") for n in ("plain", "measured"))
    assert len(plain) == len(measured) == 2
    for a, b in zip(plain, measured, strict=True):
        assert b.keys() - a.keys() >= MORE and not a.keys() & MORE
        assert (a["loss"], a["rank"], a["spread"]) == (b["loss"], b["rank"], b["spread"])
    one, other = (load_file(tmp_path / n / "encoder.safetensors") for n in ("plain", "measured"))
    assert all((one[k] == other[k]).all() for k in one)
