"""A fine-tuned model with everything that it needs for an image of any size; and the file it is
kept in."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, overload

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from genseg import __version__
from genseg.alpha.decoder import AlphaDecoder
from genseg.core.check import at_least, normalisation
from genseg.core.names import BEST_NAME, MODEL_NAME
from genseg.core.precision import Precision
from genseg.core.reading import Reading
from genseg.data.images.decode import resize
from genseg.data.images.inputs import as_inputs, stretch
from genseg.data.images.pixels import Numbers, normalise
from genseg.data.instances.instance import Instance, filled, resized
from genseg.data.instances.run_length import encode
from genseg.data.labels.categories import Categories
from genseg.data.regions.scene import Scene
from genseg.nn.encoder import Encoder, EncoderConfig
from genseg.nn.weights import checked_facts, fill, read_facts, save_weights
from genseg.transfer.contract import Detection, Pixels, Windows
from genseg.transfer.detector import BoxDetectorConfig, Detector, DetectorConfig
from genseg.transfer.logit_tiles import enlarged
from genseg.transfer.places import PlaceDetector, PlacesConfig
from genseg.transfer.segmenter import DeepLabConfig, FPNConfig, Segmenter, SegmenterConfig

MODELS: dict[str, type] = {
    "mask_rcnn": DetectorConfig,
    "faster_rcnn": BoxDetectorConfig,
    "places": PlacesConfig,
    "unet": SegmenterConfig,
    "fpn": FPNConfig,
    "deeplabv3plus": DeepLabConfig,
}
Model = Detector | PlaceDetector | Segmenter


@dataclass(frozen=True)
class Preparation:
    """How an image becomes what the model sees, in training as in prediction."""

    mean: Numbers
    std: Numbers
    fit: int  # images are resized to this long side; 0: they stay as they are
    stretch: bool  # values are spread over the whole range
    reading: Reading = Reading()  # how files are read

    def __post_init__(self) -> None:
        normalisation(self.mean, self.std)
        at_least(0, fit=self.fit)

    def scale(self, height: int, width: int) -> float:
        """By how much an image of that size is resized."""
        return self.fit / max(height, width) if self.fit else 1.0

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Of an image of that size, once it is resized."""
        scale = self.scale(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    @overload
    def resized(self, image: Pixels) -> UInt8[np.ndarray, "_ _ c"]: ...
    @overload
    def resized(self, image: Scene) -> Scene: ...
    def resized(self, image: Pixels | Scene) -> UInt8[np.ndarray, "_ _ c"] | Scene:
        """The image at the size that the model sees, its values spread where that is wanted."""
        if isinstance(image, Scene):
            return self._scene(image)
        image = as_inputs(image, len(self.mean))
        image = stretch(image) if self.stretch else image
        scale = self.scale(*image.shape[:2])
        if scale == 1:
            return image
        h, w = self.size(*image.shape[:2])
        return resize(image, (w, h), cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)

    def _scene(self, image: Scene) -> Scene:
        """`resized`; where a resolution was asked for, that counts in place of `fit`."""
        seen = image.inputs(len(self.mean)).looked_at(0)
        seen = seen.stretched() if self.stretch else seen
        scale = self.scale(*seen.size)
        if image.chosen is not None or scale == 1:
            return seen
        return seen.resized(self.size(*seen.size))

    def normalised(self, pixels: UInt8[Tensor, "*n h w c"]) -> Float[Tensor, "*n c h w"]:
        """Pixels as the model takes them."""
        return normalise(pixels, mean=self.mean, std=self.std)


@dataclass(frozen=True)
class PredictorFacts:
    """What the file of a fine-tuned model says of itself."""

    encoder: EncoderConfig
    model: Any  # one of MODELS, by its name
    categories: Categories
    preparation: Preparation
    precision: Precision = "auto"  # in which it was trained
    detections: int = 100  # an image may have for AP, where the caller does not say
    step: int = 0
    genseg: str = ""  # the version that has written it

    def __post_init__(self) -> None:
        if not self.categories:
            raise ValueError("categories=[]: there has to be one")
        if len(self.preparation.mean) != self.encoder.in_channels:
            raise ValueError(
                f"preparation.mean has {len(self.preparation.mean)} numbers, and the encoder "
                f"{self.encoder.in_channels} channels"
            )
        at_least(1, detections=self.detections)


class Predictor:
    """A model, its classes and how images are prepared for it."""

    def __init__(self, model: Model, categories: Categories, preparation: Preparation) -> None:
        self.model, self.categories, self.preparation = model, categories, preparation
        self.precision = torch.float32

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def detect(self, image: Pixels | Scene) -> list[Detection]:
        """Objects of an image in its own pixels, best first; of a scene those in its region.
        Raises ValueError for a semantic
        model."""
        if isinstance(self.model, Segmenter):
            raise ValueError(
                f"{self.model.config.name} gives each pixel a class and finds no single objects"
            )
        small = self.preparation.resized(image)
        with self._ready():
            found = self.model.detect(self._tensor(small))
        before, after = small.shape[:2], image.shape[:2]
        if before != after:
            found = [d for d in (_resized(d, before, after) for d in found) if d is not None]
        return [k for d in found if (k := _within(d, image))] if isinstance(image, Scene) else found

    def instance_at(self, image: Pixels, y: int, x: int) -> Instance | None:
        """What the model draws at a pixel, however little that scores; None where it draws nothing,
        and from a model that looks at whole images alone."""
        if not isinstance(self.model, PlaceDetector):
            return None
        small = self.preparation.resized(image)
        before, after = small.shape[:2], image.shape[:2]
        there = (y + 0.5) * before[0] / after[0], (x + 0.5) * before[1] / after[1]
        with self._ready():
            found = self.model.at(self._tensor(small), *there)
        return found if found is None or before == after else resized(found, before, after)

    def segment(self, image: Pixels) -> Int[Tensor, "h w"]:
        """The class of each pixel, 0 for background. Raises ValueError for a model of instances."""
        self._refuse_instances()
        assert isinstance(self.model, Segmenter)
        small = self.preparation.resized(image)
        with self._ready():
            logits = self.model.segment(self._tensor(small))
        if small.shape[:2] != image.shape[:2]:
            size = image.shape[:2]
            logits = nn.functional.interpolate(
                logits[None], size=size, mode="bilinear", align_corners=False
            )[0]
        return logits.argmax(0)

    def segment_rows(self, image: Scene) -> Iterator[Int[np.ndarray, "_ w"]]:
        """`segment` of a scene, from the first row to the last in parts; background outside of its
        region of interest. Raises ValueError for a model of instances."""
        self._refuse_instances()
        assert isinstance(self.model, Segmenter)
        small, top = self.preparation.resized(image), 0
        with self._ready():
            parts = self.model.segment_rows(self._tensor(small))
            if small.size != image.size:
                parts = enlarged(parts, small.size, image.size)
            for part in parts:
                classes = part.argmax(0).cpu().numpy()
                if image.interest is not None:
                    rows = slice(top, top + len(classes))
                    classes *= image.interest.rows(rows, image.size)
                if image.absent and (gone := image.absent(top, 0, *classes.shape)) is not None:
                    classes[gone] = 0
                top += len(classes)
                yield classes

    def _refuse_instances(self) -> None:
        if not isinstance(self.model, Segmenter):
            raise ValueError(
                f"{self.model.config.name} finds single objects and gives pixels no class"
            )

    @overload
    def _tensor(self, pixels: Pixels) -> Float[Tensor, "c h w"]: ...
    @overload
    def _tensor(self, pixels: Scene) -> Windows: ...
    def _tensor(self, pixels: Pixels | Scene) -> Float[Tensor, "c h w"] | Windows:
        if isinstance(pixels, Scene):
            return Windows(pixels, self._tensor, self.device)
        return self.preparation.normalised(torch.from_numpy(np.array(pixels)).to(self.device))

    def _ready(self) -> torch.autocast:
        self.model.eval()
        return torch.autocast(
            self.device.type, self.precision, enabled=self.precision != torch.float32
        )


def _within(d: Detection, image: Scene) -> Detection | None:
    """A detection as `Scene.within` leaves it; None where it leaves none."""
    left = image.within([d.instance or filled(d.box_xyxy, *image.size)])
    if not left:
        return None
    return replace(d, instance=left[0]) if d.instance else d


def _resized(d: Detection, before: tuple[int, int], after: tuple[int, int]) -> Detection | None:
    sy, sx = after[0] / before[0], after[1] / before[1]
    left, top, right, bottom = d.box_xyxy
    instance = None if d.instance is None else resized(d.instance, before, after)
    if d.instance is not None and instance is None:
        return None
    return replace(d, box_xyxy=(left * sx, top * sy, right * sx, bottom * sy), instance=instance)


def as_records(
    found: Sequence[Detection], *, image: int, height: int, width: int, categories: Categories
) -> list[dict[str, Any]]:
    """Detections of an image as COCO's results: ids of the json, boxes as left, top, width,
    height."""
    records = []
    for d in found:
        left, top, right, bottom = d.box_xyxy
        record: dict[str, Any] = {
            "image_id": image,
            "category_id": categories[d.category][0],
            "score": round(d.score, 5),
            "bbox": [round(v, 2) for v in (left, top, right - left, bottom - top)],
        }
        if d.instance is not None:
            record["segmentation"] = encode(d.instance, height, width)
        records.append(record)
    return records


def build_model(
    config: Any,
    encoder: Encoder,
    architecture: EncoderConfig,
    *,
    classes: int,
    decoder: AlphaDecoder | None = None,
) -> Model:
    """The model of a config over an encoder; `decoder` is what places start from, else a new one is
    made."""
    if isinstance(config, DetectorConfig):
        return Detector(encoder, config, classes=classes)
    if isinstance(config, SegmenterConfig):
        return Segmenter(encoder, config, architecture, classes=classes)
    assert isinstance(config, PlacesConfig)
    return PlaceDetector(
        encoder, decoder or AlphaDecoder(encoder, config.decoder), config, classes=classes
    )


def save_predictor(
    predictor: Predictor,
    architecture: EncoderConfig,
    path: Path,
    *,
    step: int = 0,
    precision: Precision = "auto",
    detections: int = 100,
) -> None:
    """Write the model; the file says how to build and use it, and no path of the author's.

    Raises WeightsError when the disk is full.
    """
    facts = PredictorFacts(
        encoder=replace(architecture, weights=None),
        model=predictor.model.config,
        categories=predictor.categories,
        preparation=predictor.preparation,
        precision=precision,
        detections=detections,
        step=step,
        genseg=__version__,
    )
    save_weights(predictor.model.state_dict(), path, asdict(facts))


def predictor_file(path: Path) -> Path:
    """The model of a run directory, the best where there is one; or the file itself. Raises
    ValueError."""
    file = next((f for f in (path / BEST_NAME, path / MODEL_NAME) if f.is_file()), path)
    if not file.is_file():
        raise ValueError(
            f"there is no {file / MODEL_NAME}: give a run of genseg finetune, or its "
            f"{MODEL_NAME}; for a run of genseg pretrain there is genseg generate"
        )
    return file


def load_predictor(path: Path) -> tuple[Predictor, PredictorFacts]:
    """What `save_predictor` has written, and what its file says; of a run directory, the best.
    Raises ValueError.

    Nothing is fetched: the weights are in the file.
    """
    file = predictor_file(path)
    values = read_facts(file)
    if "preparation" not in values:
        raise ValueError(f"{file} holds no model of genseg finetune")
    facts = checked_facts(file, _without_paths(values), PredictorFacts, choices={"model": MODELS})
    architecture = replace(facts.encoder, weights=None)

    def make() -> Model:
        return build_model(
            facts.model, Encoder(architecture), architecture, classes=len(facts.categories)
        )

    model = fill(make, file)
    model.to(memory_format=torch.channels_last)
    return Predictor(model, facts.categories, facts.preparation), facts


def _without_paths(values: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as they are written now: those of early files hold the whole config, with its paths."""
    known = {name: value for name, value in values.items() if name not in ("config", "start")}
    config = values.get("config")
    if isinstance(config, dict):
        old = {"precision": "precision", "detections": "validate.detections"}
        known |= {name: config[key] for name, key in old.items() if key in config}
    return known
