"""The parts of a pretraining run, assembled top to bottom from its config."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from genseg.alpha.teacher_level import TeacherLevel
from genseg.core import dist
from genseg.core.paths import expand
from genseg.core.reading import Reading, reading
from genseg.core.schedule import Plan, plan
from genseg.data.composites.composer import Composer
from genseg.data.composites.dataset import Batch, ViewDataset
from genseg.data.images.cache import CachedImages, build_cache
from genseg.data.images.files import ImageList, fingerprint, list_images
from genseg.data.images.loader import EpochSampler, batches, with_clear_errors
from genseg.data.images.pixels import centre, normalise
from genseg.data.images.ranges import fitted_ranges
from genseg.data.images.source import ImageError, ImageSource
from genseg.data.images.views import ViewConfig
from genseg.data.labels.box_crops import crop_list
from genseg.data.labels.findings import Findings
from genseg.data.labels.labelled_set import read_labelled
from genseg.data.regions.opened import in_windows, read_image, source_of, window_values
from genseg.data.scenes.scenes import default_scenes
from genseg.joint import Joint
from genseg.methods import METHODS
from genseg.methods.method import Method, RunImages
from genseg.methods.target import BATCH
from genseg.nn.encoder import Encoder, LoadReport, build_encoder
from genseg.nn.norms import with_norms
from genseg.nn.teacher import load_teacher
from genseg.runs.resume import begun, described, usual_of
from genseg.train.machine import circumstances, make_accelerator, prepare
from genseg.train.optim import build_optimizer
from genseg.workflows.pretrain.config import FREE_KEYS, PretrainConfig


@dataclass
class Parts:
    """Everything that a pretraining run is made of."""

    config: PretrainConfig
    accelerator: Accelerator
    images: ImageList
    source: ImageSource
    fingerprint: str
    plan: Plan
    views: tuple[ViewConfig, ...]
    module: Method | Joint  # not wrapped
    wrapped: nn.Module  # the module as Accelerate has prepared it
    optimizer: torch.optim.Optimizer
    loaded: LoadReport | None
    # what proposals and composites are made of; None without the alpha task
    composed: ImageSource | None
    findings: Findings = ()  # what was wrong with labels that are trained on

    @property
    def circumstances(self) -> dict[str, Any]:
        """What is not in the config and changes the weights that come out."""
        return circumstances(self.config.precision)

    @property
    def described(self) -> dict[str, Any]:
        """All that decides the run's weights beside its data, as its checkpoints keep it."""
        return described(self.config, self.circumstances)

    @property
    def known_broken(self) -> set[int] | None:
        """Which images cannot be read; None where no cache has looked at all of them."""
        kept = [s for s in (self.source, self.composed) if s is not None and s.cached is not None]
        return {i for source in kept for i in source.broken} if kept else None

    @property
    def size(self) -> int:
        """Pixels at which the encoder is measured, and which its export names."""
        sizes = [v.size for v in self.views] or [self.config.alpha.compose.size]
        return self.config.probe.size or max(sizes)

    def loader(
        self, start: int, stop: int | None = None, composer: Composer | None = None
    ) -> Iterator[Batch]:
        """Batches of this rank from update `start` to `stop`, or to the end of the run."""
        c = self.config
        dataset = ViewDataset(
            self.source, self.views, seed=c.seed, colour=c.colour_on == "cpu", composer=composer
        )
        sampler = EpochSampler(
            images=len(self.images),
            batch=self.plan.batch,
            start=start,
            total=stop or self.plan.total,
            passes=c.accumulate,
            seed=c.seed,
            rank=dist.rank(),
            world=dist.world(),
        )
        return with_clear_errors(
            batches(
                dataset, sampler, workers=c.data.workers, pin=self.accelerator.device.type == "cuda"
            )
        )


def goes_on(run: Path, config: PretrainConfig) -> bool:
    """Whether the run has a checkpoint to go on from. Raises RunError when it is another run's,
    before anything that takes long."""
    now = described(config, circumstances(config.precision))
    return begun(run, now, usual=usual_of(config), free=FREE_KEYS)


def assemble(config: PretrainConfig, *, begun: bool = False) -> Parts:
    """Build all parts of a run, those last that take long. Raises ValueError for what a user can
    mend.

    begun: the weights come from a checkpoint, so those of `encoder.weights` need not be there any
        more
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    accelerator = make_accelerator(
        precision=config.precision, run=config.run, tracker=config.tracked
    )
    images, findings = run_images(_source(config), crops=config.supervised)
    views = tuple(v for v in config.views.values() if v.count > 0)
    _check(config, views, accelerator)
    length = plan(
        images=len(images),
        batch=config.batch_size,
        epochs=config.epochs,
        steps=config.steps,
        samples=config.images,
        again=not views,  # the alpha task alone makes any number of composites of an image
    )
    torch.manual_seed(config.seed % 2**63)
    start = replace(config.encoder, weights=None) if begun else config.encoder
    encoder, loaded = build_encoder(start, pyramid=config.alpha.name != "none")
    encoder.check_size(**_sizes(config))
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16":
        encoder.check_strides(**_trained_sizes(config))
    several = accelerator.device.type == "cuda" and accelerator.num_processes > 1
    module = build_module(config, encoder, length, sync=several and config.method.name != "moco")
    if config.channels_last:
        module.to(memory_format=torch.channels_last)
    if config.compile:
        _compile(module)
    optimizer = build_optimizer(
        config.optimizer, module, length, fused=accelerator.mixed_precision != "fp16"
    )
    wrapped, optimizer = prepare(accelerator, module, optimizer)
    content = fingerprint(images)  # once: it reads a part of every file
    source, composed = _sources(config, images, content, viewed=bool(views))
    parts = Parts(
        config=config,
        accelerator=accelerator,
        images=images,
        source=source,
        fingerprint=content,
        plan=length,
        views=views,
        module=module,
        wrapped=wrapped,
        optimizer=optimizer,
        loaded=loaded,
        composed=composed,
        findings=findings,
    )
    module.prepare(_seen(parts), begun=begun)
    return parts


def _compile(module: nn.Module) -> None:
    """Every encoder of a module, also the teacher's. In place, so keys stay; the net, because the
    alpha task asks for the pyramid."""
    for part in module.modules():
        if isinstance(part, Encoder):
            part.net.compile()


def _sources(
    config: PretrainConfig, images: ImageList, content: str, *, viewed: bool
) -> tuple[ImageSource, ImageSource | None]:
    """The images that views are made of, and those that composites are."""
    cached = (
        read_cache(images, config, config.data.cache, content)
        if config.data.cache and viewed
        else None
    )
    composed = None
    if config.alpha.name != "none":
        composed = source_of(images, read_cache(images, config, config.alpha.side, content))
    # no view, no second decoding
    source = source_of(images, cached) if viewed or composed is None else composed
    return source, composed


def _source(config: PretrainConfig) -> Path:
    """Where the images of a run are listed."""
    if config.data.path != "embedded":
        return expand(config.data.path)
    return default_scenes("objects" if config.alpha.name == "none" else "images")


def reading_of(config: PretrainConfig) -> Reading:
    """How the files of a run are read; data.range=set is fitted to its images."""
    words = config.data.reading
    if config.data.range != "set":
        return words
    with reading(words):
        images, _ = run_images(_source(config), crops=False)
        return replace(words, ranges=fitted_ranges(images, window_values))


def run_images(path: Path, *, crops: bool) -> tuple[ImageList, Findings]:
    """The images of a run, and what was found wrong with their labels. crops: where they come from
    a COCO json, each box is an image, and its category is the class."""
    if not crops or path.suffix.lower() != ".json":
        return in_windows(list_images(path)), ()
    labelled, findings = read_labelled(path, masks=False)
    return crop_list(labelled), findings


def _seen(parts: Parts) -> RunImages:
    """The run's images, as a method is shown them before training."""
    source, data, device = parts.source, parts.config.data, parts.accelerator.device

    def views(indices: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        for first in range(0, len(indices), BATCH):
            read = [source.read(i) for i in indices[first : first + BATCH]]
            pixels = torch.from_numpy(np.stack([centre(x, parts.size) for x, _ in read]))
            x = normalise(pixels.to(device), mean=data.mean, std=data.std)
            yield x, torch.tensor([i for _, i in read])

    return RunImages(len(source), views, parts.images.labels, parts.images.classes)


def _trained_sizes(config: PretrainConfig) -> dict[str, int]:
    """Sides in pixels of the square images that the encoder is trained on, by key."""
    sizes = {f"views.{name}.size": view.size for name, view in config.views.items() if view.count}
    return sizes | (
        {} if config.alpha.name == "none" else {"alpha.compose.size": config.alpha.compose.size}
    )


def _sizes(config: PretrainConfig) -> dict[str, int]:
    """Sides in pixels of the square images that the encoder will see, by key."""
    sizes = _trained_sizes(config)
    if config.alpha.name != "none":
        # the batch norms are fitted at that size
        sizes["twice alpha.compose.size"] = 2 * config.alpha.compose.size
    return sizes | ({"probe.size": config.probe.size} if config.probe.size else {})


def build_module(
    config: PretrainConfig, encoder: Encoder, length: Plan, *, sync: bool = False
) -> Method | Joint:
    """The method around the encoder, with the alpha task beside it where there is one.

    sync: batch norms see the batches of all processes
    """
    method = (
        None
        if config.method.name == "none"
        else METHODS[config.method.name][0](encoder, config.method, length)
    )
    if method is not None:
        sizes = [v.size for v in config.views.values() for _ in range(v.count)]
        method.expect_views(sizes, mean=config.data.mean, std=config.data.std)
    module: Method | Joint | None = (
        method
        if config.alpha.name == "none"
        else Joint(encoder, method, config.alpha, config.energy, _taught(config))
    )
    assert module is not None  # _check
    if sync:
        with_norms(module, "sync")  # in place: the module itself is no norm
    return module


def _taught(config: PretrainConfig) -> TeacherLevel | None:
    """The teacher's features that the alpha decoder takes; None where it takes none."""
    c, data = config.alpha, config.data
    if c.name == "none" or not c.teacher_level:
        return None
    assert c.teacher is not None  # AlphaConfig
    try:
        teacher = load_teacher(c.teacher, name=c.teacher_name)
    except ValueError as error:
        raise ValueError(f"alpha.{error}") from None
    teacher.check_channels(len(data.mean), key="alpha.teacher_level")
    return TeacherLevel(teacher, file=c.teacher, mean=data.mean, std=data.std)


def read_cache(images: ImageList, config: PretrainConfig, side: int, content: str) -> CachedImages:
    """The decoded images on disk, made by the first process that wants them while the others
    wait."""
    workers = max(config.data.workers, 1)
    cached = build_cache(images, side=side, workers=workers, content=content, read=read_image)
    if len(cached.broken) > config.data.may_be_broken(len(images)):
        number, reason = next(iter(cached.broken.items()))
        raise ImageError(
            f"{len(cached.broken)} of {len(images)} images cannot be read, more than "
            f"data.max_broken={config.data.max_broken}; genseg scan lists them: mend or remove "
            "them, or raise data.max_broken, with which a run that has begun goes on. The first "
            f"is {images.path(number)}: {reason}"
        )
    return cached


def _check(config: PretrainConfig, views: tuple[ViewConfig, ...], accelerator: Accelerator) -> None:
    """Raise ValueError for numbers that do not go together."""
    if config.method.name == "none" and config.alpha.name == "none":
        raise ValueError("method.name and alpha.name are both none: there is nothing to train")
    if config.alpha.name == "none" and config.energy.shape.name != "none":
        raise ValueError(
            f"energy.shape.name={config.energy.shape.name}: an energy is of alpha maps, and "
            "alpha.name is none; set alpha.name=places"
        )
    if config.method.name == "none" and views:
        raise ValueError(
            "method.name=none has no use for views: leave them out, or set their count to 0"
        )
    if config.method.name != "none" and not views:
        raise ValueError(
            "views: there are none; start from a recipe such as --config "
            "configs/pretrain/simclr.yaml"
        )
    for key, given in (("probe.train", config.probe.train), ("probe.test", config.probe.test)):
        if given is not None and not expand(given).exists():
            raise ValueError(
                f"{key}={given} does not exist; give class folders or COCO jsons, or leave it out"
            )
    root, run = expand(config.data.path), expand(config.run)
    if root.is_dir() and run.resolve() == root.resolve():
        raise ValueError(
            f"run={config.run} is the folder of the images, and a run leaves pictures of its own; "
            "choose another one, below it too"
        )
    groups = getattr(config.method, "splits", 1)
    pieces = accelerator.num_processes * config.accumulate * groups
    fitting = max(2, math.ceil(config.batch_size / pieces))
    if config.batch_size % pieces or config.batch_size // pieces < 2:
        splits = f" x {groups} batch-norm groups (method.splits)" if groups > 1 else ""
        raise ValueError(
            f"batch_size={config.batch_size} has to divide into {accelerator.num_processes} "
            f"processes x {config.accumulate} passes{splits} of at least 2 images; use "
            f"batch_size={fitting * pieces}"
            + (", or method.splits=1 where there are fewer images" if groups > 1 else "")
        )
