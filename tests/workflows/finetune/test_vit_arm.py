"""A teacher's ViT itself as the encoder of a fine-tuned model."""

import json
from pathlib import Path

import pytest
import timm
import torch
from coco_made import write_blobs
from safetensors.torch import save_file

from genseg.cli import main
from genseg.config import load
from genseg.transfer.predictor import load_predictor
from genseg.workflows.finetune.config import CHOICES, FinetuneConfig
from genseg.workflows.finetune.start import start_encoder, start_of

CONFIGS = Path(__file__).parents[3] / "configs/finetune"
KEYS = {
    "mask_rcnn": ["model.width=16", "model.hidden=32", "model.box_batch=16"],
    "places": ["model.decoder.channels=[16,16,8,8]", "model.decoder.tower=8"],
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("teacher") / "vit.safetensors"
    state = timm.create_model("test_vit", pretrained=False).state_dict()
    save_file({key: value.half() for key, value in state.items()}, file, {"timm": "test_vit"})
    return file


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labelled")
    write_blobs(root, count=2, each=4)
    return root / "labels.json"


@pytest.mark.parametrize("model", [*KEYS])
def test_its_file_is_a_start(
    model: str, teacher: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = [
        *("finetune", "--config", str(CONFIGS / f"{model}.yaml"), f"encoder={teacher}"),
        *(f"data.train={data}", f"data.val={data}", f"run={run}", "steps=2", "batch_size=2"),
        *("augment.size=64", "threads=1", "log_every=1 steps", *KEYS[model]),
    ]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "tensors loaded" in said.out + said.err
    predictor, facts = load_predictor(run / "best.safetensors")
    assert facts.encoder.name == "tu-test_vit" and facts.encoder.stem == "detail"
    out = tmp_path / "found"
    assert main(["predict", str(run), str(data), "--out", str(out), "--score", "0"]) == 0
    assert json.loads((out / "predictions.json").read_text()) is not None


def test_all_of_the_vit_is_loaded_and_only_the_convolutions_are_new(teacher: Path) -> None:
    config = load(
        FinetuneConfig,
        file=CONFIGS / "places.yaml",
        overrides=["data.train=t", "data.val=v", "run=r", f"encoder={teacher}"],
        choices=CHOICES,
    )
    encoder, facts, _ = start_encoder(config, start_of(str(teacher)))
    own = encoder.net.state_dict()
    from safetensors.torch import load_file

    for key, value in load_file(teacher).items():
        if not key.startswith("head"):
            assert torch.equal(own[f"model.{key}"], value.float()), key
    assert (facts.name, facts.stem) == ("tu-test_vit", "detail")


def test_random_weights_of_the_same_architecture_are_the_other_arm(teacher: Path) -> None:
    config = load(
        FinetuneConfig,
        file=CONFIGS / "places.yaml",
        overrides=["data.train=t", "data.val=v", "run=r", "architecture=tu-test_vit"],
        choices=CHOICES,
    )
    assert start_encoder(config, start_of("random"))[1].stem == "detail"
