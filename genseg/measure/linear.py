"""A linear classifier on frozen features, with all labels or a few of each class."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genseg.measure.knn import accuracy

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # C, the inverse of the weight decay
MOST_IMAGES, MOST_CLASSES = 20_000, 1000  # beyond these by stochastic gradient
HELD_OUT = 0.2  # of each class, to choose C by
FEW = 1.0  # C where there is nothing to choose by


def linear(
    train: Float[Tensor, "n d"],
    labels: Int[Tensor, "n"],
    test: Float[Tensor, "m d"],
    *,
    strength: float | None = None,
    seed: int = 0,
) -> Int[Tensor, "m"]:
    """Classes of `test` by logistic regression on standardised features.

    strength: C; None: that of STRENGTHS which is best on a fifth of each class of `train`, held out
        by `seed` (of equal ones the least); then all of `train` is learnt from. `test` decides on
        nothing.

    Raises ValueError for fewer than two classes.
    """
    if len(labels.unique()) < 2:
        raise ValueError(
            "a linear probe needs two classes or more, the training images have "
            f"{len(labels.unique())}"
        )
    x, z = _standardised(train, test)
    y = labels.numpy()
    return torch.from_numpy(
        _fit(x, y, [_chosen(x, y, seed) if strength is None else strength], seed, z)[0]
    )


def _standardised(
    train: Float[Tensor, "n d"], test: Float[Tensor, "m d"]
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "m d"]]:
    """Mean 0 and standard deviation 1 over `train`; a feature without any spread stays 0."""
    shift, scale = train.mean(0), train.std(0)
    scale = torch.where(scale > 1e-6 * scale.max(), scale, torch.inf)
    return ((train - shift) / scale).numpy(), ((test - shift) / scale).numpy()


def _chosen(x: Float[np.ndarray, "n d"], y: Int[np.ndarray, "n"], seed: int) -> float:
    rng = np.random.default_rng([seed, *b"held out"])
    held = np.zeros(len(y), bool)
    for c in np.unique(y):
        own = rng.permutation(np.flatnonzero(y == c))
        held[own[: round(HELD_OUT * len(own))]] = True
    if not held.any():
        return FEW
    right = [
        float((p == y[held]).mean()) for p in _fit(x[~held], y[~held], STRENGTHS, seed, x[held])
    ]
    return STRENGTHS[int(np.argmax(right))]


def _fit(
    x: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, "n"],
    strengths: Sequence[float],
    seed: int,
    z: Float[np.ndarray, "m d"],
) -> list[Int[np.ndarray, "m"]]:
    """The classes of `z` by a model of each strength."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, SGDClassifier

    large = len(y) > MOST_IMAGES or len(np.unique(y)) > MOST_CLASSES
    model = LogisticRegression(max_iter=500, warm_start=True)
    found = []
    for strength in strengths:  # increasing: each starts from the one before
        if large:
            model = SGDClassifier(
                loss="log_loss", alpha=1 / (strength * len(y)), random_state=seed, average=True
            )
        else:
            model.set_params(C=strength)
        with warnings.catch_warnings():
            # the last digits do not change a class
            warnings.simplefilter("ignore", ConvergenceWarning)
            found.append(model.fit(x, y).predict(z))
    return found


def draw_shots(labels: Int[Tensor, "n"], shots: int, seed: int) -> Int[Tensor, "k"]:
    """Places of `shots` images of each class, a function of the labels, `shots` and `seed` alone:
    so all encoders see the same images. More shots hold those of fewer. Raises ValueError when a
    class has not so many."""
    rng = np.random.default_rng([seed, *b"shots"])
    chosen = []
    for c in labels.unique().tolist():
        own = np.flatnonzero(labels.numpy() == c)
        if len(own) < shots:
            raise ValueError(
                f"class {c} has {len(own)} training images, fewer than {shots} shots; ask for fewer"
            )
        chosen.append(rng.permutation(own)[:shots])
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def few_shots(
    train: Float[Tensor, "n d"],
    labels: Int[Tensor, "n"],
    test: Float[Tensor, "m d"],
    test_labels: Int[Tensor, "m"],
    *,
    shots: int,
    seeds: int,
) -> Float[np.ndarray, "seeds"]:
    """Balanced accuracy of `linear` on `shots` images of each class, for each of so many draws.

    Features are standardised by all of `train`, which takes no label: a few images say nothing
    about a scale.
    """
    x, z = _standardised(train, test)
    found = []
    for seed in range(seeds):
        chosen = draw_shots(labels, shots, seed)
        guess = _fit(x[chosen.numpy()], labels[chosen].numpy(), [FEW], seed, z)[0]
        found.append(accuracy(torch.from_numpy(guess), test_labels).balanced)
    return np.array(found)
