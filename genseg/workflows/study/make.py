"""Make a cell: train its encoder, or draw it, and measure it."""

import json
import math
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genseg import __version__
from genseg.core.files import replacing, write_text
from genseg.core.names import CELL_NAME, CHECKPOINTS, ENCODER_NAME, TIMM
from genseg.core.reading import current
from genseg.measure.features import fit_batch_norms
from genseg.nn.encoder import build_encoder
from genseg.nn.encoder_file import EncoderFacts, save_encoder
from genseg.runs import checkpoint
from genseg.runs.metrics import ProgressLine
from genseg.workflows.pretrain.pretrain import pretrain
from genseg.workflows.study.cells import Cell
from genseg.workflows.study.measures import MEASURES, Subject, labelled_images

MEASURED, FEATURES = "measures", "features.npy"
ALIKE = 1000  # images whose features are kept, to compare arms by
FITTED = 5000  # images that batch norms are fitted to


@dataclass(frozen=True)
class Task:
    """A cell that has to be made, and what of it is to be measured.

    settings: of each measure, what its numbers depend on
    """

    cell: Cell
    subject: Subject
    settings: dict[str, dict[str, Any]]
    alike: bool = False
    threads: int = 0

    @property
    def title(self) -> str:
        return self.cell.title

    @property
    def missing(self) -> list[str]:
        """The measures that are not there yet."""
        return [m for m, s in self.settings.items() if read_measure(self.cell, m, s) is None]

    @property
    def done(self) -> bool:
        features = not self.alike or (self.cell.folder / FEATURES).is_file()
        return (self.cell.folder / CELL_NAME).is_file() and features and not self.missing


def with_threads(task: Task, threads: int) -> Task:
    """The task for a process that has so many threads."""
    return replace(task, threads=threads)


def make(task: Task, line: ProgressLine | None = None) -> str:
    """Do what is missing; a word on what came out. Raises ValueError for what a user can mend,
    which names the cell, and KeyboardInterrupt when training was asked to end, and has saved."""
    try:
        return _made(task, line)
    except ValueError as error:
        raise ValueError(f"{task.title}: {error}") from error


def _made(task: Task, line: ProgressLine | None) -> str:
    if task.threads:
        torch.set_num_threads(task.threads)
    cell = task.cell
    cell.folder.mkdir(parents=True, exist_ok=True)
    if not (cell.folder / CELL_NAME).is_file():
        if line is None:
            with open(os.devnull, "w") as nowhere:
                _train(cell, ProgressLine(nowhere))
        else:
            _train(cell, line)
    for measure in task.missing:
        values = MEASURES[measure][0](task.subject)
        finite = {k: v for k, v in values.items() if math.isfinite(v)}
        content = {"settings": task.settings[measure], "values": finite}
        file = _measure_file(cell, measure)
        file.parent.mkdir(exist_ok=True)
        write_text(file, json.dumps(content, indent=1) + "\n")
    if task.alike and not (cell.folder / FEATURES).is_file():
        kept = task.subject.of_asked[:ALIKE].numpy().astype(np.float16)
        with replacing(cell.folder / FEATURES) as temporary, temporary.open("wb") as stream:
            np.save(stream, kept)
    if not cell.reads_names:  # zero_shot reads the whole method
        shutil.rmtree(cell.run / CHECKPOINTS, ignore_errors=True)
    shutil.rmtree(cell.run / TIMM, ignore_errors=True)
    found = values_of(cell, task.settings)
    return f"{task.title}: " + ", ".join(f"{k} {v:.3f}" for k, v in list(found.items())[:4])


def _train(cell: Cell, line: ProgressLine) -> None:
    """Make the encoder of a cell, and say in cell.json that it is there and what it cost."""
    before = checkpoint.peek(cell.run)
    step = int(before["step"]) if before else 0
    began = time.process_time()
    if cell.kind == "pretrain":
        result = pretrain(cell.config, progress=line)
        if not result.complete:
            raise KeyboardInterrupt
        seen, part = result.images_seen, (result.steps - step) / result.steps
    else:
        _draw(cell)
        seen, part = 0, 1.0
    content = {
        "described": cell.described,
        "images_seen": seen,
        # of the processor; of a run that was killed, as if it had cost as much before
        "seconds": (time.process_time() - began) / part if part else None,
        "genseg": __version__,
    }
    write_text(cell.folder / CELL_NAME, json.dumps(content, indent=1) + "\n")


def _draw(cell: Cell) -> None:
    """Random weights, those that a training with this seed begins with."""
    c = cell.config
    torch.manual_seed(c.seed % 2**63)
    encoder, _ = build_encoder(c.encoder)
    size = cell.described["size"]
    if cell.kind == "fitted":
        images = labelled_images(c.data.path, c.data.cache, FITTED)
        fit_batch_norms(
            encoder, images.source, images.indices, size=size, mean=c.data.mean, std=c.data.std
        )
    facts = EncoderFacts(
        encoder=c.encoder,
        method=cell.kind,
        mean=c.data.mean,
        std=c.data.std,
        size=size,
        reading=current(),
    )
    cell.run.mkdir(exist_ok=True)
    save_encoder(encoder, cell.run / ENCODER_NAME, facts)


def read_measure(cell: Cell, measure: str, settings: dict[str, Any]) -> dict[str, float] | None:
    """The numbers of a measure; None where they are not there, or were made with other
    settings."""
    try:
        content = json.loads(_measure_file(cell, measure).read_text("utf-8"))
        same = content["settings"] == json.loads(json.dumps(settings))
        return {str(k): float(v) for k, v in content["values"].items()} if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def values_of(cell: Cell, settings: dict[str, dict[str, Any]]) -> dict[str, float]:
    """All numbers of a cell that are there, and the seconds of its training."""
    found = dict[str, float]()
    for measure, own in settings.items():
        found |= read_measure(cell, measure, own) or {}
    return found


def cost_of(cell: Cell) -> dict[str, Any] | None:
    """What cell.json says; None where the encoder is not there."""
    try:
        return dict(json.loads((cell.folder / CELL_NAME).read_text("utf-8")))
    except (OSError, ValueError):
        return None


def _measure_file(cell: Cell, measure: str) -> Path:
    return cell.folder / MEASURED / f"{measure}.json"
