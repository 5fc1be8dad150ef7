"""How fast fine-tuning is, beside torchvision's reference training of detectors; called by
tools/benchmark.py.

The reference is train_one_epoch of references/detection/engine.py as it stands there: images as a
list, torchvision's transform in the model, the losses summed, SGD, full precision (its autocast is
for CUDA alone), its own RoIAlign. The model has genseg's widths and anchors and the crops are
genseg's own, so the loop, the layout of memory, the precision and RoIAlign are all that differs.
"""

import argparse
import contextlib
import dataclasses
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from genseg import config as configs
from genseg.data.labels.labelled_set import read_labelled
from genseg.data.labels.samples import Sample
from genseg.measure.detection import detection_scores
from genseg.train.loop import train
from genseg.transfer.detector import Detector
from genseg.workflows.finetune.config import CHOICES, FinetuneConfig
from genseg.workflows.finetune.parts import FinetuneParts, assemble_finetune
from genseg.workflows.finetune.session import FinetuneSession, Within

ROOT = Path(__file__).resolve().parent.parent
WARMUP_STEPS = 3  # not counted


def finetune(o: argparse.Namespace, table: Callable[..., str], machine: Mapping[str, Any]) -> None:
    """Images/s of training and seconds of scoring, genseg's and the reference's, medians over
    rounds."""
    rates: dict[str, list[float]] = {"genseg": [], "torchvision's loop": []}
    for _ in range(o.rounds):
        parts, batches = labelled_parts(o)
        rates["genseg"].append(own_rate(parts, batches, o))
        parts, batches = labelled_parts(o)
        rates["torchvision's loop"].append(
            reference_rate(parts, batches, warmup=WARMUP_STEPS, steps=o.steps)
        )
    own, theirs = (statistics.median(r) for r in rates.values())
    rows = [
        [n, f"{statistics.median(r):.2f}", f"{min(r):.2f} to {max(r):.2f}"]
        for n, r in rates.items()
    ]
    print(
        f"{o.steps} updates of {parts.config.batch_size} crops of {parts.config.augment.size} px, "
        f"{torch.get_num_threads()} threads, {machine['cpu']}: {own / theirs:.2f} x"
    )
    print(table(["training", "images/s", "range"], rows), "\n")
    print(table(["scoring masks", "seconds", "AP"], scoring_rows(Path(o.val), o.rounds)))


def labelled_parts(o: argparse.Namespace) -> tuple[Any, Any]:
    """The parts of a fine-tuning run, and its crops from the first update on."""
    given = [f"data.train={o.train}", "run=unused", "images=null", "steps=1000", *o.overrides]
    file = ROOT / "configs" / "finetune" / "mask_rcnn.yaml"
    parts = assemble_finetune(
        configs.load(FinetuneConfig, file=file, overrides=given, choices=CHOICES)
    )
    return parts, parts.loader(0)


def own_rate(parts: Any, batches: Any, o: argparse.Namespace) -> float:
    """Images/s of genseg's loop, its hooks included."""
    with tempfile.TemporaryDirectory() as run:
        session = FinetuneSession(parts, Path(run), None, Within())
        session.save_every = 0
        c = parts.config
        began = 0.0
        for total in (WARMUP_STEPS, WARMUP_STEPS + o.steps):
            began = time.perf_counter()
            # one more: the last of a run is saved
            plan = dataclasses.replace(parts.plan, total=total + 1)
            train(
                parts.wrapped,
                parts.optimizer,
                batches,
                parts.accelerator,
                session,
                plan=plan,
                start=session.step,
                passes=1,
                clip=c.optimizer.clip,
                seed=c.seed,
            )
    return o.steps * c.batch_size / (time.perf_counter() - began)


def scoring_rows(val: Path, rounds: int) -> list[list[str]]:
    """Seconds to score detections with genseg, and with pycocotools as it comes; both read the same
    labels."""
    labelled, _ = read_labelled(val, masks=True)
    found = [
        {
            "image_id": i.number,
            "category_id": labelled.categories[c][0],
            "score": 1 / (2 + n),
            "segmentation": m,
        }
        for i in labelled.images
        for n, (c, m) in enumerate(zip(i.classes, i.masks or (), strict=True))
    ]

    def plain() -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(val))
            evaluation = COCOeval(truth, truth.loadRes([dict(r) for r in found]), "segm")
            evaluation.params.maxDets = [1, 10, 100]
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return float(evaluation.stats[0])

    ways = {
        "genseg": lambda: detection_scores(labelled, found, masks=True).ap,
        "pycocotools": plain,
    }
    rows = []
    for name, score in ways.items():
        seconds = []
        for _ in range(rounds):
            began = time.perf_counter()
            ap = score()
            seconds.append(time.perf_counter() - began)
        rows.append([name, f"{statistics.median(seconds):.2f}", f"{ap:.4f}"])
    return rows


def reference_rate(
    parts: FinetuneParts, batches: Iterator[list[Sample]], *, warmup: int, steps: int
) -> float:
    """Images a second over `steps` updates after `warmup` uncounted ones. `parts` is used up: its
    model is changed."""
    assert isinstance(parts.model, Detector)
    size = parts.config.augment.size
    p = parts.predictor.preparation
    model: nn.Module = parts.model.model.to(memory_format=torch.contiguous_format)
    model.transform = GeneralizedRCNNTransform(size, size, list(p.mean), list(p.std))
    heads: Any = model.roi_heads
    heads.box_roi_pool, heads.mask_roi_pool = (
        MultiScaleRoIAlign(["0", "1", "2", "3"], bins, 2) for bins in (7, 14)
    )
    parameters = [q for q in model.parameters() if q.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.005, momentum=0.9, weight_decay=1e-4)
    model.train()
    images, began = 0, 0.0
    for step in range(warmup + steps):
        if step == warmup:
            began = time.perf_counter()
        batch = next(batches)
        pictures = [s.image.movedim(-1, 0).float() / 255 for s in batch]
        targets = [_target(s) for s in batch]
        losses: dict[str, torch.Tensor] = model(pictures, targets)
        loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        images += len(batch) if step >= warmup else 0
    return images / (time.perf_counter() - began)


def _target(s: Sample) -> dict[str, Any]:
    target: dict[str, Any] = {"boxes": s.boxes_xyxy, "labels": s.classes + 1}
    return target if s.masks is None else target | {"masks": s.masks}
