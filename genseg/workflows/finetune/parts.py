"""The parts of a fine-tuning run, assembled top to bottom from its config."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from genseg.alpha.decoder import AlphaDecoder
from genseg.alpha.model import ALPHA_NAME, load_alpha
from genseg.core import dist
from genseg.core.check import above, at_least
from genseg.core.precision import Precision
from genseg.core.schedule import Plan, check_durations, plan
from genseg.data.images.loader import told
from genseg.data.images.uneven import notes_on
from genseg.data.labels.crops import AugmentConfig
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
from genseg.nn.encoder import (
    MULTIPLE,
    WEIGHTS_NAME,
    Encoder,
    EncoderConfig,
    EncoderFacts,
    build_encoder,
    facts_of,
)
from genseg.nn.weights import read_facts
from genseg.runs.resume import described
from genseg.train.launched import precision_note
from genseg.train.optim import OptimizerConfig, build_optimizer
from genseg.transfer.detector import DetectorConfig, fitted_anchors
from genseg.transfer.places import PlacesConfig
from genseg.transfer.predictor import MODELS, Model, Predictor, Preparation, build_model
from genseg.workflows.pretrain.parts import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    CheckpointConfig,
    circumstances,
    make_accelerator,
    prepare,
)

RANDOM = "random"


@dataclass(frozen=True)
class LabelledConfig:
    train: str  # COCO json, or for semantic models also a folder with images/ and masks/
    val: str | None = None  # the same, scored while training and at the end
    # text file with the ids of the images to train on, one a line; null: all
    subset: str | None = None
    # spread values over the whole range; null: as the encoder's run did
    stretch: bool | None = None
    workers: int = 1  # processes that read images, per training process; 0: in the training process
    # of the channels; null: those of the encoder's run, or ImageNet's
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        at_least(0, workers=self.workers)


@dataclass(frozen=True)
class ValidateConfig:
    # how often data.val is scored, and whether the model is the best so far
    every: str = "20 percent"
    limit: int = 0  # at most so many images, the first ones; at the end all are scored; 0: all
    detections: int = 100  # an image may have for AP (COCO: 100)

    def __post_init__(self) -> None:
        at_least(0, limit=self.limit)
        at_least(1, detections=self.detections)
        check_durations(every=self.every)


@dataclass(frozen=True)
class FinetuneConfig:
    run: str  # the run directory: everything that this command leaves behind
    data: LabelledConfig
    # mask_rcnn | faster_rcnn | places | unet | fpn | deeplabv3plus; model.name chooses which keys
    # it has
    model: Any
    # random | a run directory | a .safetensors file | a tag of smp, or timm for tu-
    encoder: str = RANDOM
    architecture: str = "resnet18"  # of the encoder, where `encoder` does not say
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    # learning rate of what was loaded (encoder, alpha decoder), as a part of the rest's
    pretrained_lr: float = 1.0
    layer_decay: float = 1.0  # the same from each stage of a loaded encoder to the one before it
    freeze: str = "0 percent"  # for so long what was loaded stands still
    epochs: float | None = None  # length of the run: one of epochs, steps, images
    steps: int | None = None
    images: float | None = None  # images seen
    batch_size: int = 8  # images of one update, over all processes and accumulated passes
    # passes of one update; batch norms, and what a loss averages over, see one pass only
    accumulate: int = 1
    precision: Precision = "auto"  # auto: bf16 where the processor has it
    channels_last: bool = True  # memory layout; faster for convolutions
    threads: int = 0  # of the processor for the training process; 0: torch's choice
    seed: int = 0
    # momentum of an average of the weights, which is then what is scored and kept; 0: none
    ema: float = 0.0
    patience: int = 0  # stop after so many scores that are no better than the best; 0: never
    log_every: str = "10 steps"  # a line in metrics.jsonl
    validate: ValidateConfig = field(default_factory=ValidateConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    def __post_init__(self) -> None:
        at_least(1, accumulate=self.accumulate, batch_size=self.batch_size)
        at_least(0, threads=self.threads, seed=self.seed, patience=self.patience)
        at_least(0, pretrained_lr=self.pretrained_lr, ema=self.ema)
        above(0, layer_decay=self.layer_decay)
        check_durations(freeze=self.freeze, log_every=self.log_every)
        if self.ema >= 1:
            raise ValueError(f"ema={self.ema}: a momentum lies below 1, such as 0.99")
        if self.patience and self.data.val is None:
            raise ValueError(f"patience={self.patience} needs data.val: there is nothing to score")


# What may change between the calls that make up one run: the fingerprint guards labels and encoder.
FREE_KEYS = (
    *("data.workers:", "data.train:", "data.val:", "data.subset:"),
    *("run:", "log_every:", "checkpoint.", "encoder:", "threads:", "precision:"),
)
CHOICES = {"model": MODELS}


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
            return told(
                crop_batches(CropDataset(self.train, c.augment, semantic, seed=c.seed), **how)
            )
        instances = partial(cropped, stretched=stretched)
        return told(crop_batches(CropDataset(self.train, c.augment, instances, seed=c.seed), **how))


def assemble_finetune(config: FinetuneConfig, read: ReadLabels = read_labels) -> FinetuneParts:
    """Build all parts of a run. Raises ValueError for what a user can mend."""
    if config.threads:
        torch.set_num_threads(config.threads)
    accelerator = make_accelerator(precision=config.precision, run=config.run)
    pieces = accelerator.num_processes * config.accumulate
    if config.batch_size % pieces:
        fitting = math.ceil(config.batch_size / pieces) * pieces
        raise ValueError(
            f"batch_size={config.batch_size} has to divide into {accelerator.num_processes} "
            "processes x "
            f"{config.accumulate} passes; use batch_size={fitting}"
        )
    train, found = read(config.data.train, config.model.name)
    findings = {config.data.train: found}
    if config.data.subset is not None:
        train = train.subset(read_numbers(Path(config.data.subset)))
    val = None
    if config.data.val is not None:
        val, findings[config.data.val] = read(
            config.data.val, config.model.name, categories=train.categories
        )
    torch.manual_seed(config.seed)
    encoder, architecture, notes = start_encoder(config)
    encoder.check_size(**{"augment.size": -(-config.augment.size // MULTIPLE) * MULTIPLE})
    if val is not None and (
        both := {i.path.resolve() for i in train.images} & {i.path.resolve() for i in val.images}
    ):
        notes.append(
            f"{len(both)} images are trained on and scored: of new images the scores say nothing"
        )
    if note := precision_note(accelerator.mixed_precision):
        notes.append(note)
    if config.accumulate > 1:
        notes.append(
            f"accumulate={config.accumulate}: batch norms and what a loss averages over (objects, "
            "pixels) see "
            f"one pass of {config.batch_size // pieces} images in a process only"
        )
    preparation = prepared_as(config)
    config = with_anchors(config, train, preparation)
    if isinstance(config.model, DetectorConfig):
        notes.append(f"anchors {', '.join(f'{a:g}' for a in config.model.anchors or ())} px")
        if val is not None and (most := config.validate.detections) > (
            given := config.model.detections
        ):
            notes.append(
                f"validate.detections={most}: the model gives at most model.detections={given} an "
                "image"
            )
    decoder = start_decoder(config, encoder, notes)
    notes += filter(
        None,
        [notes_on(tuple(image.path for image in (*train.images, *(val.images if val else ()))))],
    )
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
        if config.encoder == RANDOM
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
        fingerprint=fingerprint_of(train, config.encoder, val),
    )


def start_encoder(config: FinetuneConfig) -> tuple[Encoder, EncoderConfig, list[str]]:
    """The encoder that fine-tuning starts from, what it is, and what was loaded. Raises
    ValueError."""
    if config.encoder == RANDOM:
        architecture = EncoderConfig(config.architecture)
        return (
            build_encoder(architecture, pyramid=True)[0],
            architecture,
            ["encoder: random weights"],
        )
    facts = run_facts(config.encoder)
    weights = str(_weights(config.encoder)) if _is_file(config.encoder) else config.encoder
    architecture = facts.encoder if facts else EncoderConfig(config.architecture)
    encoder, report = build_encoder(replace(architecture, weights=weights), pyramid=True)
    return (
        encoder,
        replace(architecture, weights=None),
        [f"encoder: {config.encoder}: {report or 'loaded by its tag'}"],
    )


def start_decoder(
    config: FinetuneConfig, encoder: Encoder, notes: list[str]
) -> AlphaDecoder | None:
    """The alpha decoder that places start from: that of the encoder's run; None for a new one."""
    if not isinstance(config.model, PlacesConfig):
        return None
    file = Path(config.encoder) / ALPHA_NAME
    if not config.model.decoder_weights or not file.is_file():
        notes.append("alpha decoder: random weights")
        return None
    model, _ = load_alpha(file)
    if not isinstance(model.decoder, AlphaDecoder):
        raise ValueError(
            f"{file} holds slots, and places cannot start from them: set "
            "model.decoder_weights=false"
        )
    # the same weights, with batch norms fitted to real images
    encoder.load_state_dict(model.encoder.state_dict())
    notes.append(f"alpha decoder: {file}")
    return model.decoder


def prepared_as(config: FinetuneConfig) -> Preparation:
    """How images are prepared: as the encoder's run did, where the config does not say."""
    facts = None if config.encoder == RANDOM else run_facts(config.encoder)
    given = Path(config.encoder)
    alpha = (given.parent if given.is_file() else given) / ALPHA_NAME
    look = load_alpha(alpha)[0].look if alpha.is_file() else None
    spread = config.data.stretch if config.data.stretch is not None else bool(look and look.stretch)
    mean, std = (facts.mean, facts.std) if facts else (IMAGENET_MEAN, IMAGENET_STD)
    fit = config.augment.size if config.augment.fit else 0
    return Preparation(config.data.mean or mean, config.data.std or std, fit, spread)


def run_facts(encoder: str) -> EncoderFacts | None:
    """What the file of an encoder says about it; None when another library has written it, or for a
    tag.

    Raises ValueError when there is no such file, or when its facts do not fit.
    """
    if not _is_file(encoder):
        return None
    file = _weights(encoder)
    return facts_of(file) if read_facts(file) else None


def _is_file(encoder: str) -> bool:
    return encoder != RANDOM and (
        Path(encoder).exists() or "/" in encoder or encoder.endswith(".safetensors")
    )


def _weights(encoder: str) -> Path:
    path = Path(encoder)
    file = path / WEIGHTS_NAME if path.is_dir() else path
    if not file.is_file():
        raise ValueError(
            f"encoder={encoder}: there is no {file}; give random, a run directory, a .safetensors "
            "file, "
            "or a tag of smp or timm"
        )
    return file


def with_anchors(
    config: FinetuneConfig, train: LabelledSet, preparation: Preparation
) -> FinetuneConfig:
    """The config with anchors that fit the training boxes as the model will see them, where it
    names none."""
    if not isinstance(config.model, DetectorConfig) or config.model.anchors is not None:
        return config
    boxes = [
        image.boxes[~image.crowd] * preparation.scale(image.height, image.width)
        for image in train.images
    ]
    fitted = fitted_anchors(np.concatenate(boxes), config.model.ratios)
    return replace(config, model=replace(config.model, anchors=fitted))


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


def _content(encoder: str) -> bytes:
    """The bytes of an encoder's file and of the alpha decoder beside it; of a tag, its name."""
    if not _is_file(encoder):
        return encoder.encode()
    alpha = Path(encoder) / ALPHA_NAME
    return _weights(encoder).read_bytes() + (alpha.read_bytes() if alpha.is_file() else b"")


def fingerprint_of(train: LabelledSet, encoder: str, val: LabelledSet | None = None) -> str:
    """Changes when labels that are trained on or scored, the lists of images, or the encoder's file
    change; not when a folder moves."""
    total = hashlib.blake2b(
        json.dumps([train.categories, len(train.images)]).encode(), digest_size=16
    )
    for image in (*train.images, *(val.images if val else ())):
        total.update(
            json.dumps([image.name, image.number, image.height, image.width, image.kind]).encode()
        )
        for array in (image.boxes, image.classes, image.crowd, image.areas, image.listed):
            total.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        for mask in image.masks or ():
            total.update(mask["counts"])
        total.update(image.semantic.read_bytes() if image.semantic else b"-")
    total.update(_content(encoder))
    return total.hexdigest()
