"""The keys of `genseg pretrain`."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from genseg.core.check import at_least, normalisation
from genseg.core.precision import Precision
from genseg.core.reading import Reading
from genseg.core.schedule import check_durations
from genseg.data.images.pixels import Numbers
from genseg.data.images.views import ViewConfig
from genseg.energies.head import SHAPES, EnergyTask
from genseg.joint import AlphaConfig, SlotsConfig
from genseg.methods import METHODS
from genseg.methods.semantic import SUPERVISED
from genseg.methods.targets import TARGETS
from genseg.nn.encoder import EncoderConfig
from genseg.train.optim import OptimizerConfig
from genseg.train.tracker import TrackerName
from genseg.workflows.pretrain.online_probe import ProbeConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
ALWAYS_BROKEN = 2  # images that may be, of however few


@dataclass(frozen=True)
class DataConfig:
    # a folder tree of images, a text list, a COCO json, or: embedded (the example images of genseg)
    path: str
    # which channels of a file make an image: numbers from 1 or names, with commas between them, in
    # the order of the encoder's inputs; empty: those of a grey or RGB picture
    channels: str = ""
    # which pages (z, time): each | max | mean | N | N:M, or "max z" of several axes; empty: there
    # is one
    pages: str = ""
    # the values that become black and white: image (of each image its own) | set (percentiles of
    # each channel over the whole set, kept in the run) | [lowest, highest]
    range: Literal["image", "set"] | tuple[float, float] = "image"
    # decode once and cache the images on disk with this short side in pixels; 0: decode every time
    cache: int = 0
    workers: int = 1  # processes that make views, per training process; 0: in the training process
    # stop when more than this share of the images, and more than 2, cannot be read; 0: at the first
    max_broken: float = 0.01
    # mean and deviation of each channel, for values in [0, 1]; those of ImageNet are used in turn
    # where there are more or fewer channels
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        for name, default in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            object.__setattr__(self, name, for_channels(getattr(self, name), self.inputs, default))
        normalisation(self.mean, self.std)
        at_least(0, cache=self.cache, workers=self.workers, max_broken=self.max_broken)

    @property
    def reading(self) -> Reading:
        """How files are read, as far as the config says it."""
        return Reading(
            self.channels, self.pages, () if isinstance(self.range, str) else (self.range,)
        )

    @property
    def inputs(self) -> int:
        """Channels of an image."""
        return self.reading.inputs

    def may_be_broken(self, images: int) -> int:
        """How many of so many images may be: of a few, one percent would be none."""
        return max(ALWAYS_BROKEN, int(self.max_broken * images)) if self.max_broken else 0


def for_channels(values: Numbers, channels: int, default: Numbers) -> Numbers:
    """One number for each channel: those given, or the default's in turn. Raises ValueError for
    other counts."""
    if len(values) == channels:
        return values
    if values != default:
        raise ValueError(
            f"mean or std has {len(values)} numbers, and the images {channels} channels: give one "
            "for each"
        )
    return tuple(default[n % len(default)] for n in range(channels))


@dataclass(frozen=True)
class CheckpointConfig:
    every: str = "5 percent"  # how often the state is saved
    keep: int = 2  # how many checkpoints are kept

    def __post_init__(self) -> None:
        at_least(1, keep=self.keep)
        check_durations(every=self.every)


@dataclass(frozen=True)
class NoneConfig:
    name: str = "none"


@dataclass(frozen=True)
class PretrainConfig:
    run: str  # the run directory: everything that this command leaves behind
    data: DataConfig
    # the method; method.name chooses which keys it has; none: the alpha task alone
    method: Any
    views: dict[str, ViewConfig]  # kinds of views by name
    # the alpha task: alpha.name is places, slots, or none
    alpha: Any = field(default_factory=NoneConfig)
    energy: EnergyTask = field(default_factory=EnergyTask)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    epochs: float | None = None  # length of the run: one of epochs, steps, images
    steps: int | None = None
    images: float | None = None  # images seen
    batch_size: int = 256  # images of one update, over all processes and accumulated passes
    # passes of one update; batch norms and negatives see one pass only
    accumulate: int = 1
    precision: Precision = "auto"  # auto: bf16 where the processor has it
    channels_last: bool = True  # memory layout; faster for convolutions
    compile: bool = False  # torch.compile the encoder: minutes at the start, faster later
    # where colours are changed: in the workers, or by kornia on whole batches
    colour_on: Literal["cpu", "device"] = "cpu"
    threads: int = 0  # processor threads of the training process; 0: torch's choice
    seed: int = 0
    log_every: str = "10 steps"  # how often a line is written to metrics.jsonl
    # also log measures of the batch's embeddings that need no label: uniformity, correlation,
    # participation_ratio, spectrum_exponent, intrinsic_dimension
    log_measures: bool = False
    # who else is given the lines of metrics.jsonl; wandb stays offline unless WANDB_MODE says so,
    # mlflow in the run directory unless MLFLOW_TRACKING_URI does
    tracker: TrackerName = "none"
    tensorboard: bool = False  # the former word for tracker=tensorboard
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)

    def __post_init__(self) -> None:
        at_least(1, accumulate=self.accumulate)
        if self.encoder.in_channels not in (3, self.data.inputs):
            raise ValueError(
                f"encoder.in_channels={self.encoder.in_channels}, and data.channels makes "
                f"{self.data.inputs}: leave the first out"
            )
        encoder = replace(self.encoder, in_channels=self.data.inputs)
        object.__setattr__(self, "encoder", encoder)
        at_least(0, threads=self.threads, seed=self.seed)
        check_durations(log_every=self.log_every)
        if self.tensorboard and self.tracker not in ("none", "tensorboard"):
            raise ValueError(f"tensorboard=true and tracker={self.tracker}: give the second alone")

    @property
    def tracked(self) -> TrackerName:
        """The tracker, by either word."""
        return "tensorboard" if self.tensorboard else self.tracker

    @property
    def supervised(self) -> bool:
        """Whether training reads the classes of images."""
        parts = (self.method, getattr(self.method, "target", None))
        return any(getattr(part, "supervised", False) for part in parts)

    @property
    def learnt_by(self) -> str:
        """The method, and what it was told: what exports and pages say of the encoder."""
        told = self.supervised and self.method.name != "supervised"
        return f"{self.method.name}, {SUPERVISED}" if told else str(self.method.name)


# What may change between the calls that make up one run: none changes a weight (the fingerprint
# guards the images). What precision=auto is, is among the circumstances. A key that came after the
# run was begun is free at its default, which does what was done before (`without_new`).
FREE_KEYS = (
    "data.workers:",
    "data.path:",
    "data.max_broken:",
    "run:",
    "log_every:",
    "log_measures:",
    "tracker:",
    "tensorboard:",
    "checkpoint.",
    "probe.",
    "precision:",
)
CHOICES: dict[str, dict[str, type]] = {
    "method": {**{name: schema for name, (_, schema) in METHODS.items()}, "none": NoneConfig},
    "method.target": {name: schema for name, (_, schema) in TARGETS.items()},
    "alpha": {"none": NoneConfig, "places": AlphaConfig, "slots": SlotsConfig},
    "energy.shape": SHAPES,
}
