"""The keys of `genseg energy`."""

from dataclasses import dataclass, field
from typing import Any

from genseg.core.check import above, at_least
from genseg.core.schedule import check_durations
from genseg.energies.autoencoder import AutoencoderConfig
from genseg.energies.config import ShapeConfig, refuse_unread
from genseg.energies.model import CHOICES as CHOICES
from genseg.energies.strategies import SHAPINGS
from genseg.energies.use import UseConfig
from genseg.train.optim import OptimizerConfig
from genseg.workflows.pretrain.config import CheckpointConfig


@dataclass(frozen=True)
class EnergyConfig:
    run: str  # the run directory of the energy
    # the run whose alpha decoder it is for: with the alpha task, its config.yaml and banks/, or of
    # genseg finetune with model.name=places
    alpha: str
    # how the energy is shaped; shape.name chooses which keys it has
    shape: Any
    # the images, where they are elsewhere now; for a fine-tuned run a COCO json: its labels, or
    # others, of images that it has not seen; by default those of the run
    data: str | None = None
    composites: int = 800  # composites that it is trained on
    judged: int = 96  # further ones on which it is judged, and scores are calibrated
    maps: int = 6  # most true maps of an image that a step sees
    own: int = 4  # most of the decoder's own instances of an image that a step sees
    steps: int = 400  # length of the run
    minutes: float | None = None  # the same as a time, measured on the first steps
    batch_size: int = 16  # images of one update, over all processes
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            name="adamw",
            lr=1e-3,
            scaling="none",
            weight_decay=0.01,
            warmup="5 percent",
            clip=5.0,
        )
    )
    use: UseConfig = field(default_factory=UseConfig)
    threads: int = 0  # processor threads; 0: torch's choice
    seed: int = 0
    log_every: str = "20 steps"  # how often a line is written to metrics.jsonl
    judge_every: str = "25 percent"  # how often the energy is judged; 0 percent: at the end alone
    checkpoint: CheckpointConfig = field(default_factory=lambda: CheckpointConfig("20 percent"))

    @property
    def accumulate(self) -> int:
        """Passes of an update, as the loop asks."""
        return 1

    def __post_init__(self) -> None:
        at_least(1, composites=self.composites, judged=self.judged, maps=self.maps)
        at_least(1, steps=self.steps, batch_size=self.batch_size)
        at_least(0, own=self.own, threads=self.threads, seed=self.seed)
        if self.minutes is not None:
            above(0, minutes=self.minutes)
        check_durations(log_every=self.log_every, judge_every=self.judge_every)
        if not isinstance(self.shape, ShapeConfig) and self.shape is not None:
            raise ValueError(f"shape={self.shape}: choose one by shape.name")
        if self.shape is None:
            return
        refuse_unread(self.shape)
        if self.use.refine and not SHAPINGS[self.shape.name].energy.draws:
            raise ValueError(
                f"use.refine=true: {self.shape.name} draws nothing, so no map is mended; leave it "
                "out, or use another shape"
            )


# what may change between the calls that make up one run
FREE_KEYS = (
    *("run:", "data:", "log_every:", "judge_every:", "checkpoint.", "threads:"),
    "use.candidate:",  # training does not ask for it, and its default was another one
)
