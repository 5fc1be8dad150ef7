"""Pictures show what a user would keep, where a run keeps all for their order."""

import numpy as np

from genseg.data.instances.instance import Instance
from genseg.show.shown import FEW, shown_from, shown_words


def scoring(*scores: float) -> list[Instance]:
    return [Instance(np.full((2, 2), 255, np.uint8), 0, 0, s) for s in scores]


def test_a_least_score_that_means_something_is_that_of_pictures() -> None:
    images = [scoring(0.9, 0.2), scoring(0.15)]
    assert shown_from(images, 0.15)[0] == 0.15 and shown_words(0.15, 0.15) == ""
    assert shown_from(images) == (0.15, 0.15)  # the least that one has
    assert shown_from([]) == (0.0, 0.0) and shown_from([[], []], 0.001)[0] == 0.001


def test_of_those_kept_for_their_order_the_believed_are_shown() -> None:
    low = np.linspace(0.001, 0.4, 300).tolist()
    images = [scoring(0.9, 0.6, *low), scoring(0.51, *low), scoring(*low)]
    assert shown_from(images, 0.001)[0] == 0.5
    assert shown_words(0.5, 0.001) == " At first those that score 0.5 or more are shown."


def test_where_nothing_is_believed_the_best_few_are_shown() -> None:
    images = [scoring(*(0.09 - 1e-4 * n for n in range(k, 300, 2))) for k in (0, 1)]
    images.append([])
    score = shown_from(images, 0.001)[0]
    assert sum(a.score >= score for found in images for a in found) == FEW * len(images)
    assert "0.089 or more are shown, the best 3 an image or so" in shown_words(score, 0.001)
    assert shown_from([scoring(0.02), scoring()], 0.001)[0] == 0.02
