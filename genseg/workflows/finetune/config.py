"""The keys of `genseg finetune`."""

from dataclasses import dataclass, field
from typing import Any

from genseg.core.check import above, at_least
from genseg.core.precision import Precision
from genseg.core.reading import Reading
from genseg.core.schedule import check_durations
from genseg.data.labels.crops import AugmentConfig
from genseg.train.optim import OptimizerConfig
from genseg.train.tracker import TrackerName
from genseg.transfer.predictor import MODELS
from genseg.workflows.pretrain.config import CheckpointConfig

RANDOM = "random"


@dataclass(frozen=True)
class LabelledConfig:
    train: str  # a COCO json; for semantic models also a folder with images/ and masks/
    val: str | None = None  # the same, scored during training and at its end
    # as for genseg pretrain; empty: as the encoder's run did
    channels: str = ""
    pages: str = ""
    # text file with the ids of the images to train on, one a line; null: all
    subset: str | None = None
    # spread brightness over the whole range; null: as the encoder's run did
    stretch: bool | None = None
    workers: int = 1  # processes that read images, per training process; 0: in the training process
    # mean of each channel; null: that of the encoder's run, or ImageNet's
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        Reading(self.channels, self.pages)
        at_least(0, workers=self.workers)


@dataclass(frozen=True)
class ValidateConfig:
    # how often data.val is scored; the best model so far is kept
    every: str = "20 percent"
    limit: int = 0  # score at most this many images, the first ones; the end scores all; 0: all
    detections: int = 100  # most detections of an image for AP (COCO: 100)

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
    architecture: str = "resnet18"  # the encoder's architecture, where `encoder` does not say
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    # learning rate of loaded weights (encoder, alpha decoder), as a fraction of the rest's
    pretrained_lr: float = 1.0
    layer_decay: float = 1.0  # factor from each stage of a loaded encoder to the one before it
    freeze: str = "0 percent"  # loaded weights stay frozen for this long
    epochs: float | None = None  # length of the run: one of epochs, steps, images
    steps: int | None = None
    images: float | None = None  # images seen
    batch_size: int = 8  # images of one update, over all processes and accumulated passes
    # passes of one update; batch norms and averages of losses see one pass only
    accumulate: int = 1
    precision: Precision = "auto"  # auto: bf16 where the processor has it
    channels_last: bool = True  # memory layout; faster for convolutions
    threads: int = 0  # processor threads of the training process; 0: torch's choice
    seed: int = 0
    # momentum of an average of the weights, which is scored and kept instead; 0: none
    ema: float = 0.0
    patience: int = 0  # stop after this many scores without a new best; 0: never
    log_every: str = "10 steps"  # how often a line is written to metrics.jsonl
    # who else is given the lines of metrics.jsonl; wandb stays offline unless WANDB_MODE says so,
    # mlflow in the run directory unless MLFLOW_TRACKING_URI does
    tracker: TrackerName = "none"
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
    *("run:", "log_every:", "tracker:", "checkpoint.", "encoder:", "threads:", "precision:"),
)
CHOICES = {"model": MODELS}
