"""What a run asks of Accelerate."""

from pathlib import Path

from genseg.train.machine import make_accelerator


def test_runs_of_one_process_may_differ_in_precision(tmp_path: Path) -> None:
    """As `genseg.energy` and `genseg.pretrain` do in a notebook."""
    for precision in ("no", "bf16", "bf16", "no"):
        accelerator = make_accelerator(precision=precision, run=str(tmp_path))
        assert accelerator.mixed_precision == precision
