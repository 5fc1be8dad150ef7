"""`encoder.safetensors`: an encoder with what it says of itself."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from genseg.core.check import at_least, normalisation
from genseg.core.names import ENCODER_NAME
from genseg.core.reading import Reading
from genseg.nn.encoder import Encoder, EncoderConfig, torchvision_state
from genseg.nn.weights import checked_facts, read_facts, save_weights


@dataclass(frozen=True)
class EncoderFacts:
    """What `encoder.safetensors` says of itself."""

    encoder: EncoderConfig
    method: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int  # pixels of the square images that it was measured on
    images_seen: int = 0
    fingerprint: str = ""  # of the images
    genseg: str = ""  # the version that has written it
    reading: Reading = Reading()  # how the images' files were read

    def __post_init__(self) -> None:
        at_least(1, size=self.size)
        normalisation(self.mean, self.std)
        if len(self.mean) != self.encoder.in_channels:
            raise ValueError(
                f"mean has {len(self.mean)} numbers, and the encoder {self.encoder.in_channels} "
                "channels"
            )


def save_encoder(encoder: Encoder, path: Path, facts: EncoderFacts) -> None:
    """Write `encoder.safetensors`: tensors under torchvision's names, with facts, which hold no
    path of the author's.

    Raises WeightsError when the disk is full.
    """
    save_weights(
        torchvision_state(encoder),
        path,
        asdict(replace(facts, encoder=replace(facts.encoder, weights=None))),
    )


def encoder_file(run: Path) -> Path:
    """The weights of a run directory, or the file itself. Raises ValueError when there is none."""
    file = run / ENCODER_NAME if run.is_dir() else run
    if not file.is_file():
        raise ValueError(
            f"there is no {file}: give a run directory that has {ENCODER_NAME}, or such a file"
        )
    return file


def facts_of(file: Path) -> EncoderFacts:
    """What a file of `save_encoder` says of itself; its encoder has no weights to load, since they
    are in the file.

    Raises ValueError for a file of others, and for facts that do not fit.
    """
    facts = read_facts(file)
    if not facts:
        raise ValueError(
            f"{file} was not written by genseg: its method, mean, std and size are not known"
        )
    refuse_more(file, facts)
    found = checked_facts(file, facts, EncoderFacts)
    return replace(found, encoder=replace(found.encoder, weights=None))


def refuse_more(file: Path, facts: Mapping[str, Any]) -> None:
    """Raise ValueError when the facts of a file are those of a whole model."""
    if unlike := {"look", "preparation"} & facts.keys():
        raise ValueError(
            f"{file} holds more than an encoder ({', '.join(unlike)}): give its run directory, or "
            f"the {ENCODER_NAME} there"
        )
