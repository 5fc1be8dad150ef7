"""Runs with the alpha task over a few small pictures, for the tests of rounds and of the
command."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from small import ENCODER

from genseg.alpha.model import AlphaModel
from genseg.workflows.pretrain import rounds
from genseg.workflows.pretrain.rounds import Rounds

CONFIGS = Path(__file__).parents[2] / "configs/pretrain"
COUNT = 9  # images that can be read
SMALL = [
    f"encoder.name={ENCODER}",
    "batch_size=4",
    "data.max_broken=0.2",
    "threads=1",
    "probe.every=0 steps",
    "alpha.side=64",
    "alpha.compose.size=64",
    "alpha.decoder.channels=[16,16,8,8]",
    "alpha.decoder.tower=8",
]
# Everything that an untrained decoder finds becomes a proposal, so that each round has a bank of
# its own.
EAGER = [
    "alpha.generate.candidate=0",
    "alpha.generate.score=0",
    "alpha.generate.overlap=0.8",
    "alpha.generate.inside=1",
    "alpha.compose.sure=0.001",
    "alpha.rounds.tolerance=1",
]
KINDS = {
    "places": ["alpha.yaml", "alpha.rounds.count=3", "steps=8", "checkpoint.every=2 steps"],
    "byol": [
        "byol_alpha.yaml",
        "alpha.rounds.count=3",
        "steps=6",
        "checkpoint.every=4 steps",
        "views.first.size=32",
        "views.second.size=32",
        "method.hidden=16",
        "method.dim=8",
        "data.cache=48",
        "alpha.share=0.5",
    ],
}


def draw_images(root: Path) -> Path:
    """Bright discs on a dark, noisy ground; and a file that is no image."""
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        picture = rng.integers(10, 40, (64, 72, 3), dtype=np.uint8)
        for y, x, r in ((16, 16, 4), (20, 50, 9), (48, 28, 7)):
            cv2.circle(picture, (x + i % 3, y), r, (200, 180 + i, 210), -1, cv2.LINE_AA)
        cv2.imwrite(str(root / f"{i}.png"), picture)
    (root / "5a.png").write_bytes(b"no image")
    return root


def command(kind: str, images: Path, run: Path, *more: str) -> list[str]:
    """Keys of `more` replace those of the same name."""
    recipe, *own = KINDS[kind]
    usual = [
        f"data.path={images}",
        f"run={run}",
        "data.workers=0",
        "log_every=1 steps",
        *SMALL,
        *EAGER,
        *own,
    ]
    given = {m.split("=")[0] for m in more}
    return [
        "pretrain",
        "--config",
        str(CONFIGS / recipe),
        *(u for u in usual if u.split("=")[0] not in given),
        *more,
    ]


@contextlib.contextmanager
def few_composites() -> Iterator[None]:
    """Scores are calibrated, and energies finished, on four composites in place of 64."""
    model = Rounds.model

    def soon_ready(self: Rounds, *, fitted: int = 16, judged: int = 4) -> AlphaModel:
        return model(self, fitted=min(fitted, 16), judged=min(judged, 4))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "JUDGED", 4)
        patch.setattr(Rounds, "model", soon_ready)
        yield
