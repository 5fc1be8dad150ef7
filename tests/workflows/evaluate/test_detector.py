"""Scores are the same on one and on two processes; what a report needs is kept."""

import json
from pathlib import Path

import pytest
import torch
from coco_made import write_blobs
from processes import forked

from genseg.core.names import MODEL_NAME
from genseg.core.precision import scoring_precision
from genseg.data.labels.labelled_set import read_labelled
from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.transfer.detector import DetectorConfig
from genseg.transfer.predictor import (
    Predictor,
    Preparation,
    build_model,
    load_predictor,
    save_predictor,
)
from genseg.transfer.segmenter import SegmenterConfig
from genseg.workflows.evaluate.detector import evaluate_model

ARCHITECTURE = EncoderConfig("resnet18")
PREPARATION = Preparation((0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 64, False)
CONFIGS = [
    DetectorConfig(
        width=16, hidden=32, anchors=(8.0, 16.0, 32.0, 64.0, 128.0), detections=10, score=0.0
    ),
    SegmenterConfig(),
]


def scored(folder: Path) -> str:
    predictor, _ = load_predictor(folder / MODEL_NAME)
    labelled, _ = read_labelled(folder / "labels.json", masks=True)
    return json.dumps(evaluate_model(predictor, labelled).as_json())


def test_a_model_is_scored_in_the_precision_of_its_own_validation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("genseg.core.precision.fast_precision", lambda device: torch.bfloat16)
    cpu = torch.device("cpu")
    assert scoring_precision("auto", cpu) == torch.bfloat16
    assert [scoring_precision(p, cpu) for p in ("no", "bf16", "fp16")] == [torch.float32] * 3


def _one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    (Path(folder) / f"{rank}.json").write_text(scored(Path(folder)))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_two_processes_score_as_one(
    tmp_path: Path, config: DetectorConfig | SegmenterConfig
) -> None:
    """Three images: the shares are of unequal size."""
    write_blobs(tmp_path, count=3, each=5)
    torch.manual_seed(0)
    model = build_model(config, build_encoder(ARCHITECTURE)[0], ARCHITECTURE, classes=2)
    predictor = Predictor(model, ((3, "cat"), (7, "dog")), PREPARATION)
    save_predictor(predictor, ARCHITECTURE, tmp_path / MODEL_NAME)
    one = scored(tmp_path)
    forked(_one_rank, str(tmp_path), count=2)
    assert [(tmp_path / f"{rank}.json").read_text() for rank in (0, 1)] == [one, one]
    assert json.loads(one)["images"] == 3
