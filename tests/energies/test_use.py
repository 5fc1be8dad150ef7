"""What an energy does in generation: it ranks, mends and searches."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from energies import EMBEDDING, embeddings, energy_of, maps_of
from placed_discs import Discs, places_of
from torch import Tensor

from genseg.alpha.generate import generate
from genseg.alpha.kept import GenerateConfig, stability
from genseg.data.instances.instance import Instance, cut_instance
from genseg.energies.maps import Maps
from genseg.energies.use import (
    LEAST,
    Evidence,
    Ranker,
    Ranking,
    UseConfig,
    fit_ranking,
    inside,
    windows_of,
)


def instances(maps: Maps) -> list[Instance]:
    """Maps as instances at the stride of the embeddings."""
    found = [cut_instance((a * 255).round().byte().numpy(), 0.5) for a in maps.alpha]
    return [a for a in found if a is not None]


def test_without_a_fit_the_score_stays() -> None:
    score = np.array([0.1, 0.5, 0.9])
    found = Ranking().expected(Evidence(score, np.ones(3), np.ones(3), np.ones(3)))
    np.testing.assert_allclose(found, score, atol=1e-9)


def test_a_ranking_takes_what_says_something_and_nothing_else() -> None:
    """Of overlaps from 1/2 upwards; what has less is wrong, and counts as 1/2."""
    rng = np.random.default_rng(0)
    overlap, noise, same = rng.random(4000), rng.random(4000), np.full(4000, 0.5)
    worth = np.clip(2 * overlap - 1, 0, 1)
    known = Evidence(same, same, noise, 1 - worth)
    by_cost = fit_ranking(known, overlap)
    assert by_cost.cost > 1 and by_cost.distance < 0.1 * by_cost.cost
    assert by_cost.own == by_cost.stable == 0
    assert np.corrcoef(by_cost.expected(known), worth)[0, 1] > 0.98
    # what falls with the overlap has no weight below 0
    score = worth * 0.98 + 0.01
    wrong = fit_ranking(Evidence(score, same, same, overlap + noise), overlap)
    assert wrong.own > 1 and wrong.distance == 0 and wrong.cost < 0.05
    assert fit_ranking(Evidence(same, same, overlap, 0 * same), overlap) == Ranking()
    stable = fit_ranking(Evidence(same, score, noise, noise), overlap)
    assert stable.stable > 1 and stable.own == 0


def test_of_few_instances_nothing_is_fitted() -> None:
    few = np.ones(LEAST - 1)
    assert fit_ranking(Evidence(few / 2, few, few, few), few) == Ranking()


@pytest.mark.parametrize("name", ["denoising", "value", "score_denoising", "metric"])
def test_windows_give_the_energy_of_the_whole_image(name: str) -> None:
    """Dec draws in the window alone; what it would draw beyond is the only difference."""
    energy = energy_of(name).eval()
    pixels, maps = embeddings(1), maps_of([0, 0, 0])
    found = instances(maps)
    alpha = torch.stack([torch.from_numpy(a.paint(24, 24)).float() / 255 for a in found])
    with torch.no_grad():
        cost = energy.parts(pixels, Maps(alpha, maps.image))[1]
    known = Ranker(energy, Ranking(), UseConfig()).evidence(pixels[0], found)
    np.testing.assert_allclose(known.cost, cost.numpy(), atol=2e-3)
    assert known.score.tolist() == pytest.approx([0.5] * len(found))
    np.testing.assert_allclose(known.stability, stability(alpha.numpy()), atol=0.02)


def test_windows_hold_their_maps_and_are_of_one_scale() -> None:
    energy = energy_of("denoising")
    large = torch.zeros(60, 60)
    large[10:50, 8:52] = 1
    small = torch.zeros(60, 60)
    small[2:6, 3:8] = 1
    found = instances(Maps(torch.stack([large, small]), torch.zeros(2, dtype=torch.long)))
    seen = list(windows_of(torch.zeros(EMBEDDING, 60, 60), found, energy))
    assert sorted(i for chosen, *_ in seen for i in chosen) == [0, 1]
    for chosen, _, near, maps in seen:
        assert near.shape[2:] == maps.alpha.shape[1:]
        for i, alpha in zip(chosen, maps.alpha, strict=True):
            assert float(alpha.sum()) == pytest.approx(found[i].area)
    assert list(windows_of(torch.zeros(EMBEDDING, 60, 60), [], energy)) == []


def test_a_mended_map_stays_in_its_image() -> None:
    energy = energy_of("denoising").eval()
    maps = maps_of([0, 0, 0])
    found = [replace(a, score=0.3 + 0.1 * i) for i, a in enumerate(instances(maps))]
    found.append(Instance(np.full((9, 9), 255, np.uint8), 0, 0, 0.2))  # at the corner
    pixels = embeddings(1)[0]
    ranker = Ranker(energy, Ranking(), UseConfig(refine=True))
    after = ranker(pixels, found)
    assert len(after) == len(found)
    for a in after:
        rows, columns = a.window
        assert rows.start >= 0 and columns.start >= 0 and rows.stop <= 24 and columns.stop <= 24


@pytest.mark.parametrize("change", [1e3, -1e3])
def test_a_map_is_mended_where_the_energy_falls_and_not_d_alone(
    change: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    energy, looks = energy_of("critic").eval(), count()

    def learnt(embeddings: Tensor, maps: Maps) -> Tensor:
        return torch.full((len(maps),), change * (next(looks) % 2))  # of every second look

    monkeypatch.setattr(energy, "learnt", learnt)
    found = [replace(a, score=0.5) for a in instances(maps_of([0, 0, 0]))]
    after = Ranker(energy, Ranking(), UseConfig(refine=True))(embeddings(1)[0], found)
    former = {(a.top, a.left, a.alpha.tobytes()) for a in found}
    kept = [(a.top, a.left, a.alpha.tobytes()) in former for a in after]
    assert all(kept) if change > 0 else not any(kept)


def test_a_map_that_leaves_its_window_is_not_redrawn() -> None:
    alpha = torch.zeros(2, 8, 8)
    alpha[0, 2:5, 2:5] = 1
    alpha[1, 2:5, 5:8] = 1
    assert inside(alpha).tolist() == [True, False]


class ByArea:
    """Ranks by area: the largest is the best."""

    least = 0.02

    def __init__(self, faintest: float | None = None) -> None:
        self.faintest = faintest

    def __call__(self, embeddings: Tensor, found: Sequence[Instance]) -> list[Instance]:
        ranked = [replace(a, score=min(1.0, a.area / 200)) for a in found]
        return sorted(ranked, key=lambda a: -a.score)


def found_in(rank: ByArea | None, faint: float = -9.0) -> list[Instance]:
    """A small disc that is sure of itself, a large one that is not, one on top of it, and a faint
    one elsewhere."""
    places = places_of(
        [
            (0, 10, 10, 5.0, 3.0, 3.0, 0),
            (0, 40, 40, 15.0, -2.0, 0.0, 1),
            (0, 44, 44, 6.0, 3.0, 3.0, 0),
            (0, 10, 50, 9.0, faint, 2.0, 0),
        ]
    )
    config = GenerateConfig(score=0.1, candidate=0.3)
    pixels = torch.zeros(1, 1, 32, 32)
    return generate(Discs(), pixels, places, config, rank=rank)[0]


def test_a_ranking_decides_which_of_two_stays() -> None:
    plain, ranked = found_in(None), found_in(ByArea())
    assert len(plain) == 2 and max(a.area for a in plain) < 150
    assert ranked[0].area > 600
    scores = [a.score for a in ranked]
    assert scores == sorted(scores, reverse=True)


def test_only_what_the_decoder_would_keep_is_ranked() -> None:
    """Of two that are nearly the same the ranking sees the one that scores better."""

    class Seen(ByArea):
        def __call__(self, embeddings: Tensor, found: Sequence[Instance]) -> list[Instance]:
            self.found = list(found)
            return super().__call__(embeddings, found)

    # of different grids, so neither place is the other's neighbour
    places = places_of([(0, 41, 41, 12.0, 3.0, 3.0, 0), (0, 41, 41, 13.0, 1.0, 1.0, 1)])
    seen = Seen()
    generate(Discs(), torch.zeros(1, 1, 32, 32), places, GenerateConfig(score=0.1), rank=seen)
    assert len(seen.found) == 1 and seen.found[0].area < 125


def test_a_ranking_sees_scores_without_the_stability_that_it_weighs_itself() -> None:
    seen = list[float]()

    class Noting(ByArea):
        def __call__(self, embeddings: Tensor, found: Sequence[Instance]) -> list[Instance]:
            seen.extend(a.score for a in found)
            return super().__call__(embeddings, found)

    places = [(0, 10, 10, 5.0, 3.0, 3.0, 0), (0, 50, 50, 9.0, -4.0, 2.0, 0)]
    for power in (0.0, 2.0):
        config = GenerateConfig(score=0.1, candidate=0.3, stability=power)
        soft = places_of(places, steep=0.5)
        generate(Discs(), torch.zeros(1, 1, 32, 32), soft, config, rank=Noting(faintest=0.01))
    half = len(seen) // 2
    assert seen[:half] == seen[half:] and min(seen) < 0.2  # the faint one is found by searching


def test_a_search_looks_at_faint_places_where_nothing_is() -> None:
    faint = -4.0  # a probability of 0.018
    without, found = found_in(ByArea(), faint), found_in(ByArea(faintest=0.01), faint)
    assert len(found) == len(without) + 1
    new = [a for a in found if all((a.top, a.left) != (b.top, b.left) for b in without)]
    assert len(new) == 1 and new[0].left > 30
    assert len(found_in(ByArea(faintest=0.1), faint)) == len(without)
