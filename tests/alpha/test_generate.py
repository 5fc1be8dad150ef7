"""Generation: instances are found where they were put, the best of doubles stays, and nothing gives
nothing."""

import math

import numpy as np
import pytest
import torch
from placed_discs import LOW, SIZE, Discs, places_of

from genseg.alpha.decoder import Places
from genseg.alpha.generate import _peaks, generate, proposed_at
from genseg.alpha.kept import GenerateConfig, stability, suppress, unpadded
from genseg.data.instances.instance import Instance, cut_instance


def found_in(places: Places, **config: float) -> list[list[Instance]]:
    embeddings = torch.zeros(len(places.objectness), 1, SIZE // 2, SIZE // 2)
    return generate(Discs(), embeddings, places, GenerateConfig(**config))


def disc(y: float, x: float, radius: float, size: int = SIZE) -> np.ndarray:
    at = np.arange(size) + 0.5
    return (at[:, None] - y) ** 2 + (at - x) ** 2 < radius**2


def iou(instance: Instance, truth: np.ndarray) -> float:
    mask = instance.paint(*truth.shape) > 127
    return float((mask & truth).sum() / (mask | truth).sum())


def test_instances_are_found_where_they_were_put_best_first() -> None:
    put = [
        (0, 18.0, 14.0, 8.0, 1.0, 2.0, 0),
        (2, 40.0, 24.0, 15.0, 2.0, 1.0, 1),
        (0, 46.0, 46.0, 9.0, 3.0, 3.0, 0),
    ]
    found, smooth = (found_in(places_of(put, images=3, steep=steep)) for steep in (20.0, 1.0))
    assert [len(f) for f in found] == [2, 0, 1]
    for i, order in ((0, [put[2], put[0]]), (2, [put[1]])):
        for instance, soft, (_, y, x, radius, o, q, _) in zip(
            found[i], smooth[i], order, strict=True
        ):
            assert iou(soft, disc(y, x, radius)) > 0.95
            sure = 1 / (1 + math.exp(-o)) / (1 + math.exp(-q))
            # hard alphas are sure of themselves
            assert instance.score == pytest.approx(math.sqrt(sure), rel=0.01)


def test_the_score_falls_with_the_doubt_of_an_alpha() -> None:
    put = [(0, 30.0, 30.0, 12.0, 2.0, 2.0, 0)]
    ((sharp,),), ((soft,),) = (
        found_in(places_of(put), score=0),
        found_in(places_of(put, steep=0.3), score=0),
    )
    at = (torch.arange(32) + 0.5) * 2 - 30
    alpha = ((12 - (at[:, None] ** 2 + at**2).sqrt()) * 0.3).sigmoid()
    assert soft.score / sharp.score == pytest.approx(float(alpha[alpha > 0.5].mean()), rel=1e-3)


def test_stability_is_the_part_of_an_alpha_that_is_sure_of_itself() -> None:
    ramp = torch.linspace(0, 1, 1001)[None, None]  # its values are spread evenly
    assert stability(ramp).item() == pytest.approx(1 / 3, abs=2e-3)
    assert stability((ramp > 0.5).float()).item() == 1
    assert stability(torch.zeros(1, 4, 4)).item() == 0


def test_a_power_of_the_stability_counts_in_the_score() -> None:
    soft = places_of([(0, 30.0, 30.0, 12.0, 2.0, 2.0, 0)], steep=0.3)
    ((plain,),), ((stable,),), ((squared,),) = (
        found_in(soft, score=0, stability=power) for power in (0.0, 1.0, 2.0)
    )
    at = (torch.arange(32) + 0.5) * 2 - 30
    alpha = ((12 - (at[:, None] ** 2 + at**2).sqrt()) * 0.3).sigmoid()
    part = float((alpha > 0.75).sum() / (alpha > 0.25).sum())
    assert stable.score / plain.score == pytest.approx(part, rel=1e-3)
    assert squared.score / plain.score == pytest.approx(part**2, rel=1e-3)


def test_no_candidates_give_empty_results() -> None:
    assert found_in(places_of([], images=2)) == [[], []]
    assert (
        generate(Discs(), torch.zeros(0, 1, 32, 32), places_of([], images=0), GenerateConfig())
        == []
    )


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        ({"candidate": 0.8}, 1),
        ({"candidate": 0.7}, 2),
        ({"score": 0.95}, 0),
        ({"score": 0.87}, 1),
        ({"score": 0.8}, 2),
        ({"min_area": 400}, 0),
        ({"min_area": 200}, 1),
        ({"min_area": 100}, 2),
    ],
)
def test_thresholds_leave_out_what_is_below(config: dict[str, float], kept: int) -> None:
    """sigmoid(1) = 0.73, sigmoid(2) = 0.88; discs of 201 and of 113 pixels."""
    put = [(0, 18.0, 14.0, 8.5, 2.0, 2.0, 0), (0, 46.0, 46.0, 6.5, 1.0, 2.0, 0)]
    assert len(found_in(places_of(put), **config)[0]) == kept


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"score": 7}, "score=7: use 0 to 1"),
        ({"candidate": -0.1}, "candidate=-0.1: use 0 to 1"),
        ({"overlap": math.nan}, "overlap=nan: use 0 to 1"),
        ({"inside": 2}, "inside=2: use 0 to 1"),
        ({"min_area": -3}, "min_area=-3: use 1 or more"),
        ({"tile": 0}, "tile=0: use 32 or more"),
    ],
)
def test_settings_out_of_their_range_are_named(config: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GenerateConfig(**config)


def test_the_best_of_doubles_stays() -> None:
    """The same disc from two grids, and from two places that are no neighbours."""
    put = [
        (0, 38.0, 38.0, 14.0, 1.0, 2.0, 0),
        (0, 40.0, 40.0, 14.0, 3.0, 2.0, 1),
        (0, 46.0, 38.0, 14.0, 2.0, 2.0, 0),
    ]
    (found,) = found_in(places_of(put, steep=1.0))
    assert len(found) == 1 and iou(found[0], disc(40, 40, 14)) > 0.95


def test_of_neighbouring_places_the_highest_is_decoded_and_grids_do_not_compete() -> None:
    put = [
        (0, 18.0, 18.0, 5.0, 1.0, 0, 0),
        (0, 22.0, 22.0, 5.0, 2.0, 0, 0),
        (0, 34.0, 22.0, 5.0, 1.0, 0, 0),
        (0, 24.0, 24.0, 5.0, 0.5, 0, 1),
    ]
    places = places_of(put)
    peaks = _peaks(places) & (places.objectness > LOW)
    centres, _ = places.centres()
    assert centres[peaks[0]].tolist() == [[22, 22], [34, 22], [24, 24]]
    for i in range(50):
        g = torch.Generator().manual_seed(i)
        grid = torch.randn(1, 30, generator=g)
        got = _peaks(Places(grid, grid, grid[..., None], ((4, 5, 6),)))[0].view(5, 6)
        table = grid.view(5, 6)
        for y in range(5):
            for x in range(6):
                around = table[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
                assert bool(got[y, x]) == bool(table[y, x] == around.max())


def test_alphas_are_soft_and_their_faint_parts_nothing() -> None:
    ((found,),) = found_in(places_of([(0, 30.0, 30.0, 12.0, 2.0, 2.0, 0)], steep=0.5), score=0)
    at = torch.arange(SIZE) + 0.5 - 30
    want = ((12 - (at[:, None] ** 2 + at**2).sqrt()) * 0.5).sigmoid().numpy()
    alpha = found.paint(SIZE, SIZE) / 255
    assert np.abs(alpha - want)[want > 0.05].max() < 0.03
    assert alpha[want < 0.005].max() == 0


# Suppression


def naive(masks: list[np.ndarray], overlap: float, inside: float) -> list[int]:
    """Sets of pixels; a pixel of several kept ones counts for the best of them."""
    kept: list[int] = []
    sets = [set(np.flatnonzero(m).tolist()) for m in masks]
    own: dict[int, set[int]] = {}
    for i, one in enumerate(sets):
        covered = set().union(*own.values())
        shared = {k: len(one & own[k]) for k in kept}
        doubles = [k for k in kept if shared[k] > overlap * (len(one) + len(sets[k]) - shared[k])]
        if not doubles and len(one & covered) <= inside * len(one):
            kept.append(i)
            own[i] = one - covered
    return kept


def instances_of(masks: list[np.ndarray]) -> list[Instance]:
    found = [cut_instance(m) for m in masks]
    return [a for a in found if a is not None]


def stay(masks: list[np.ndarray]) -> list[int]:
    """The numbers of those that stay."""
    found = instances_of(masks)
    kept = suppress(found, *masks[0].shape, overlap=0.4, inside=0.7)
    return [next(i for i, a in enumerate(found) if a is b) for b in kept]


def test_suppression_is_the_loop_over_better_ones() -> None:
    rng = np.random.default_rng(0)
    sizes = set()
    for _ in range(60):
        draws = rng.uniform(0, 24, (12, 3))
        masks = [m for y, x, r in draws if (m := disc(y, x, r / 2.5, 24)).any()]
        got = stay(masks)
        assert got == naive(masks, 0.4, 0.7)
        sizes.add(len(got))
    assert len(sizes) > 3


def test_suppression_of_nothing_doubles_and_strangers() -> None:
    assert suppress([], 9, 9, overlap=0.4, inside=0.7) == []
    one, other = disc(3, 3, 3, 12), disc(9, 9, 3, 12)
    assert stay([one, other, one]) == [0, 1]


def test_what_several_better_ones_cover_together_goes() -> None:
    """Half of it lies in the first, half in the second: of neither alone is it a double."""
    at = np.arange(30)[None].repeat(3, 0)
    first, second, across = at < 16, at >= 16, (at >= 11) & (at < 21)
    assert stay([first, across]) == [0, 1] and stay([second, across]) == [0, 1]
    assert stay([first, second, across]) == [0, 1]


def test_a_point_gets_what_the_places_around_it_propose_however_little_they_score() -> None:
    """The cell of each grid that holds the point, and those beside it; the surest comes first."""
    placed = [(0, 30, 30, 8, LOW, -3, 0), (0, 24, 24, 14, -2, 0, 1), (0, 30, 50, 6, 5, 5, 0)]
    embeddings = torch.zeros(1, 1, SIZE // 2, SIZE // 2)
    found = proposed_at(Discs(), embeddings, places_of(placed), 30.0, 30.0)
    assert (
        iou(found[0], disc(24, 24, 14)) > 0.9
        and [a.score for a in found] == sorted([a.score for a in found])[::-1]
    )
    assert max(iou(a, disc(30, 30, 8)) for a in found) > 0.9
    assert len(found) <= 9 + 9 and max(iou(a, disc(30, 50, 6)) for a in found) < 0.1
    assert (
        max(
            iou(a, disc(30, 50, 6))
            for a in proposed_at(Discs(), embeddings, places_of(placed), 30.0, 46.1)
        )
        > 0.8
    )


# Padding


def block(top: int, left: int, h: int, w: int) -> Instance:
    return Instance(np.full((h, w), 255, np.uint8), top, left, 0.5, category=3)


def test_of_a_padded_image_what_is_mostly_in_the_image_and_large_enough_stays() -> None:
    """An image of 64 x 70, seen as 64 x 96."""
    inner, edge, corner = block(3, 5, 9, 9), block(20, 60, 8, 19), block(54, 62, 19, 15)
    sliver, speck, beyond = block(40, 68, 9, 9), block(50, 66, 2, 8), block(5, 80, 9, 9)
    found = unpadded(
        [inner, edge, corner, sliver, speck, beyond], 64, 70, GenerateConfig(min_area=12)
    )
    assert [a.box_xywh for a in found] == [(5, 3, 9, 9), (60, 20, 10, 8), (62, 54, 8, 10)]
    assert all(a.category == 3 and a.area == a.box_xywh[2] * a.box_xywh[3] for a in found)
    (double,) = unpadded([block(20, 50, 8, 20), block(20, 62, 8, 19)], 64, 70, GenerateConfig())
    assert double.box_xywh == (50, 20, 20, 8)
    assert unpadded([inner, sliver, speck], 96, 96, GenerateConfig(min_area=99)) == [
        inner,
        sliver,
        speck,
    ]
