"""The parts of a fine-tuning run, assembled top to bottom from its config."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from genseg.alpha.decoder import AlphaDecoder
from genseg.core import dist
from genseg.core.schedule import Plan, plan
from genseg.data.images.loader import with_clear_errors
from genseg.data.images.uneven import notes_on
from genseg.data.labels.findings import Findings
from genseg.data.labels.labelled_set import LabelledSet
from genseg.data.labels.read import ReadLabels, is_semantic, read_labels
from genseg.data.labels.samples import (
    CropDataset,
    Sample,
    SemanticSample,
    crop_batches,
    cropped,
    cropped_semantic,
)
from genseg.data.regions.opened import refuse_whole
from genseg.nn.encoder import MULTIPLE, Encoder, EncoderConfig
from genseg.runs.resume import described
from genseg.train.launched import precision_note
from genseg.train.machine import circumstances, make_accelerator, prepare
from genseg.train.optim import build_optimizer
from genseg.transfer.detector import DetectorConfig
from genseg.transfer.predictor import Model, Predictor, build_model
from genseg.workflows.finetune.config import FinetuneConfig
from genseg.workflows.finetune.start import (
    fingerprint_of,
    prepared_as,
    start_decoder,
    start_encoder,
    start_of,
    with_anchors,
)


@dataclass
class FinetuneParts:
    """Everything that a fine-tuning run is made of."""

    config: FinetuneConfig
    accelerator: Accelerator
    architecture: EncoderConfig
    train: LabelledSet
    val: LabelledSet | None
    findings: dict[str, Findings]  # of the preflight, by file
    plan: Plan
    predictor: Predictor  # holds the model, not wrapped
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    loaded: list[nn.Parameter]  # those that were not new
    notes: list[str]  # what the user should know before training starts
    fingerprint: str

    @property
    def model(self) -> Model:
        return self.predictor.model

    @property
    def semantic(self) -> bool:
        """Whether pixels get a class, and no instances are found."""
        return is_semantic(self.config.model.name)

    @property
    def circumstances(self) -> dict[str, Any]:
        """What is not in the config and changes the weights that come out."""
        return circumstances(self.config.precision)

    @property
    def described(self) -> dict[str, Any]:
        """All that decides the run's weights beside its data, as its checkpoints keep it."""
        return described(self.config, self.circumstances)

    def loader(self, start: int) -> Iterator[list[Sample]] | Iterator[list[SemanticSample]]:
        """Crops of this rank from update `start` on, a list for each pass."""
        c = self.config
        how: dict[str, Any] = {
            "batch": c.batch_size,
            "start": start,
            "total": self.plan.total,
            "passes": c.accumulate,
            "workers": c.data.workers,
            "rank": dist.rank(),
            "world": dist.world(),
        }
        stretched = self.predictor.preparation.stretch
        if self.semantic:
            semantic = partial(
                cropped_semantic, classes=len(self.train.categories), stretched=stretched
            )
            return with_clear_errors(
                crop_batches(CropDataset(self.train, c.augment, semantic, seed=c.seed), **how)
            )
        instances = partial(cropped, stretched=stretched)
        return with_clear_errors(
            crop_batches(CropDataset(self.train, c.augment, instances, seed=c.seed), **how)
        )


def assemble_finetune(config: FinetuneConfig, read: ReadLabels = read_labels) -> FinetuneParts:
    """Build all parts of a run. Raises ValueError for what a user can mend."""
    if config.threads:
        torch.set_num_threads(config.threads)
    accelerator = make_accelerator(
        precision=config.precision, run=config.run, tracker=config.tracker
    )
    _refuse_uneven(config, accelerator)
    train, val, findings = _labels(config, read)
    torch.manual_seed(config.seed)
    start = start_of(config.encoder)
    encoder, architecture, notes = start_encoder(config, start)
    encoder.check_size(**{"augment.size": -(-config.augment.size // MULTIPLE) * MULTIPLE})
    preparation = prepared_as(config, start)
    config = with_anchors(config, train, preparation)
    notes += _notes(config, accelerator, train, val)
    decoder = start_decoder(config, start, encoder, notes)
    if decoder is not None:
        config = replace(config, model=replace(config.model, decoder=decoder.config))
    # again: loading has drawn, and new heads are to be the same whatever was loaded
    torch.manual_seed(config.seed)
    model = build_model(
        config.model, encoder, architecture, classes=len(train.categories), decoder=decoder
    )
    if config.channels_last:
        model.to(memory_format=torch.channels_last)
    length = plan(
        images=max(len(train.images), config.batch_size),
        batch=config.batch_size,
        epochs=config.epochs,
        steps=config.steps,
        samples=config.images,
    )
    scales = (
        {}
        if start.is_random
        else learning_rates(
            encoder, decoder, pretrained_lr=config.pretrained_lr, layer_decay=config.layer_decay
        )
    )
    optimizer = build_optimizer(
        config.optimizer, model, length, fused=accelerator.mixed_precision != "fp16", scales=scales
    )
    wrapped, optimizer = prepare(accelerator, model, optimizer)
    return FinetuneParts(
        config=config,
        accelerator=accelerator,
        architecture=architecture,
        train=train,
        val=val,
        findings=findings,
        plan=length,
        predictor=Predictor(model, train.categories, preparation),
        wrapped=wrapped,
        optimizer=optimizer,
        loaded=list(scales),
        notes=notes,
        fingerprint=fingerprint_of(train, start, val),
    )


def _refuse_uneven(config: FinetuneConfig, accelerator: Accelerator) -> None:
    """Raise ValueError where a batch does not divide into the passes of all processes."""
    pieces = accelerator.num_processes * config.accumulate
    if config.batch_size % pieces:
        fitting = math.ceil(config.batch_size / pieces) * pieces
        raise ValueError(
            f"batch_size={config.batch_size} has to divide into {accelerator.num_processes} "
            f"processes x {config.accumulate} passes; use batch_size={fitting}"
        )


def _labels(
    config: FinetuneConfig, read: ReadLabels
) -> tuple[LabelledSet, LabelledSet | None, dict[str, Findings]]:
    """The images to train on, those to score on, and what the preflight says of each file."""
    train, found = read(config.data.train, config.model.name)
    findings = {config.data.train: found}
    refuse_whole(
        [image.path for image in train.images],
        "fine-tuning decodes images whole: cut it into tiles with their labels",
    )
    if config.data.subset is not None:
        train = train.subset(read_numbers(Path(config.data.subset)))
    val = None
    if config.data.val is not None:
        val, findings[config.data.val] = read(
            config.data.val, config.model.name, categories=train.categories
        )
    return train, val, findings


def _notes(
    config: FinetuneConfig, accelerator: Accelerator, train: LabelledSet, val: LabelledSet | None
) -> list[str]:
    """What the user should know of the data, the precision, the passes and the anchors."""
    notes = []
    if val is not None and (
        both := {i.path.resolve() for i in train.images} & {i.path.resolve() for i in val.images}
    ):
        notes.append(
            f"{len(both)} images are trained on and scored: of new images the scores say nothing"
        )
    if note := precision_note(accelerator.mixed_precision):
        notes.append(note)
    if config.accumulate > 1:
        crops = config.batch_size // (accelerator.num_processes * config.accumulate)
        notes.append(
            f"accumulate={config.accumulate}: batch norms and what a loss averages over (objects, "
            f"pixels) see one pass of {crops} images in a process only"
        )
    if isinstance(config.model, DetectorConfig):
        notes.append(f"anchors {', '.join(f'{a:g}' for a in config.model.anchors or ())} px")
        if val is not None and (most := config.validate.detections) > (
            given := config.model.detections
        ):
            notes.append(
                f"validate.detections={most}: the model gives at most model.detections={given} an "
                "image"
            )
    paths = (image.path for image in (*train.images, *(val.images if val else ())))
    return [*notes, *filter(None, [notes_on(tuple(paths))])]


def learning_rates(
    encoder: Encoder, decoder: AlphaDecoder | None, *, pretrained_lr: float, layer_decay: float
) -> dict[nn.Parameter, float]:
    """What part of the learning rate each loaded parameter has: falling from the encoder's last
    stage to its first (ELECTRA's layer-wise decay, Clark et al., 2020)."""
    scales: dict[nn.Parameter, float] = {}
    for depth, stage in enumerate(reversed(encoder.stages())):
        scales |= {p: pretrained_lr * layer_decay**depth for p in stage}
    return scales | ({} if decoder is None else {p: pretrained_lr for p in decoder.parameters()})


def read_numbers(file: Path) -> list[int]:
    """Image ids, one a line. Raises ValueError when it holds anything else."""
    try:
        return [int(line) for line in file.read_text().split()]
    except (OSError, ValueError) as error:
        raise ValueError(
            f"data.subset={file}: wanted a text file with an image id on each line ({error})"
        ) from None
