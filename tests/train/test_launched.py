"""What a launcher's configuration asks for, and what accumulation makes no larger, are told."""

from pathlib import Path

import pytest

from genseg import config as configs
from genseg.train.launched import (
    PRECISION,
    SHARDED,
    check_precision,
    precision_note,
    refuse_sharding,
)
from genseg.workflows.pretrain.config import CHOICES, PretrainConfig
from genseg.workflows.pretrain.notes import _of_a_pass

RECIPES = Path(__file__).parents[2] / "configs/pretrain"


@pytest.mark.parametrize("name", SHARDED)
def test_a_model_is_never_split_in_silence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "false")
    refuse_sharding()
    monkeypatch.setenv(name, "true")
    with pytest.raises(
        ValueError, match=f"{name}.*Leave that out, and launch by accelerate launch --multi_gpu"
    ):
        refuse_sharding()


@pytest.mark.parametrize(
    ("told", "chosen", "refused", "noted"),
    [
        ("no", "bf16", False, True),  # what accelerate launch says when nobody has chosen
        ("no", "no", False, False),
        ("bf16", "bf16", False, False),
        ("fp16", "fp16", False, False),
        ("bf16", "no", True, False),
        ("fp16", "bf16", True, False),
        ("fp8", "bf16", True, False),
    ],
)
def test_a_launchers_precision_is_the_recipes_or_is_told(
    told: str, chosen: str, refused: bool, noted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PRECISION, raising=False)
    check_precision(chosen)
    assert precision_note(chosen) is None
    monkeypatch.setenv(PRECISION, told)
    assert (precision_note(chosen) is not None) == noted
    if refused:
        with pytest.raises(
            ValueError, match=f"mixed precision {told}.* precision is {chosen}: leave that out"
        ):
            check_precision(chosen)
    else:
        check_precision(chosen)


@pytest.mark.parametrize(
    ("recipe", "more", "named"),
    [
        (
            "simclr_alpha",
            [],
            ["SimCLR's negatives", "the counts that the alpha task's losses are divided by"],
        ),
        ("swav", [], ["SwAV's equal shares (Sinkhorn)"]),
        ("moco", [], []),
        ("byol", ["method.head=mlp"], []),
        ("byol", ["method.head=mlp_whiten"], ["whitening (method.head)"]),
    ],
)
def test_all_that_sees_one_pass_is_named(recipe: str, more: list[str], named: list[str]) -> None:
    config = configs.load(
        PretrainConfig,
        file=RECIPES / f"{recipe}.yaml",
        overrides=["run=r", "data.path=d", *more],
        choices=CHOICES,
    )
    assert _of_a_pass(config) == [*named, "batch norms"]
