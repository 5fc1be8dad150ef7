"""What a run refuses before it begins: directories that are not its own, and a launcher's
settings."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from accelerate.state import AcceleratorState
from small import ENCODER

from genseg.cli import main

ROOT = Path(__file__).parents[3]
BYOL = [
    "pretrain",
    "--config",
    str(ROOT / "configs/pretrain/byol.yaml"),
    f"encoder.name={ENCODER}",
    "batch_size=4",
    "views.first.size=32",
    "views.second.size=32",
    "method.hidden=16",
    "data.workers=0",
    "data.cache=0",
    "probe.every=0 steps",
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(8):
        cv2.imwrite(str(root / f"{i}.jpg"), rng.integers(0, 255, (40, 44, 3), dtype=np.uint8))
    return root


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "byol"
    assert main([*BYOL, f"data.path={images}", f"run={run}", "epochs=1"]) == 0
    return run


def test_a_dry_run_refuses_what_the_run_refuses(
    run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = [*BYOL, f"data.path={images}", "--dry-run"]
    (tmp_path / "config.yaml").write_text("mine: 1")
    (tmp_path / "file").write_text("")
    for words, complaint in (
        ([f"run={run}", "epochs=9"], "was started with another config"),
        ([f"run={tmp_path}", "epochs=1"], "holds config.yaml, and no env.json of genseg's"),
        ([f"run={tmp_path / 'file' / 'run'}", "epochs=1"], "cannot write"),
    ):
        assert main([*usual, *words]) == 2
        assert complaint in capsys.readouterr().err
    assert main([*usual, f"run={run}", "epochs=9", "--fresh"]) == 0


@pytest.mark.parametrize("fresh", [True, False])
def test_what_is_not_genseg_s_is_neither_overwritten_nor_removed(
    fresh: bool, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "timm").mkdir()
    mine = [tmp_path / "config.yaml", tmp_path / "timm" / "models.py"]
    for file in mine:
        file.write_text("mine")
    words = [*BYOL, f"data.path={images}", f"run={tmp_path}", "steps=1", *["--fresh"] * fresh]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert (
        "holds timm, config.yaml, and no env.json of genseg's" in said and "Traceback" not in said
    )
    assert [file.read_text() for file in mine] == ["mine", "mine"]


def test_a_home_folder_is_one_everywhere(
    run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copy(run / "encoder.safetensors", tmp_path / "e.safetensors")
    words = [
        *BYOL,
        f"data.path={images}",
        "run=~/run",
        "encoder.weights=~/e.safetensors",
        "steps=1",
    ]
    assert main(words) == 0
    assert (tmp_path / "run" / "encoder.safetensors").exists() and not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "say accumulate=N"),
        ("ACCELERATE_DYNAMO_BACKEND", "EAGER", "compile=true"),
        ("ACCELERATE_MIXED_PRECISION", "fp16", "leave that out, or say precision=fp16"),
        ("ACCELERATE_MIXED_PRECISION", "fp8", "leave that out; genseg knows"),
        ("ACCELERATE_USE_FSDP", "true", "configured to use FSDP"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "configured to use DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "configured to use Megatron-LM"),
    ],
)
def test_a_launcher_changes_no_training_in_silence(
    name: str,
    value: str,
    remedy: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    AcceleratorState._reset_state()
    try:
        assert main([*BYOL, f"data.path={images}", f"run={tmp_path / 'run'}", "steps=1"]) == 2
    finally:
        AcceleratorState._reset_state()
    assert remedy in capsys.readouterr().err


@pytest.mark.parametrize(("batch", "accumulate", "fitting"), [(12, 1, 16), (8, 1, 16), (24, 2, 32)])
def test_batch_norm_groups_that_divide_no_pass_are_told_before_images_are_read(
    batch: int, accumulate: int, fitting: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """MoCo's recipe has 8 groups."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "empty.jpg").touch()
    words = [
        "pretrain",
        "--config",
        str(ROOT / "configs/pretrain/moco.yaml"),
        f"data.path={tmp_path / 'images'}",
        f"run={tmp_path / 'run'}",
        f"batch_size={batch}",
        f"accumulate={accumulate}",
    ]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "8 batch-norm groups (method.splits) of at least 2 images" in said
    assert f"use batch_size={fitting}, or method.splits=1 where there are fewer images\n" in said
