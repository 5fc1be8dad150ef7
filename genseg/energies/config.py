"""The keys of each way to shape an energy: `shape.name` chooses one."""

from dataclasses import dataclass

from genseg.core.check import above, at_least, between


@dataclass(frozen=True)
class ShapeConfig:
    """What all have."""

    name: str = ""
    reconstruct: float = 1.0  # weight of the mask loss of r(a) against a

    def __post_init__(self) -> None:
        at_least(0, reconstruct=self.reconstruct)

    def cost_weight(self, progress: float) -> float | None:
        """Of R(h) in the loss, at a part of the run in [0, 1]; None where it is not trained."""
        return None


@dataclass(frozen=True)
class Corrupting(ShapeConfig):
    """What those have that corrupt maps."""

    # least and most overlap with the true map that corruptions leave
    overlap: tuple[float, float] = (0.3, 0.85)

    def __post_init__(self) -> None:
        super().__post_init__()
        between(0, 1, least=self.overlap[0], most=self.overlap[1])
        if self.overlap[0] > self.overlap[1]:
            raise ValueError(f"overlap={list(self.overlap)}: give the lower one first")


@dataclass(frozen=True)
class AutoencoderShape(ShapeConfig):
    """No shaping: the bottleneck alone, the control."""

    name: str = "autoencoder"


# push


@dataclass(frozen=True)
class Chains(ShapeConfig):
    """What those have that run chains."""

    steps: int = 4  # of Langevin in the map
    step: float = 10.0  # size of these steps
    noise: float = 0.02  # deviation of the noise of each
    clip: float = 0.01  # largest slope at a pixel that counts
    regularise: float = 0.1  # weight of the square of the energies, which bounds them

    def __post_init__(self) -> None:
        super().__post_init__()
        above(0, step=self.step, clip=self.clip)
        at_least(0, steps=self.steps, noise=self.noise, regularise=self.regularise)


@dataclass(frozen=True)
class PersistentChains(Chains):
    """Chains of codes that go on from step to step, decoded, and from there in the map."""

    name: str = "maximum_likelihood"
    chains: int = 4096  # codes that are kept
    anew: float = 0.05  # probability that a chain begins anew, at the code of a true map
    rounds: int = 10  # steps of Langevin in the code
    code_step: float = 0.2  # size of these steps
    code_noise: float = 0.05  # deviation of the noise of each; hmc has none

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, chains=self.chains)
        at_least(0, rounds=self.rounds, code_noise=self.code_noise)
        between(0, 1, anew=self.anew)
        above(0, code_step=self.code_step)


@dataclass(frozen=True)
class HMCShape(PersistentChains):
    """The same with Hamiltonian Monte Carlo in the code, and no step in the map."""

    name: str = "hmc"
    steps: int = 0
    rounds: int = 1  # of Hamiltonian Monte Carlo
    leapfrogs: int = 8  # steps of a round
    code_step: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, leapfrogs=self.leapfrogs)


@dataclass(frozen=True)
class ContrastiveDivergence(Chains):
    """Short chains from the true maps."""

    name: str = "contrastive_divergence"


@dataclass(frozen=True)
class Flips(ShapeConfig):
    """Against maps with a flipped square."""

    name: str = "ratio_matching"
    flips: int = 4  # of each map

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, flips=self.flips)


@dataclass(frozen=True)
class ProbabilityFlow(Flips):
    name: str = "probability_flow"


@dataclass(frozen=True)
class NoiseContrastive(Corrupting):
    """Against corrupted maps."""

    name: str = "noise_contrastive"
    conditional: bool = False  # each map against its own true one; false: all against c = log Z


@dataclass(frozen=True)
class Adversarial(ShapeConfig):
    """Against the maps of a generator of codes."""

    name: str = "adversarial"
    margin: float = 1.0  # energy up to which generated maps are pushed
    entropy: float = 0.01  # weight of the entropy of the generated codes
    noise: int = 16  # random numbers that a code is made of

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, entropy=self.entropy)
        at_least(1, noise=self.noise)


@dataclass(frozen=True)
class MetricLearning(Corrupting):
    """A map's code against that of the image alone."""

    name: str = "metric"
    reconstruct: float = 0.0
    temperature: float = 0.2  # of the softmax over maps

    def __post_init__(self) -> None:
        super().__post_init__()
        above(0, temperature=self.temperature)


# pull


@dataclass(frozen=True)
class Denoising(Corrupting):
    """From a corrupted map to the true one."""

    name: str = "denoising"
    overlap: tuple[float, float] = (0.2, 0.9)
    clean: float = 0.3  # probability that a map is shown as it is

    def __post_init__(self) -> None:
        super().__post_init__()
        between(0, 1, clean=self.clean)


@dataclass(frozen=True)
class Masked(ShapeConfig):
    """From one half of a map to the other."""

    name: str = "masked"


# prior


@dataclass(frozen=True)
class PCAShape(ShapeConfig):
    name: str = "pca"
    components: int = 16  # directions

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, components=self.components)


@dataclass(frozen=True)
class KMeansShape(ShapeConfig):
    name: str = "kmeans"
    centres: int = 64
    # true: codes are quantised in training; false: centres are fitted after it
    trained: bool = False
    commitment: float = 0.25  # weight of the distance from the centre, where it is trained

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, centres=self.centres)
        at_least(0, commitment=self.commitment)

    def cost_weight(self, progress: float) -> float | None:
        return 1.0 if self.trained else None


@dataclass(frozen=True)
class MixtureShape(ShapeConfig):
    name: str = "mixture"
    components: int = 16  # normal distributions

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, components=self.components)


@dataclass(frozen=True)
class SquareICAShape(ShapeConfig):
    name: str = "square_ica"


@dataclass(frozen=True)
class SparseCodingShape(ShapeConfig):
    name: str = "sparse_coding"
    atoms: int = 64
    weight: float = 0.1  # of |z|_1
    steps: int = 20  # of FISTA
    cost: float = 0.1  # weight of what a code costs, beside the mask loss

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, atoms=self.atoms, steps=self.steps)
        at_least(0, weight=self.weight, cost=self.cost)

    def cost_weight(self, progress: float) -> float | None:
        return self.cost


@dataclass(frozen=True)
class ListaShape(SparseCodingShape):
    name: str = "lista"
    steps: int = 4  # of the network


@dataclass(frozen=True)
class SparseShape(ShapeConfig):
    name: str = "sparse"
    weight: float = 0.02  # of |h|_1

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, weight=self.weight)

    def cost_weight(self, progress: float) -> float | None:
        return 1.0


@dataclass(frozen=True)
class Variational(ShapeConfig):
    name: str = "variational"
    reconstruct: float = 30.0
    warmup: float = 0.2  # part of the run over which the divergence comes in
    free: float = 0.1  # nats of each number that cost nothing

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, free=self.free)
        between(0, 1, warmup=self.warmup)

    def cost_weight(self, progress: float) -> float | None:
        return min(1.0, progress / max(self.warmup, 1e-9))


# slope


@dataclass(frozen=True)
class Contracting(ShapeConfig):
    name: str = "contracting"
    weight: float = 0.1  # of the squared slope of the code

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, weight=self.weight)


@dataclass(frozen=True)
class SaturatingShape(ShapeConfig):
    name: str = "saturating"
    weight: float = 0.02  # of the distance from where the activation is flat

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, weight=self.weight)

    def cost_weight(self, progress: float) -> float | None:
        return progress  # from 0 upwards, or all units saturate at once


@dataclass(frozen=True)
class ScoreDenoising(ShapeConfig):
    name: str = "score_denoising"
    deviation: tuple[float, float] = (0.1, 0.4)  # of the noise, drawn for each map
    weight: float = 1.0  # of the score's error

    def __post_init__(self) -> None:
        super().__post_init__()
        above(0, least=self.deviation[0])
        at_least(self.deviation[0], most=self.deviation[1])
        at_least(0, weight=self.weight)


@dataclass(frozen=True)
class ScoreSliced(ScoreDenoising):
    name: str = "score_sliced"
    deviation: tuple[float, float] = (0.1, 0.1)
    weight: float = 0.01


# beside the list


@dataclass(frozen=True)
class ValueShape(Corrupting):
    """The baseline: the overlap with an instance, learnt without an autoencoder."""

    name: str = "value"
    reconstruct: float = 0.0


@dataclass(frozen=True)
class CriticShape(Denoising):
    """Denoising for d, and a learnt R beside it."""

    name: str = "critic"


def refuse_unread(config: ShapeConfig) -> None:
    """Raise ValueError for a key that its shaping does not read. Files are built without this
    check."""
    if isinstance(config, MetricLearning | ValueShape) and config.reconstruct:
        raise ValueError(
            f"shape.reconstruct={config.reconstruct:g}: {config.name} is not trained to draw "
            "anything, so there is nothing to reconstruct; leave it out"
        )
    if isinstance(config, HMCShape) and config.code_noise != PersistentChains.code_noise:
        raise ValueError(
            f"shape.code_noise={config.code_noise:g}: hmc draws momenta in place of noise; leave "
            "it out"
        )
