"""What fine-tuning starts from: random weights, a run, a file, or weights that smp or timm know."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from genseg.alpha.decoder import AlphaDecoder
from genseg.alpha.model import ALPHA_NAME, load_alpha
from genseg.data.labels.labelled_set import LabelledSet
from genseg.nn.encoder import (
    WEIGHTS_NAME,
    Encoder,
    EncoderConfig,
    EncoderFacts,
    build_encoder,
    facts_of,
)
from genseg.nn.weights import read_facts
from genseg.transfer.detector import DetectorConfig, fitted_anchors
from genseg.transfer.places import PlacesConfig
from genseg.transfer.predictor import Preparation
from genseg.workflows.finetune.config import RANDOM, FinetuneConfig
from genseg.workflows.pretrain.config import IMAGENET_MEAN, IMAGENET_STD


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
