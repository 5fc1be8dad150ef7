"""`energy.safetensors`: an energy, how it is used, and which decoder it was trained for."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn

from genseg import __version__
from genseg.alpha.calibration import Calibration
from genseg.alpha.codes import CodeDecoder
from genseg.alpha.decoder import DecoderConfig
from genseg.alpha.generate import Rank
from genseg.energies.autoencoder import Autoencoder, AutoencoderConfig
from genseg.energies.strategies import SHAPINGS, build_energy
from genseg.energies.use import Ranker, Ranking, UseConfig
from genseg.nn.weights import checked_facts, fill, read_facts, save_weights

CHOICES = {"shape": {name: strategy.config for name, strategy in SHAPINGS.items()}}


@dataclass(frozen=True)
class EnergyFacts:
    """What `energy.safetensors` says of itself.

    alpha: digest of the weights of the decoder that it was trained for
    """

    shape: Any
    autoencoder: AutoencoderConfig
    decoder: DecoderConfig
    alpha: str
    ranking: Ranking = Ranking()
    calibration: Calibration = Calibration()  # of ranked scores
    use: UseConfig = UseConfig()
    maps_seen: int = 0
    genseg: str = ""


def digest(file: Path) -> str:
    """Of a file of weights: by it an energy knows the decoder that it was trained for."""
    return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()


def built(shape: Any, config: AutoencoderConfig, decoder: DecoderConfig) -> Autoencoder:
    """The energy with random weights."""
    kernel = CodeDecoder()
    kernel.make_kernel(code=decoder.code, embedding=decoder.embedding, hidden=decoder.hidden)
    sizes = {"embedding": decoder.embedding, "code": decoder.code}
    return build_energy(shape, kernel, config, **sizes)


def save_energy(energy: Autoencoder, path: Path, facts: EnergyFacts) -> None:
    """Write the energy; the file says how to build and use it. Raises WeightsError when the disk is
    full."""
    save_weights(energy.state_dict(), path, asdict(facts) | {"genseg": __version__})


def load_energy(path: Path) -> tuple[Autoencoder, EnergyFacts]:
    """The energy that `save_energy` has written, and what its file says. Raises ValueError for any
    other file."""
    values = read_facts(path)
    if "shape" not in values:
        raise ValueError(f"{path} holds no energy that genseg has written")
    facts = checked_facts(path, values, EnergyFacts, choices=CHOICES)
    energy = fill(lambda: built(facts.shape, facts.autoencoder, facts.decoder), path)
    return energy.eval(), facts


@runtime_checkable
class Ranked(Protocol):
    """What finds instances by an alpha decoder: the model of a run, or a detector of places."""

    rank: Rank | None
    calibration: Calibration

    def parameters(self) -> Iterator[nn.Parameter]: ...


def rank_by(model: Ranked, alpha: Path, energy: Path) -> None:
    """Let an energy rank what a model finds. Raises ValueError for the energy of another decoder.

    alpha: the file that the model was loaded from
    """
    loaded, facts = load_energy(energy)
    if facts.alpha != digest(alpha):
        raise ValueError(
            f"{energy} was trained for another alpha decoder than {alpha}: train one for it with "
            f"genseg energy {alpha.parent}"
        )
    device = next(model.parameters()).device
    model.rank = Ranker(loaded.to(device), facts.ranking, facts.use)
    model.calibration = facts.calibration
