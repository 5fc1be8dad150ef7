"""The one table of all ways to shape an energy: the keys of each, what it trains, and on which
energy.

The names are those of the literature. Twenty-two are the list of LeCun et al., A Tutorial on
Energy-Based Learning (2006), as later work has extended it; `autoencoder` is their control, `value`
the baseline without an autoencoder, and `critic` joins the two that rank and refine best.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from genseg.alpha.codes import CodeDecoder
from genseg.energies import autoencoder as energies
from genseg.energies import config as keys
from genseg.energies import fitted, priors, pull, push, shaping, slope
from genseg.energies.autoencoder import Autoencoder, AutoencoderConfig
from genseg.energies.shaping import Shaping

PriorOf = Callable[[Any, int], priors.Prior]  # of the keys, and the length of a code


def _free(config: Any, code: int) -> priors.Prior:
    return priors.NoPrior()


def _centres(config: keys.KMeansShape, code: int) -> priors.Prior:
    if config.trained:
        return priors.Quantised(code, centres=config.centres, commitment=config.commitment)
    return fitted.KMeans(code, centres=config.centres)


def _atoms(kind: type[priors.SparseCoding]) -> PriorOf:
    return lambda c, code: kind(code, atoms=c.atoms, weight=c.weight, steps=c.steps)


@dataclass(frozen=True)
class Strategy:
    """config: its keys; trains: the module; energy: the model; prior: R(h)"""

    config: type[keys.ShapeConfig]
    trains: type[Shaping]
    energy: type[Autoencoder] = Autoencoder
    prior: PriorOf = _free


SHAPINGS: Mapping[str, Strategy] = {
    # push
    "maximum_likelihood": Strategy(keys.PersistentChains, push.Likelihood),
    "hmc": Strategy(keys.HMCShape, push.Hamiltonian),
    "contrastive_divergence": Strategy(keys.ContrastiveDivergence, push.Divergence),
    "ratio_matching": Strategy(keys.Flips, push.Flipped),
    "noise_contrastive": Strategy(keys.NoiseContrastive, push.NoiseContrastive),
    "probability_flow": Strategy(keys.ProbabilityFlow, push.Flipped),
    "adversarial": Strategy(keys.Adversarial, push.Adversarial),
    "metric": Strategy(keys.MetricLearning, push.Metric, energies.PairedEncoder),
    # pull
    "denoising": Strategy(keys.Denoising, pull.Denoise),
    "masked": Strategy(keys.Masked, pull.Masked, energies.MaskedAutoencoder),
    # prior
    "pca": Strategy(
        keys.PCAShape,
        shaping.Regularise,
        prior=lambda c, code: fitted.PCA(code, components=c.components),
    ),
    "kmeans": Strategy(keys.KMeansShape, shaping.Regularise, prior=_centres),
    "mixture": Strategy(
        keys.MixtureShape,
        shaping.Regularise,
        prior=lambda c, code: fitted.Mixture(code, components=c.components),
    ),
    "square_ica": Strategy(
        keys.SquareICAShape, shaping.Regularise, prior=lambda c, code: fitted.SquareICA(code)
    ),
    "sparse_coding": Strategy(
        keys.SparseCodingShape, shaping.Regularise, prior=_atoms(priors.SparseCoding)
    ),
    "sparse": Strategy(
        keys.SparseShape, shaping.Sparse, prior=lambda c, code: priors.Laplace(c.weight)
    ),
    "lista": Strategy(keys.ListaShape, shaping.Regularise, prior=_atoms(priors.Lista)),
    "variational": Strategy(
        keys.Variational, shaping.Regularise, prior=lambda c, code: priors.Normal(c.free)
    ),
    # slope
    "contracting": Strategy(keys.Contracting, slope.Contracting),
    "saturating": Strategy(
        keys.SaturatingShape, shaping.Regularise, prior=lambda c, code: priors.Saturating(c.weight)
    ),
    "score_denoising": Strategy(
        keys.ScoreDenoising, slope.ScoreDenoising, energies.SquaredAutoencoder
    ),
    "score_sliced": Strategy(keys.ScoreSliced, slope.ScoreSliced, energies.SquaredAutoencoder),
    # control, baseline, default
    "autoencoder": Strategy(keys.AutoencoderShape, shaping.Regularise),
    "value": Strategy(keys.ValueShape, pull.ValueLearning, energies.Value),
    "critic": Strategy(keys.CriticShape, pull.CriticLearning, energies.Critic),
}
LISTED = tuple(name for name in SHAPINGS if name not in ("autoencoder", "value", "critic"))


def build_energy(
    shape: keys.ShapeConfig,
    decoder: CodeDecoder,
    config: AutoencoderConfig,
    *,
    embedding: int,
    code: int,
) -> Autoencoder:
    """The energy of a strategy. decoder: where its kernel starts from."""
    strategy = SHAPINGS[shape.name]
    prior = strategy.prior(shape, code)
    return strategy.energy(decoder, prior, config, embedding=embedding, code=code)


def build_shaping(shape: keys.ShapeConfig, energy: Autoencoder) -> Shaping:
    """What trains that energy."""
    return SHAPINGS[shape.name].trains(shape, energy)
