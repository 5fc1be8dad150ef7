"""Priors that scikit-learn fits to the codes of true maps after training. Here they are computed
from plain tensors: nothing is pickled.
"""

import math
import warnings
from abc import abstractmethod

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sklearn.cluster import KMeans as FitKMeans
from sklearn.decomposition import PCA as FitPCA
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from genseg.energies.draws import Draws
from genseg.energies.priors import Coded, Prior, centres_drawn, squared_distances


class Fitted(Prior):
    """What is fitted to the codes of true maps once those are trained. Before, codes are free.

    least: how many codes it has to be fitted to, at least; fewer_by: what makes that less
    """

    ready: Tensor
    fewer_by = ""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))

    @property
    @abstractmethod
    def least(self) -> int: ...

    @abstractmethod
    def density(self, h: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """The fitted energy of codes."""

    @abstractmethod
    def _drawn(self, count: int, generator: torch.Generator) -> Float[Tensor, "{count} d"]:
        """Codes of what was fitted."""

    def sampled(
        self, near: Float[Tensor, "n d"], count: int, generator: torch.Generator
    ) -> Float[Tensor, "{count} d"]:
        if not bool(self.ready):
            return super().sampled(near, count, generator)
        return self._drawn(count, generator)

    @abstractmethod
    def _fit(self, h: Float[np.ndarray, "n d"], seed: int) -> None: ...

    def fit(self, codes: Float[Tensor, "n d"], *, seed: int = 0) -> None:
        """Fit to codes. Raises ValueError for fewer than `least`, or others than finite ones."""
        self.check(len(codes))
        if not bool(codes.isfinite().all()):
            raise ValueError("codes are not finite, so nothing can be fitted to them; train anew")
        with warnings.catch_warnings():
            # codes that are alike have fewer centres, nearly normal ones no directions of their
            # own, and the last digits of a mixture do not count
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._fit(codes.double().cpu().numpy(), seed)
        self.ready.fill_(True)

    def check(self, codes: int, *, advice: str = "make more composites") -> None:
        """Raise ValueError for fewer codes than `least`."""
        if codes < self.least:
            raise ValueError(
                f"{codes} maps are too few to fit {type(self).__name__} to: it takes {self.least} "
                f"or more; {advice}{self.fewer_by}"
            )

    def forward(
        self, numbers: Float[Tensor, "n k"], image: Int[Tensor, "n"], draws: Draws | None = None
    ) -> Coded:
        if not bool(self.ready):
            return Coded(numbers, torch.zeros_like(numbers[:, 0]))
        return Coded(numbers, self.density(numbers))

    def _set(self, **values: np.ndarray) -> None:
        """Fill buffers."""
        for name, value in values.items():
            buffer = getattr(self, name)
            buffer.copy_(torch.as_tensor(np.asarray(value)).to(buffer).view_as(buffer))


class PCA(Fitted):
    """-log p(h) of probabilistic PCA: a normal distribution whose covariance is that of so many
    directions, and one variance in all others (Tipping & Bishop, 1999). As that variance falls, the
    squared distance from the plane of the directions is all that counts."""

    mean: Tensor
    precision: Tensor
    constant: Tensor

    def __init__(self, code: int, *, components: int) -> None:
        super().__init__()
        if components >= code:
            raise ValueError(
                f"shape.components={components}: a code has {code} numbers; use fewer directions"
            )
        self.components = components
        self.register_buffer("mean", torch.zeros(code))
        self.register_buffer("precision", torch.eye(code))
        self.register_buffer("constant", torch.zeros(()))

    @property
    def least(self) -> int:
        return len(self.mean) + 1

    def _fit(self, h: Float[np.ndarray, "n d"], seed: int) -> None:
        found = FitPCA(self.components, random_state=seed).fit(h)
        covariance = found.get_covariance()
        log_determinant = np.linalg.slogdet(2 * math.pi * covariance)[1]
        self._set(
            mean=found.mean_,
            precision=np.linalg.inv(covariance),
            constant=np.array(0.5 * log_determinant),
        )

    def density(self, h: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        away = h - self.mean
        return 0.5 * ((away @ self.precision) * away).sum(1) + self.constant

    def _drawn(self, count: int, generator: torch.Generator) -> Float[Tensor, "{count} d"]:
        root = torch.linalg.cholesky(self.precision)
        return self.mean + _normal(self.mean, count, generator) @ torch.linalg.inv(root)


class KMeans(Fitted):
    """The squared distance from the nearest of k centres."""

    centres: Tensor
    fewer_by = ", or lower shape.centres"

    def __init__(self, code: int, *, centres: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.zeros(centres, code))

    @property
    def least(self) -> int:
        return len(self.centres)

    def _fit(self, h: Float[np.ndarray, "n d"], seed: int) -> None:
        found = FitKMeans(len(self.centres), n_init=4, random_state=seed).fit(h)
        self._set(centres=found.cluster_centers_)

    def density(self, h: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        return squared_distances(h, self.centres).amin(1)

    def _drawn(self, count: int, generator: torch.Generator) -> Float[Tensor, "{count} d"]:
        return centres_drawn(self.centres, count, generator)


class Mixture(Fitted):
    """-log sum_k p_k N(h; mean_k, covariance_k)."""

    RIDGE = 1e-3  # of each variance, added
    fewer_by = ", or lower shape.components"

    means: Tensor
    roots: Tensor
    constants: Tensor

    def __init__(self, code: int, *, components: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(components, code))
        # of the precisions
        self.register_buffer("roots", torch.zeros(components, code, code))
        self.register_buffer("constants", torch.zeros(components))

    @property
    def least(self) -> int:
        return self.means.numel() + 1

    def _fit(self, h: Float[np.ndarray, "n d"], seed: int) -> None:
        found = GaussianMixture(
            len(self.means), reg_covar=self.RIDGE * h.var(0).mean(), random_state=seed
        ).fit(h)
        roots = found.precisions_cholesky_
        log_root = np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(1)
        constants = np.log(found.weights_) + log_root - 0.5 * h.shape[1] * math.log(2 * math.pi)
        self._set(means=found.means_, roots=roots, constants=constants)

    def density(self, h: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        whitened = (h[:, None] - self.means).unsqueeze(2) @ self.roots
        return -(self.constants - 0.5 * whitened.square().sum((2, 3))).logsumexp(1)

    def _drawn(self, count: int, generator: torch.Generator) -> Float[Tensor, "{count} d"]:
        log_root = self.roots.diagonal(dim1=1, dim2=2).log().sum(1)
        part = (self.constants - log_root).softmax(0).cpu()  # of each component
        which = part.multinomial(count, replacement=True, generator=generator).to(self.means.device)
        noise = _normal(self.means[0], count, generator)
        roots = torch.linalg.inv(self.roots)[which]
        return self.means[which] + (noise[:, None] @ roots)[:, 0]


class SquareICA(Fitted):
    """sum_i log(pi cosh s_i) - log |det W|, s = W (h - mean): as many independent sources as
    numbers of the code, each of the density 1 / (pi cosh s) (Bell & Sejnowski, 1995). W is
    square."""

    mean: Tensor
    unmixing: Tensor
    constant: Tensor

    def __init__(self, code: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(code))
        self.register_buffer("unmixing", torch.eye(code))
        self.register_buffer("constant", torch.zeros(()))

    @property
    def least(self) -> int:
        return len(self.mean) + 1

    def _fit(self, h: Float[np.ndarray, "n d"], seed: int) -> None:
        fit = FastICA(whiten="unit-variance", max_iter=500, tol=1e-3, random_state=seed)
        found = fit.fit(h)
        # 1 / (pi cosh s) has the variance (pi / 2)^2
        unmixing = found.components_ * (math.pi / 2)
        constant = h.shape[1] * math.log(math.pi) - np.linalg.slogdet(unmixing)[1]
        self._set(mean=found.mean_, unmixing=unmixing, constant=np.array(constant))

    def density(self, h: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        sources = (h - self.mean) @ self.unmixing.T
        # log cosh without overflow
        size = sources.abs()
        log_cosh = size + F.softplus(-2 * size) - math.log(2)
        return log_cosh.sum(1) + self.constant

    def _drawn(self, count: int, generator: torch.Generator) -> Float[Tensor, "{count} d"]:
        chance = torch.rand(count, len(self.mean), generator=generator, dtype=torch.float64)
        # of 1 / (pi cosh s): the part below s is 2 / pi arctan(exp s)
        sources = (math.pi / 2 * chance.clamp(1e-9, 1 - 1e-9)).tan().log().to(self.mean)
        return self.mean + torch.linalg.solve(self.unmixing, sources.T).T


def _normal(like: Float[Tensor, "d"], count: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, len(like), generator=generator).to(like)
