"""Pretrain with lightly's own blocks in its documented style: the peer that genseg is measured
beside.

Runs in an environment of its own (`make peers`) and imports nothing of genseg:

  .venv-peers/bin/python tools/peers/lightly_pretrain.py --method simclr --data photos --size 64
  --images 1e5

The methods are in lightly_methods.py. The loop is that of lightly's PyTorch examples (a plain
DataLoader, one forward pass a view) with what a comparison needs: a seed, a length in images seen,
bf16, a nearest-neighbour probe. What no option sets is what lightly documents. Prints one JSON
object a line: probes, then a summary of images/s, seconds a step in each stage (true on a CPU; a
GPU works on behind them) and peak memory.
"""

import argparse
import itertools
import json
import math
import random
import resource
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from lightly.data import LightlyDataset
from lightly.models.utils import get_weight_decay_parameters
from lightly.transforms.utils import IMAGENET_NORMALIZE
from lightly.utils.lars import LARS
from lightly.utils.scheduler import CosineWarmupScheduler, cosine_schedule
from lightly_methods import METHODS, Method, documented, resnet18, views_of
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder

WARMUP_STEPS = 3  # of --speed, not counted: allocation, oneDNN's choices, the workers' start
STAGES = ("wait", "prepare", "forward", "backward", "optimizer")


def options() -> argparse.Namespace:
    """The command line, with lightly's documented numbers where none is given."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = p.add_argument
    add("--method", required=True, choices=METHODS)
    add("--data", required=True, help="folder of images")
    add("--size", type=int, default=64, help="pixels of the (large) views")
    add(
        "--stem",
        choices=("small", "imagenet"),
        default="imagenet",
        help="small: 3x3 stride 1, no max-pool",
    )
    add("--batch", type=int, default=256)
    add("--images", type=float, default=0, help="images seen, rounded down to whole batches")
    add(
        "--speed",
        type=int,
        default=0,
        metavar="STEPS",
        help=f"time so many, after {WARMUP_STEPS} others",
    )
    add("--workers", type=int, default=2)
    add("--threads", type=int, default=0, help="of the training process; 0: torch's choice")
    add("--seed", type=int, default=0)
    add("--optimizer", choices=("sgd", "adamw", "lars"), default="sgd")
    add("--lr", type=float, default=0.06, help="for this batch: nothing is scaled")
    add("--weight-decay", type=float, default=5e-4)
    add("--decay", choices=("all", "weights"), default="all", help="weights: not biases and norms")
    add("--warmup-images", type=float, default=0)
    add("--schedule", choices=("cosine", "constant"), default="cosine")
    add(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="bf16: autocast, losses in fp32",
    )
    add("--channels-last", action="store_true")
    add("--temperature", type=float)
    add("--queue", type=int, help="MoCo's memory bank; SwAV's queue for each large view, 0: none")
    add(
        "--queue-start",
        type=float,
        default=0,
        metavar="IMAGES",
        help="SwAV's queue is used from here",
    )
    add("--prototypes", type=int)
    add(
        "--momentum",
        type=float,
        nargs=2,
        metavar=("START", "END"),
        help="of the teacher; a cosine between",
    )
    add("--symmetric", action=argparse.BooleanOptionalAction, help="MoCo's loss, both ways")
    add("--splits", type=int, help="MoCo's batch-norm groups, 0: one")
    add("--min-scale", type=float, help="smallest part of the image that a (large) view shows")
    add("--jitter", type=float, help="factor on the colour jitter")
    add("--blur", type=float, help="probability")
    add("--small-crops", type=int, help="SwAV's views of half the size")
    add("--out", type=Path, help="the backbone as FILE.safetensors with torchvision's key names")
    add("--knn-data", type=Path, help="folder with train/CLASS and test/CLASS")
    add(
        "--knn-train-limit",
        type=int,
        default=0,
        help="at most so many images, drawn by a fixed seed",
    )
    add("--knn-test-limit", type=int, default=0)
    add("--probe-images", default="", help="also probe after so many images: 0,50000,100000")
    o = p.parse_args()
    for key, value in documented(o.method, o.size).items():
        if getattr(o, key) is None:
            setattr(o, key, value)
    if bool(o.images) == bool(o.speed):
        p.error("give one of --images and --speed")
    if o.splits and (o.batch % o.splits or o.channels_last):
        p.error(
            f"--splits {o.splits}: split batch norm needs a batch that it divides and no "
            "--channels-last"
        )
    return o


def optimizer_of(o: argparse.Namespace, model: nn.Module) -> torch.optim.Optimizer:
    """SGD, AdamW or LARS over all trainable parameters."""
    groups: list[dict[str, Any]] = [{"params": [p for p in model.parameters() if p.requires_grad]}]
    if o.decay == "weights":
        decayed, others = (
            [p for p in ps if p.requires_grad] for ps in get_weight_decay_parameters([model])
        )
        groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    if o.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=o.lr, weight_decay=o.weight_decay)
    kind = torch.optim.SGD if o.optimizer == "sgd" else LARS
    return kind(groups, lr=o.lr, momentum=0.9, weight_decay=o.weight_decay)


def endless(loader: DataLoader) -> Iterator[list[Tensor]]:
    """The views of batch after batch, epoch after epoch."""
    for _ in itertools.count():
        for batch in loader:
            yield batch[0]


class Probe:
    """Weighted k-nearest neighbours (Wu et al., 2018, 3.4; k 20, T 0.1) on the backbone's float32
    output."""

    def __init__(self, o: argparse.Namespace, device: torch.device) -> None:
        steps = torchvision.transforms
        plain = steps.Compose(
            [
                steps.Resize(o.size),
                steps.CenterCrop(o.size),
                steps.ToTensor(),
                steps.Normalize(**IMAGENET_NORMALIZE),
            ]
        )
        self.device = device
        self.loaders = []
        for name, limit in (("train", o.knn_train_limit), ("test", o.knn_test_limit)):
            folder = ImageFolder(o.knn_data / name, plain)
            chosen = np.random.default_rng(0).permutation(len(folder))[: limit or None]
            part = Subset(folder, chosen.tolist())
            self.loaders.append(DataLoader(part, batch_size=256, num_workers=o.workers))

    @torch.no_grad()
    def measure(self, backbone: nn.Module) -> dict[str, float]:
        """Top-1 and balanced accuracy."""
        backbone.eval()
        (known, known_labels), (asked, labels) = (
            self._features(backbone, loader) for loader in self.loaders
        )
        backbone.train()
        predicted = []
        for part in asked.split(1000):
            similarity, nearest = (part @ known.T).topk(min(20, len(known)), dim=1)
            votes = torch.zeros(len(part), int(known_labels.max()) + 1)
            predicted.append(
                votes.scatter_add_(1, known_labels[nearest], (similarity / 0.1).exp()).argmax(1)
            )
        right = (torch.cat(predicted) == labels).float()
        recalls = torch.stack([right[labels == c].mean() for c in labels.unique()])
        return {
            "knn_top1": round(float(right.mean()), 4),
            "knn_balanced": round(float(recalls.mean()), 4),
        }

    def _features(self, backbone: nn.Module, loader: DataLoader) -> tuple[Tensor, Tensor]:
        found = [(backbone(x.to(self.device)).float().cpu(), y) for x, y in loader]
        return F.normalize(torch.cat([x for x, _ in found]), dim=1), torch.cat(
            [y for _, y in found]
        )


# of step, seconds so far, mean loss since the last report
Report = Callable[[int, float, float], None]


def train(
    o: argparse.Namespace, model: Method, device: torch.device, total: int, report: Report
) -> dict[str, float]:
    """Train for `total` updates and report after those that --probe-images names and the last.

    Returns the seconds of all stages, without the reports and without the warm-up of --speed.
    """
    layout = torch.channels_last if o.channels_last else torch.contiguous_format
    model.to(memory_format=layout)
    optimizer = optimizer_of(o, model)
    warmup, end = int(o.warmup_images) // o.batch, 0.0 if o.schedule == "cosine" else 1.0
    scheduler = CosineWarmupScheduler(
        optimizer, warmup_epochs=warmup, max_epochs=total, end_value=end
    )
    data = LightlyDataset(o.data, transform=views_of(o))
    views = endless(
        DataLoader(
            data,
            batch_size=o.batch,
            shuffle=True,
            drop_last=True,
            num_workers=o.workers,
            generator=torch.Generator().manual_seed(o.seed),
        )
    )
    due = {-(-int(float(n)) // o.batch) for n in o.probe_images.split(",") if n} | {total}
    seconds = np.zeros(len(STAGES))
    losses: list[float] = []
    if 0 in due:
        report(0, 0.0, math.nan)
    for step in range(total):
        begin = time.perf_counter()
        model.before(step * o.batch, cosine_schedule(step, total, *(o.momentum or (1.0, 1.0))))
        marks = [time.perf_counter()]
        batch = next(views)
        marks.append(time.perf_counter())
        batch = [x.to(device, memory_format=layout) for x in batch]
        marks.append(time.perf_counter())
        with torch.autocast(device.type, torch.bfloat16, enabled=o.precision == "bf16"):
            outputs = model(batch)
        loss = model.loss([x.float() for x in outputs])
        marks.append(time.perf_counter())
        loss.backward()
        marks.append(time.perf_counter())
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        losses.append(float(loss.detach()))
        marks.append(time.perf_counter())
        spent = np.diff(marks) + [0, 0, 0, 0, marks[0] - begin]
        seconds = spent + (0 if o.speed and step <= WARMUP_STEPS else seconds)
        if not math.isfinite(losses[-1]):
            raise SystemExit(f"the loss is {losses[-1]} at step {step}")
        if step + 1 in due:
            report(step + 1, float(seconds.sum()), math.fsum(losses) / len(losses))
            losses.clear()
    views.close()  # type: ignore[attr-defined]
    return dict(zip(STAGES, seconds.tolist(), strict=True))


def save_backbone(backbone: nn.Module, path: Path, facts: dict[str, Any]) -> None:
    """Write FILE.safetensors: a length, a JSON header, the bytes. lightly brings no package for
    it."""
    # here lightly's split batch norm averages its statistics, one copy for each split
    backbone.eval()
    norms = {name: m for name, m in backbone.named_modules() if isinstance(m, nn.BatchNorm2d)}
    # as `genseg probe` reads it
    header: dict[str, Any] = {"__metadata__": {"genseg": json.dumps(facts)}}
    content = b""
    for name, tensor in backbone.state_dict().items():
        owner, _, last = name.rpartition(".")
        if last in ("running_mean", "running_var"):
            tensor = tensor[: norms[owner].num_features]
        data = tensor.cpu().contiguous().numpy().tobytes()
        kind = {torch.float32: "F32", torch.int64: "I64"}[tensor.dtype]
        place = (len(content), len(content) + len(data))
        header[name] = {"dtype": kind, "shape": tuple(tensor.shape), "data_offsets": place}
        content += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


def peak_mib(who: int) -> int:
    return round(resource.getrusage(who).ru_maxrss / 1024)


def main() -> None:
    o = options()
    random.seed(o.seed)
    np.random.seed(o.seed)
    torch.manual_seed(o.seed)
    if o.threads:
        torch.set_num_threads(o.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = METHODS[o.method](resnet18(o.stem, o.splits or 0), o).to(device)
    probe = Probe(o, device) if o.knn_data else None

    def report(step: int, seconds: float, loss: float) -> None:
        row = {"images": step * o.batch, "seconds": seconds, "loss": loss if step else None}
        print(json.dumps(row | (probe.measure(model.backbone) if probe else {})), flush=True)

    total = int(o.images) // o.batch if o.images else WARMUP_STEPS + o.speed
    stages = train(o, model, device, total, report)
    seconds, steps = sum(stages.values()), o.speed or total
    if o.out:
        facts = {"method": f"lightly {o.method}", "encoder": {"name": "resnet18", "stem": o.stem}}
        facts |= {"size": o.size, "images_seen": total * o.batch, **IMAGENET_NORMALIZE}
        save_backbone(model.backbone, o.out, facts)
    summary = {
        "method": o.method,
        "images_per_second": steps * o.batch / seconds,
        "seconds": seconds,
        "steps": steps,
        "stages": {name: spent / steps for name, spent in stages.items()},
        "peak_rss_mib": peak_mib(resource.RUSAGE_SELF),
        "peak_rss_worker_mib": peak_mib(resource.RUSAGE_CHILDREN),
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in vars(o).items()},
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
