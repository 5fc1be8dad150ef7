"""What fine-tuning starts from: random weights, a run, a file, or weights that smp or timm know."""

import contextlib
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from genseg.alpha.decoder import AlphaDecoder
from genseg.alpha.model import alpha_facts, load_alpha
from genseg.core.names import ALPHA_NAME, ENCODER_NAME
from genseg.core.paths import expand
from genseg.core.reading import Reading, current
from genseg.data.labels.labelled_set import LabelledSet
from genseg.nn.encoder import Encoder, EncoderConfig, build_encoder
from genseg.nn.encoder_file import EncoderFacts, facts_of
from genseg.nn.teacher import VIT, architecture_of
from genseg.nn.weights import read_facts
from genseg.transfer.detector import DetectorConfig, fitted_anchors
from genseg.transfer.places import PlacesConfig
from genseg.transfer.predictor import Preparation
from genseg.workflows.finetune.config import RANDOM, FinetuneConfig
from genseg.workflows.pretrain.config import IMAGENET_MEAN, IMAGENET_STD, for_channels


@dataclass(frozen=True)
class Start:
    """What `encoder=` names, resolved once.

    given: as it was given: random, a run directory, a .safetensors file, or a tag of smp or timm
    file: the weights of the encoder; None for random weights and tags
    facts: what the file says of itself; None when another library has written it
    alpha: the alpha model of the same run, where there is one: its decoder is what places start
        from, its brightness stretch how images are prepared
    """

    given: str
    file: Path | None = None
    facts: EncoderFacts | None = None
    alpha: Path | None = None

    @property
    def is_random(self) -> bool:
        return self.given == RANDOM

    @property
    def content(self) -> bytes:
        """The bytes of all that is loaded; of a tag, its name."""
        if self.file is None:
            return self.given.encode()
        return self.file.read_bytes() + (self.alpha.read_bytes() if self.alpha else b"")


def start_of(encoder: str) -> Start:
    """Resolve `encoder=`. Raises ValueError when there is no such file, or its facts do not fit."""
    path = expand(encoder)
    is_path = path.exists() or "/" in encoder or encoder.endswith(".safetensors")
    if encoder == RANDOM or not is_path:
        return Start(encoder)
    file = path / ENCODER_NAME if path.is_dir() else path
    if not file.is_file():
        raise ValueError(
            f"encoder={encoder}: there is no {file}; give random, a run directory, a .safetensors "
            "file, or a tag of smp or timm"
        )
    alpha = file.parent / ALPHA_NAME if file.name == ENCODER_NAME else None
    facts = facts_of(file) if read_facts(file) else None
    return Start(encoder, file, facts, alpha if alpha is not None and alpha.is_file() else None)


def reading_of(config: FinetuneConfig) -> Reading:
    """How the files of a run are read: as the config says, else as the encoder's run did."""
    facts = start_of(config.encoder).facts
    words = Reading(config.data.channels, config.data.pages)
    return words.over(facts.reading) if facts else words


def start_encoder(config: FinetuneConfig, start: Start) -> tuple[Encoder, EncoderConfig, list[str]]:
    """The encoder that fine-tuning starts from, what it is, and what was loaded. Raises
    ValueError."""
    if start.is_random:
        architecture = replace(_architecture(config.architecture), in_channels=current().inputs)
        encoder, _ = build_encoder(architecture, pyramid=True)
        return encoder, architecture, ["encoder: random weights"]
    weights = str(start.file) if start.file is not None else start.given
    known = _with_pyramid(start.facts.encoder) if start.facts else _of_file(config, start)
    architecture = replace(known, in_channels=current().inputs)
    encoder, report = build_encoder(replace(architecture, weights=weights), pyramid=True)
    loaded = f"encoder: {start.given}: {report or 'loaded by its tag'}"
    return encoder, replace(architecture, weights=None), [loaded]


def _with_pyramid(encoder: EncoderConfig) -> EncoderConfig:
    """The same; a plain ViT with the stem that gives it a pyramid."""
    return (
        replace(encoder, stem=_architecture(encoder.name).stem)
        if encoder.stem == "imagenet"
        else encoder
    )


def _architecture(name: str) -> EncoderConfig:
    """The encoder of a name; a plain ViT with the stem that gives it a pyramid."""
    plain = name.removeprefix("tu-").startswith(VIT)
    return EncoderConfig(name, "detail" if plain and name.startswith("tu-") else "imagenet")


def _of_file(config: FinetuneConfig, start: Start) -> EncoderConfig:
    """The architecture of weights that others have written: a ViT's that its file says, or that of
    the config."""
    if start.file is not None:
        with contextlib.suppress(ValueError):
            if (name := architecture_of(start.file)).startswith(VIT):
                return _architecture(f"tu-{name}")
    return _architecture(config.architecture)


def start_decoder(
    config: FinetuneConfig, start: Start, encoder: Encoder, notes: list[str]
) -> AlphaDecoder | None:
    """The alpha decoder that places start from: that of the encoder's run; None for a new one."""
    if not isinstance(config.model, PlacesConfig):
        return None
    if not config.model.decoder_weights or start.alpha is None:
        notes.append("alpha decoder: random weights")
        return None
    model, _ = load_alpha(start.alpha)
    if not isinstance(model.decoder, AlphaDecoder):
        raise ValueError(
            f"{start.alpha} holds slots, and places cannot start from them: set "
            "model.decoder_weights=false"
        )
    if model.decoder.taught is not None:
        raise ValueError(
            f"{start.alpha}: its decoder takes the features of a teacher, and places keep none: "
            "set model.decoder_weights=false"
        )
    # the same weights, with batch norms fitted to real images
    encoder.load_state_dict(model.encoder.state_dict())
    notes.append(f"alpha decoder: {start.alpha}")
    return model.decoder


def prepared_as(config: FinetuneConfig, start: Start) -> Preparation:
    """How images are prepared: as the encoder's run did, where the config does not say."""
    look = alpha_facts(start.alpha).look if start.alpha is not None else None
    spread = config.data.stretch if config.data.stretch is not None else bool(look and look.stretch)
    facts = start.facts
    channels = current().inputs
    mean, std = (
        facts_values
        if facts and len((facts_values := (facts.mean, facts.std))[0]) == channels
        else tuple(for_channels(x, channels, x) for x in (IMAGENET_MEAN, IMAGENET_STD))
    )
    fit = config.augment.size if config.augment.fit else 0
    return Preparation(config.data.mean or mean, config.data.std or std, fit, spread, current())


def with_anchors(
    config: FinetuneConfig, train: LabelledSet, preparation: Preparation
) -> FinetuneConfig:
    """The config with anchors that fit the training boxes as the model will see them, where it
    names none."""
    if not isinstance(config.model, DetectorConfig) or config.model.anchors is not None:
        return config
    boxes = [
        image.boxes_xyxy[~image.crowd] * preparation.scale(image.height, image.width)
        for image in train.images
    ]
    fitted = fitted_anchors(np.concatenate(boxes), config.model.ratios)
    return replace(config, model=replace(config.model, anchors=fitted))


def fingerprint_of(train: LabelledSet, start: Start, val: LabelledSet | None = None) -> str:
    """Changes when labels that are trained on or scored, the lists of images, or the encoder's file
    change; not when a folder moves."""
    total = hashlib.blake2b(
        json.dumps([train.categories, len(train.images)]).encode(), digest_size=16
    )
    for image in (*train.images, *(val.images if val else ())):
        total.update(
            json.dumps([image.name, image.number, image.height, image.width, image.kind]).encode()
        )
        for array in (image.boxes_xyxy, image.classes, image.crowd, image.areas, image.listed):
            total.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        for mask in image.masks or ():
            total.update(mask["counts"])
        total.update(image.semantic.read_bytes() if image.semantic else b"-")
    total.update(start.content)
    return total.hexdigest()
