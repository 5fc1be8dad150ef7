"""One loader for every run: `genseg.load(RUN)` finds instances, gives pixels a class, embeds."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float32, Int, UInt8
from PIL import Image

from genseg.core.names import ENCODER_NAME
from genseg.core.paths import expand
from genseg.core.reading import Reading, current
from genseg.core.threads import in_order, several_at_once
from genseg.data.images.depth import as_pixels, as_rgb
from genseg.data.images.source import decode
from genseg.data.instances.instance import Instance
from genseg.data.labels.box_crops import square_around
from genseg.data.proposals.propose import check_teacher
from genseg.measure.features import features, instance_features
from genseg.nn.encoder import Encoder, load_weights
from genseg.nn.encoder_file import EncoderFacts, facts_of
from genseg.nn.kept_reading import reading_of
from genseg.workflows.generate.exported import ExportedRun
from genseg.workflows.generate.finder import Classical, is_proposer
from genseg.workflows.generate.instances import Instances
from genseg.workflows.generate.opened import ONE_CLASS, Opened, SegmenterRun, open_run

Picture = str | Path | Image.Image | np.ndarray
PathLike = str | Path
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Model:
    """A trained run, or a classical proposer. Threads may share it, and it pickles by its path.

    What it can do depends on the run: `instances` with the alpha task, a detector or a proposer;
    `segment` with a segmenter; `embed` and `embed_instances` with an encoder.
    """

    def __init__(
        self, run: PathLike, *, device: str | None = None, precision: str | None = None
    ) -> None:
        """Raises ValueError for a run that holds no model, with what to give."""
        if precision is not None and precision not in DTYPES:
            raise ValueError(f"precision={precision}: use one of {', '.join(DTYPES)}")
        self._given = device, precision
        self._device = _device(device)
        self._lock = threading.Lock()
        self._reading: Reading | None = None
        self._encoder: tuple[Encoder, EncoderFacts] | None = None
        self._run: Opened | SegmenterRun | Classical | None = None
        if is_proposer(Path(run)):
            self.path = Path(run)
            check_teacher(str(run), None, key="genseg generate cut --teacher")
            self._run = Classical(str(run))
            return
        self.path = expand(run).absolute()
        self._encoder_file = self.path / ENCODER_NAME if self.path.is_dir() else self.path
        self._reading = reading_of(self.path)
        dtype = None if precision is None else DTYPES[precision]
        if self.path.name != ENCODER_NAME:
            alone = self._encoder_file.is_file()
            self._run = open_run(self.path, self._device, dtype, needed=not alone)
            if isinstance(self._run, ExportedRun):
                self._reading = self._run.reading
        elif not self.path.is_file():
            raise ValueError(f"there is no {self.path}: give a run directory or a file of one")

    def __repr__(self) -> str:
        return f"genseg.load({str(self.path)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_as, (str(self.path), *self._given)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; one, "instance", for instances found without a label."""
        known = self._run.categories if isinstance(self._run, Opened | SegmenterRun) else ONE_CLASS
        return tuple(name for _, name in known)

    @property
    def score(self) -> float:
        """The default least score of an instance: that of the run; 0 for a proposer."""
        return self._run.score if isinstance(self._run, Opened) else 0.0

    @overload  # a str is a sequence of str, too
    def instances(  # type: ignore[overload-overlap]
        self, image: Picture, *, score: float | None = None
    ) -> Instances: ...
    @overload
    def instances(
        self, image: Sequence[Picture], *, score: float | None = None
    ) -> list[Instances]: ...
    def instances(
        self, image: Picture | Sequence[Picture], *, score: float | None = None
    ) -> Instances | list[Instances]:
        """The instances of an image, best first, in its own pixels; for a list, those of each,
        several images at once.

        image: a file, a PIL image, or an array: h w (grey), h w 3 (RGB) or h w 4 (RGB with alpha),
            of any depth
        score: the least score, from half of the run's own on; by default the run's own

        Raises ImageError for a file that cannot be read, ValueError for an array that is no image
        and for a run that finds no instances.
        """
        run = self._run
        if not isinstance(run, Opened | Classical):
            raise ValueError(
                f"{self.path} finds no instances: give a run of genseg pretrain with the alpha "
                "task, or a detector of genseg finetune (mask_rcnn, faster_rcnn, places)"
            )
        least = self.score if score is None else score

        def find(one: Picture) -> Instances:
            pixels = self._pixels(one)
            kept = tuple(a for a in run.instances(pixels) if a.score >= least)
            height, width = pixels.shape[:2]
            return Instances(kept, height, width, pixels, self.classes)

        if isinstance(image, str | Path | Image.Image | np.ndarray):
            return find(image)
        with several_at_once(self._device) as pool:
            return list(in_order(pool, find, image))

    def segment(self, image: Picture) -> Int[np.ndarray, "h w"]:
        """The class of each pixel: 0 for background, 1, 2, ... in the order of `classes`.

        Raises ValueError for a run that is no segmenter.
        """
        if not isinstance(self._run, SegmenterRun):
            raise ValueError(
                f"{self.path} gives pixels no class: give a segmenter of genseg finetune (unet, "
                "fpn, deeplabv3plus)"
            )
        return self._run.segment(self._pixels(image))

    def embed(self, images: Picture | Sequence[Picture]) -> Float32[np.ndarray, "n d"]:
        """A vector for each image: the encoder's features of its centre square, averaged over the
        map, as genseg probe takes them.

        Raises ValueError for a run without encoder.safetensors.
        """
        single = isinstance(images, str | Path | Image.Image | np.ndarray)
        listed: Sequence[Picture] = [images] if single else images  # type: ignore[list-item, assignment]
        return self._embed(_Pictures(listed, self._pixels), len(listed))

    def embed_instances(
        self,
        image: Picture,
        found: Sequence[Instance] | Instances,
        *,
        margin: float = 0.1,
        masked: bool = False,
    ) -> Float32[np.ndarray, "n d"]:
        """A vector for each instance of an image: that of the square around its box, with `margin`
        of the longer side on each side.

        masked: features are averaged over the alpha map alone, as genseg embed does
        """
        pixels = self._pixels(image)
        if masked:
            encoder, facts = self._loaded()
            view: dict[str, Any] = {"size": facts.size, "mean": facts.mean, "std": facts.std}
            return instance_features(encoder, pixels, list(found), margin=margin, **view).numpy()
        height, width = pixels.shape[:2]
        crops = []
        for a in found:
            left, top, w, h = a.box_xywh
            rows, columns = square_around((left, top, left + w, top + h), height, width, margin)
            crops.append(pixels[rows, columns])
        return self._embed(_Pictures(crops, lambda x: x), len(crops))

    def _pixels(self, image: Picture) -> UInt8[np.ndarray, "h w c"]:
        """A picture as the run reads it; an array of other channels than a picture's has those of
        the run."""
        words = current(self._reading)
        if isinstance(image, str | Path):
            return decode(expand(image), reading=words)
        if isinstance(image, Image.Image) and not image.mode.startswith(("I", "F")):
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        x = np.asarray(image)
        if words.channels and x.ndim == 3 and x.shape[2] == words.inputs:
            return as_pixels(x, picture=False, together=False, ranges=words.ranges)
        if words.ranges and x.ndim in (2, 3):
            planes = x if x.ndim == 3 else x[..., None]
            return as_pixels(planes, picture=True, together=True, ranges=words.ranges)
        return as_rgb(x)

    def _embed(self, source: "_Pictures", count: int) -> Float32[np.ndarray, "n d"]:
        encoder, facts = self._loaded()
        if not count:
            return np.zeros((0, int(encoder.net.out_channels[-1])), np.float32)
        view: dict[str, Any] = {"size": facts.size, "mean": facts.mean, "std": facts.std}
        return features(encoder, source, range(count), **view).numpy()

    def _loaded(self) -> tuple[Encoder, EncoderFacts]:
        with self._lock:
            if self._encoder is None:
                self._encoder = self._load_encoder()
            return self._encoder

    def _load_encoder(self) -> tuple[Encoder, EncoderFacts]:
        if isinstance(self._run, Classical) or not self._encoder_file.is_file():
            raise ValueError(
                f"{self.path} has no {ENCODER_NAME}, which embeds images: give a run of genseg "
                "pretrain"
            )
        facts = facts_of(self._encoder_file)
        encoder = Encoder(facts.encoder)
        load_weights(encoder, self._encoder_file)
        return encoder.eval().to(self._device), facts


class _Pictures:
    """Pictures of any kind as a source of images."""

    def __init__(self, pictures: Sequence[Any], pixels: Callable[[Any], np.ndarray]) -> None:
        self.pictures, self.pixels = pictures, pixels

    def read(self, i: int) -> tuple[UInt8[np.ndarray, "h w c"], int]:
        """The i-th picture, and i."""
        return self.pixels(self.pictures[i]), i


def load(run: PathLike, *, device: str | None = None, precision: str | None = None) -> Model:
    """The model of a run directory or of a file of one (alpha.safetensors, model.safetensors,
    encoder.safetensors), of a FILE.onnx of genseg export, or a classical proposer by its name
    (tree, otsu, ...).

    device: such as "cpu" or "cuda:1"; by default the first GPU, where there is one
    precision: fp32, bf16 or fp16; by default what the hardware computes fastest, as the commands do

    Raises ValueError for a run that holds no model, with what to give.
    """
    return Model(run, device=device, precision=precision)


def _device(name: str | None) -> torch.device:
    """A device by its name; by default the first GPU, where there is one. Raises ValueError."""
    has_gpu = torch.cuda.is_available()
    try:
        device = torch.device(name or ("cuda" if has_gpu else "cpu"))
    except RuntimeError:
        raise ValueError(f"device={name}: use cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not has_gpu:
        raise ValueError(f"device={name}: torch finds no CUDA GPU here; use cpu")
    return device


def _load_as(run: str, device: str | None, precision: str | None) -> Model:
    return Model(run, device=device, precision=precision)
