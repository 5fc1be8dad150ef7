"""A run of SimMIM: what it predicts is kept and shown, and a killed one ends as an undisturbed
one."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from genseg.cli import main
from genseg.reports.run import Run
from genseg.reports.training_pictures import predicted, views
from genseg.workflows.pretrain.predictions import read_predictions

WORDS = [
    *("steps=3", "batch_size=4", "threads=1", "data.workers=0", "data.cache=0"),
    *("checkpoint.every=1 steps", "checkpoint.keep=9", "probe.every=0 steps"),
    *("views.one.size=32", "views.one.count=1", "method.patch=8", "method.mask=noise"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("masked")
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    for i in range(6):
        picture = rng.integers(0, 90, (40, 44, 3), dtype=np.uint8)
        cv2.circle(picture, (15 + i, 20), 9, (240, 200, 30 * i), -1)
        cv2.imwrite(str(root / f"images/{i}.png"), picture)
    train(root / "run")
    return root / "run"


def train(run: Path) -> None:
    images = run.parent / "images"
    assert (
        main(["pretrain", "--config", "simmim", f"data.path={images}", f"run={run}", *WORDS]) == 0
    )


def test_predictions_are_of_the_same_images_and_only_predictions_change(run: Path) -> None:
    seen, steps = read_predictions(run)
    assert list(seen) == ["image", "masked"] and [n for n, _ in steps] == [0, 1, 2, 3]
    image, masked = seen["image"], seen["masked"]
    assert image.shape == (4 * 32, 32, 3)
    hidden = (image != masked).any(2)
    assert 0.5 < hidden.mean() < 0.7
    for _, pixels in steps:
        assert (pixels == image)[~hidden].all()
    assert (steps[0][1] != steps[-1][1])[hidden].mean() > 0.5


def test_the_report_shows_them(run: Path) -> None:
    section = predicted(Run(run, None, True, False))
    assert section is not None and section.body.count("<img") == 4 * 6
    for name in ("image", "masked", "step 0", "step 3"):
        assert f"<figcaption>{name}</figcaption>" in section.body
    shown = views(Run(run, None, True, False))
    assert shown is not None and shown.title == "What SimMIM was shown"
    assert predicted(Run(run.parent, None, True, False)) is None


def test_a_killed_run_ends_as_an_undisturbed_one(run: Path) -> None:
    """Its masks and noise are those of (seed, epoch, index), wherever it begins again."""
    killed = run.with_name("killed")
    shutil.copytree(run, killed)
    (killed / "checkpoints/latest").write_text("step_00000001\n")
    (killed / "encoder.safetensors").unlink()
    train(killed)
    for file in ("encoder.safetensors", "predicted/00000003.png", "predicted/00000002.png"):
        assert (killed / file).read_bytes() == (run / file).read_bytes(), file
