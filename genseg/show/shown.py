"""Which instances pictures show at first: those that a user would keep."""

from collections.abc import Iterable, Sequence

import numpy as np

from genseg.data.instances.instance import Instance

LOW = 0.1  # who keeps instances of a lower score keeps them for their order, as AP asks for it
USUAL = 0.5  # from which on a probability is believed
FEW = 3  # instances of an image, where next to none is believed: large ones hide a photograph


def shown_from(
    images: Iterable[Sequence[Instance]], least: float | None = None
) -> tuple[float, float]:
    """The score from which on the instances of some images are shown at first; and the least.

    least: from which on they were kept; None: the least that one has

    It is the least where that is LOW or more, so that it means something. Else it is USUAL; or
    where fewer than one an image score that much, the score of the best, FEW an image on average.
    """
    scores = [[a.score for a in found] for found in images]
    every = np.sort([s for found in scores for s in found])[::-1]
    if least is None:
        least = float(every[-1]) if every.size else 0.0
    if least >= LOW or not every.size:
        return least, least
    if (every >= USUAL).sum() >= len(scores):
        return USUAL, least
    return max(least, float(every[min(every.size, FEW * len(scores)) - 1])), least


def shown_words(score: float, low: float) -> str:
    """A sentence on instances of which those from `score` on are shown at first; nothing where
    these are all, `low` being the least."""
    if score <= low:
        return ""
    few = f", the best {FEW} an image or so: nothing scores much" if score < LOW else ""
    return f" At first those that score {score:.2g} or more are shown{few}."
