"""A fine-tuned model in other libraries gives what it gives here."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from small import ENCODER
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from genseg.cli import main
from genseg.core.names import MODEL_NAME
from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.transfer.detector import BoxDetectorConfig, DetectorConfig
from genseg.transfer.predictor import (
    Predictor,
    Preparation,
    build_model,
    load_predictor,
    save_predictor,
)
from genseg.transfer.segmenter import DeepLabConfig, FPNConfig, SegmenterConfig

ANCHORS = (8.0, 16.0, 32.0, 64.0, 128.0)
PREPARATION = Preparation((0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 0, False)


def finetuned(
    run: Path, config: SegmenterConfig | DetectorConfig, *, fit: int = 0, name: str = "resnet18"
) -> Path:
    """A run directory with a model of random weights."""
    torch.manual_seed(0)
    architecture = EncoderConfig(name)
    model = build_model(config, build_encoder(architecture)[0], architecture, classes=2)
    run.mkdir()
    predictor = Predictor(model, ((3, "cat"), (7, "dog")), replace(PREPARATION, fit=fit))
    save_predictor(predictor, architecture, run / MODEL_NAME)
    return run


def test_a_detector_in_plain_torchvision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finetuned(tmp_path / "run", DetectorConfig(anchors=ANCHORS))
    assert main(["export", str(run), "--out", str(tmp_path / "m.pth")]) == 0
    assert "model = MaskRCNN(body, rpn_anchor_generator=anchors," in capsys.readouterr().out
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, trainable_layers=5, norm_layer=nn.BatchNorm2d
    )
    plain = MaskRCNN(backbone, num_classes=3)
    plain.load_state_dict(torch.load(tmp_path / "m.pth", weights_only=True))
    for name, x in load_predictor(run)[0].model.model.state_dict().items():
        assert torch.equal(x, plain.state_dict()[name])
    assert main(["export", str(run), "--out", str(tmp_path / "m.onnx")]) == 2
    assert "ONNX is for semantic models and places" in capsys.readouterr().err


NARROW = {"head_norm": "group", "width": 64, "hidden": 32}  # as in genseg's recipes


@pytest.mark.parametrize(
    ("fit", "file", "keys"),
    [
        (0, "m.pth", {}),
        (96, "m.safetensors", NARROW),
        (0, "m.pth", {**NARROW, "norm": "group"}),
        (0, "m.pth", {"norm": "frozen"}),
    ],
)
@pytest.mark.parametrize("kind", [DetectorConfig, BoxDetectorConfig])
def test_the_lines_that_an_export_prints_find_in_plain_torchvision_what_is_found_here(
    fit: int,
    file: str,
    keys: dict[str, Any],
    kind: type[DetectorConfig],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = finetuned(
        tmp_path / "run", kind(anchors=ANCHORS, score=0.0, detections=20, **keys), fit=fit
    )
    assert main(["export", str(run), "--out", str(tmp_path / file)]) == 0
    said = capsys.readouterr().out
    made: dict[str, Any] = {}
    exec(said.split(", for torchvision:\n\n")[1], made)
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    found = load_predictor(run)[0].detect(image)
    (plain,) = made["model"].eval()([torch.from_numpy(image).movedim(2, 0) / 255])
    assert len(found) == len(plain["boxes"]) == 20
    torch.testing.assert_close(
        torch.tensor([d.score for d in found]), plain["scores"], atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        torch.tensor([d.box_xyxy for d in found]), plain["boxes"], atol=0.05, rtol=0
    )


def test_a_run_is_never_overwritten_by_an_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """smp's and timm's folders have a model.safetensors, too."""
    run = finetuned(tmp_path / "run", SegmenterConfig())
    (run / "metrics.jsonl").touch()
    before = (run / MODEL_NAME).read_bytes()
    assert main(["export", str(run), "--out", str(run)]) == 2
    assert f"--out {run} is a run directory" in capsys.readouterr().err
    assert (run / MODEL_NAME).read_bytes() == before
    # more than an encoder
    assert main(["export", str(run / MODEL_NAME), "--out", str(tmp_path / "e.pth")]) == 2
    assert "holds more than an encoder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "config", [SegmenterConfig(), FPNConfig(), DeepLabConfig()], ids=lambda c: c.name
)
def test_a_segmenter_in_onnx_and_smp(tmp_path: Path, config: SegmenterConfig) -> None:
    run = finetuned(tmp_path / "run", config, name=ENCODER)
    model = load_predictor(run)[0].model.model.eval()
    assert main(["export", str(run), "--out", str(tmp_path / "smp")]) == 0
    loaded = smp.from_pretrained(tmp_path / "smp").eval()
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        wanted = model(x)
        # another memory layout, another order of sums
        assert torch.allclose(loaded(x), wanted, atol=1e-4)
    runtime = pytest.importorskip("onnxruntime", reason="ONNX is not installed")
    pytest.importorskip("onnxscript", reason="ONNX is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.showwarning", lambda *_: None)
        assert main(["export", str(run), "--out", str(tmp_path / "m.onnx")]) == 0
    (found,) = runtime.InferenceSession(tmp_path / "m.onnx").run(None, {"image": x.numpy()})
    assert np.abs(found - wanted.numpy()).max() < 1e-3


def test_what_goes_nowhere_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finetuned(tmp_path / "run", SegmenterConfig())
    # a folder, for all its point
    assert main(["export", str(run), "--out", str(tmp_path / "v1.0")]) == 0
    assert main(["export", str(run), "--out", str(tmp_path / "m.zip")]) == 2
    assert "end it in .pth, .safetensors or .onnx" in capsys.readouterr().err
    assert main(["export", str(run), "--out", str(tmp_path / "m.pth"), "--prefix", "body."]) == 2
    assert (
        "--prefix is for encoders" in capsys.readouterr().err and not (tmp_path / "m.pth").exists()
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"give a run of genseg finetune"):
        load_predictor(tmp_path / "empty")
