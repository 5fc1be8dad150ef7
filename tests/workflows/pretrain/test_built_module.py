"""What is assembled: files are read once for their fingerprint, and compiling reaches all of
training and no probe."""

import functools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small import ENCODER
from torch import nn

from genseg.cli import main
from genseg.config import load
from genseg.data.images import files as module
from genseg.nn.encoder import EncoderConfig, build_encoder, torchvision_state
from genseg.recipes import one_length
from genseg.workflows.pretrain.config import CHOICES, PretrainConfig
from genseg.workflows.pretrain.parts import assemble

pytestmark = pytest.mark.usefixtures("few_composites")
CONFIGS = Path(__file__).parents[3] / "configs/pretrain"
USUAL = [
    f"encoder.name={ENCODER}",
    "batch_size=4",
    "threads=1",
    "data.workers=0",
    "probe.every=0 steps",
    "log_every=1 steps",
    "steps=2",
]
ALPHA = [
    "alpha.side=64",
    "alpha.compose.size=64",
    "alpha.decoder.channels=[16,16,8,8]",
    "alpha.decoder.tower=8",
]
BYOL = [
    "views.first.size=32",
    "views.second.size=32",
    "method.hidden=16",
    "method.dim=8",
    "data.cache=48",
]
TASKS = {"byol": BYOL, "alpha": ALPHA, "byol_alpha": [*BYOL, *ALPHA]}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright discs on a noisy ground."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(8):
        picture = rng.integers(10, 40, (64, 72, 3), dtype=np.uint8)
        cv2.circle(picture, (20 + i, 30), 9, (200, 180 + i, 210), -1, cv2.LINE_AA)
        cv2.imwrite(str(root / f"{i}.png"), picture)
    return root


def test_every_file_is_read_once_for_the_fingerprint(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the method's and the alpha task's images are both kept."""
    read: list[int] = []
    digest = module._digest

    def counted(listed: module.ImageList, i: int) -> bytes:
        read.append(i)
        return digest(listed, i)

    monkeypatch.setattr(module, "_digest", counted)
    words = [f"data.path={images}", f"run={tmp_path}", *USUAL, *TASKS["byol_alpha"]]
    config = load(
        PretrainConfig,
        file=CONFIGS / "byol_alpha.yaml",
        overrides=one_length(words),
        choices=CHOICES,
    )
    parts = assemble(config)
    assert sorted(read) == list(range(8))
    assert parts.fingerprint == module.fingerprint(parts.images)


@pytest.mark.parametrize("task", TASKS)
def test_a_compiled_run_takes_steps_and_leaves_the_usual_names(
    task: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a backend that runs the graphs as they are: it needs no compiler, and tells that it was
    asked."""
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(
        nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend=backend)
    )
    words = [f"data.path={images}", f"run={tmp_path}", *USUAL, *TASKS[task], "compile=true"]
    assert main(["pretrain", "--config", str(CONFIGS / f"{task}.yaml"), *words]) == 0
    assert graphs
    names = torchvision_state(build_encoder(EncoderConfig(ENCODER))[0]).keys()
    assert load_file(tmp_path / "encoder.safetensors").keys() == names


def test_a_probe_is_not_compiled(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled before training, it would make the graphs of training dynamic, and those of a
    resumed run would not be: the last bits of their weights differed."""
    for i, file in enumerate(sorted(images.iterdir())):
        (tmp_path / f"images/{i % 2}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"images/{i % 2}" / file.name).hardlink_to(file)
    sides = set[int]()

    def backend(graph: torch.fx.GraphModule, given: list[Any]) -> Any:
        # a side that may vary would be a number among them
        assert all(isinstance(x, torch.Tensor) for x in given)
        sides.update(
            x.shape[-1]
            for x in given
            if x.ndim == 4 and x.shape[1] == 3 and not isinstance(x, nn.Parameter)
        )
        return graph.forward

    monkeypatch.setattr(
        nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend=backend)
    )
    usual = [w for w in USUAL if not w.startswith("probe")] + [
        "probe.every=1 steps",
        "probe.size=64",
        "probe.k=2",
    ]
    words = [
        f"data.path={tmp_path / 'images'}",
        f"run={tmp_path / 'run'}",
        *usual,
        *BYOL,
        "compile=true",
    ]
    torch.compiler.reset()
    assert main(["pretrain", "--config", str(CONFIGS / "byol.yaml"), *words]) == 0
    assert sides == {32}
    assert "knn_top1" in (tmp_path / "run/metrics.jsonl").read_text()
