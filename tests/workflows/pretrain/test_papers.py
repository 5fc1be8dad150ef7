"""The recipes of configs/pretrain/imagenet/ beside the numbers of the papers and of their code."""

from pathlib import Path

import pytest

from genseg import config as configs
from genseg.workflows.pretrain.config import CHOICES, PretrainConfig

ROOT = Path(__file__).parents[3]
PAPERS = {  # method, optimiser and each kind of views, as the papers and their code have them
    "moco": (
        {"temperature": 0.2, "momentum": 0.999, "queue": 65536},
        {"name": "sgd", "lr": 0.03, "weight_decay": 1e-4},
        {"both": (2, 224, (0.2, 1.0), (0.4, 0.4, 0.4, 0.1), 0.5, 0.0)},
    ),
    "simclr": (
        {"temperature": 0.1, "dim": 128},
        {"name": "lars", "lr": 0.3, "weight_decay": 1e-6},
        {"both": (2, 224, (0.08, 1.0), (0.8, 0.8, 0.8, 0.2), 0.5, 0.0)},
    ),
    "byol": (
        {"momentum": 0.996, "hidden": 4096, "dim": 256},
        {"name": "lars", "lr": 0.2, "weight_decay": 1.5e-6},
        {
            "first": (1, 224, (0.08, 1.0), (0.4, 0.4, 0.2, 0.1), 1.0, 0.0),
            "second": (1, 224, (0.08, 1.0), (0.4, 0.4, 0.2, 0.1), 0.1, 0.2),
        },
    ),
    "swav": (
        {"prototypes": 3000, "epsilon": 0.05, "temperature": 0.1, "iterations": 3},
        {"name": "lars", "lr": 0.3, "weight_decay": 1e-6},
        {
            "large": (2, 224, (0.14, 1.0), (0.8, 0.8, 0.8, 0.2), 0.5, 0.0),
            "small": (6, 96, (0.05, 0.14), (0.8, 0.8, 0.8, 0.2), 0.5, 0.0),
        },
    ),
}


def test_simmim_has_the_papers_numbers() -> None:
    """Its views are crops alone; its rate of 1e-4 is for 512 images, ours for 256."""
    config = configs.load(
        PretrainConfig,
        file=ROOT / "configs/pretrain/imagenet/simmim.yaml",
        overrides=["data.path=x", "run=x"],
        choices=CHOICES,
    )
    view, rate = config.views["one"], config.optimizer
    assert (config.method.ratio, config.method.patch, config.batch_size) == (0.6, 32, 2048)
    assert (view.count, view.size, view.scale, view.flip) == (1, 192, (0.67, 1.0), 0.5)
    assert view.jitter == view.gray == view.blur == 0
    assert (rate.name, rate.lr, rate.scaling) == ("adamw", 1e-4 / 2, "linear")
    assert (rate.weight_decay, rate.clip, config.epochs) == (0.05, 5, 800)


@pytest.mark.parametrize("name", PAPERS)
def test_the_large_recipes_have_the_papers_numbers(name: str) -> None:
    recipe = ROOT / f"configs/pretrain/imagenet/{name}.yaml"
    config = configs.load(
        PretrainConfig, file=recipe, overrides=["data.path=x", "run=x"], choices=CHOICES
    )
    method, optimizer, views = PAPERS[name]
    assert (
        method.items() <= vars(config.method).items()
        and optimizer.items() <= vars(config.optimizer).items()
    )
    drawn = {
        kind: (
            v.count,
            v.size,
            v.scale,
            (v.brightness, v.contrast, v.saturation, v.hue),
            v.blur,
            v.solarize,
        )
        for kind, v in config.views.items()
    }
    assert drawn == views
    assert all(
        (v.jitter, v.gray, v.flip, v.sigma) == (0.8, 0.2, 0.5, (0.1, 2.0))
        for v in config.views.values()
    )
