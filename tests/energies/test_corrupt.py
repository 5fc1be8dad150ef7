"""Corrupted maps: how far they are from the true one, and what each way does."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from genseg.energies.corrupt import (
    CORRUPTIONS,
    FIXED,
    KINDS,
    TRAINED,
    WAVES,
    Drawn,
    Kind,
    corrupted,
    dilate,
    drawn_from,
    erode,
    flipped,
    geometry_of,
    signed_distance,
)
from genseg.energies.draws import Draws
from genseg.energies.maps import Maps, soft_overlap

SIDE = 64


def ellipse(y: float, x: float, long: float, short: float, turned: float = 0.0) -> Tensor:
    """One pixel soft, where it is a disc."""
    at = torch.arange(SIDE) + 0.5
    dy, dx = at[:, None] - y, at[None] - x
    along = dx * math.cos(turned) + dy * math.sin(turned)
    across = dy * math.cos(turned) - dx * math.sin(turned)
    return drawn_from(((along / long) ** 2 + (across / short) ** 2).sqrt()[None] * short - short)[0]


def discs(n: int = 24) -> Maps:
    """Of many sizes, well within their images; two in each."""
    g = torch.Generator().manual_seed(0)
    radius = 5 + 6 * torch.rand(n, generator=g)
    centre = 22 + 20 * torch.rand(n, 2, generator=g)
    y, x = centre.unbind(1)
    each = zip(y.tolist(), x.tolist(), radius.tolist(), strict=True)
    alpha = [ellipse(y, x, r, r) for y, x, r in each]
    return Maps(torch.stack(alpha), torch.arange(n) // 2)


def draws(maps: Maps, step: int = 0) -> Draws:
    return Draws(0, step, list(range(int(maps.image.max()) + 1) if len(maps) else [0]))


def drawn(maps: Maps) -> Drawn:
    """What a corruption draws for each map."""
    d = draws(maps)
    return Drawn(
        2 * math.pi * d.uniform(maps.image),
        d.normal(maps.image, WAVES, WAVES),
        d.uniform(maps.image, 2),
    )


def of_kind(maps: Maps, kind: Kind, wanted: float, step: int = 0) -> Tensor:
    kinds = torch.full((len(maps),), KINDS.index(kind))
    return corrupted(geometry_of(maps), kinds, torch.full((len(maps),), wanted), draws(maps, step))


@pytest.mark.parametrize("wanted", [0.3, 0.55, 0.85])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in FIXED])
def test_a_corruption_leaves_the_overlap_that_is_wanted(kind: Kind, wanted: float) -> None:
    maps = discs()
    found = of_kind(maps, kind, wanted)
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    off = (soft_overlap(found, maps.alpha) - wanted).abs()
    # few waves are too weak at the border for a low one
    share = 0.85 if kind == "noise" and wanted == 0.3 else 1.0
    assert float((off < 0.05).float().mean()) >= share


@pytest.mark.parametrize("kind", KINDS)
def test_a_corruption_is_a_map_and_changes_the_true_one(kind: Kind) -> None:
    maps = discs()
    found = of_kind(maps, kind, 0.6)
    assert found.shape == maps.alpha.shape and found.dtype == torch.float32
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    assert float(soft_overlap(found, maps.alpha).max()) < 0.9


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in FIXED])
def test_a_corruption_of_no_strength_changes_nothing(kind: Kind) -> None:
    """Of hard maps; soft ones may be drawn anew, half a pixel at the border."""
    soft = discs()
    hard = Maps((soft.alpha >= 0.5).float(), soft.image)
    same, near = (
        CORRUPTIONS[kind](geometry_of(maps), torch.zeros(len(maps)), drawn(maps))
        for maps in (hard, soft)
    )
    torch.testing.assert_close(same, hard.alpha, atol=1e-5, rtol=0)
    assert float(soft_overlap(near, soft.alpha).min()) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_empty_stays_empty(kind: Kind) -> None:
    nothing = Maps(torch.zeros(2, SIDE, SIDE), torch.tensor([0, 1]))
    assert not of_kind(nothing, kind, 0.5).any()
    none = Maps(torch.zeros(0, SIDE, SIDE), torch.zeros(0, dtype=torch.long))
    assert of_kind(none, kind, 0.5).shape == (0, SIDE, SIDE)
    assert CORRUPTIONS[kind](geometry_of(none), torch.zeros(0), drawn(none)).shape == (
        0,
        SIDE,
        SIDE,
    )


def test_a_map_is_corrupted_alike_whatever_else_is_in_the_batch() -> None:
    maps = discs()
    kinds = torch.arange(len(maps)) % len(TRAINED)
    wanted = torch.linspace(0.3, 0.8, len(maps))
    keys = list(range(len(maps) // 2))
    whole = corrupted(geometry_of(maps), kinds, wanted, Draws(0, 3, keys), among=TRAINED)
    for image in (0, 5):
        mine = maps.image == image
        part = Maps(maps.alpha[mine], torch.zeros(int(mine.sum()), dtype=torch.long))
        alone = corrupted(
            geometry_of(part), kinds[mine], wanted[mine], Draws(0, 3, [image]), among=TRAINED
        )
        torch.testing.assert_close(alone, whole[mine], atol=1e-5, rtol=0)


def test_a_union_covers_both() -> None:
    near = [
        ellipse(20, 20, 6, 6),
        ellipse(20, 34, 5, 5),
        ellipse(50, 50, 7, 7),
        ellipse(30, 30, 8, 8),
    ]
    maps = Maps(torch.stack(near), torch.tensor([0, 0, 0, 1]))
    found = of_kind(maps, "union", 0.5)
    torch.testing.assert_close(found[0], torch.maximum(near[0], near[1]))
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], torch.maximum(near[2], near[1]))
    # alone in its image: with itself, moved by a side
    assert (found[3] >= near[3]).all()
    assert 1.7 < float(found[3].sum() / near[3].sum()) < 2


def test_a_split_gives_one_of_the_halves_across_the_long_axis() -> None:
    turned = 0.6
    alpha = ellipse(32, 30, 15, 6, turned)
    maps = Maps(alpha[None], torch.zeros(1, dtype=torch.long))
    geometry = geometry_of(maps)
    given = drawn(maps)
    halves = [
        CORRUPTIONS["split"](geometry, torch.ones(1), replace(given, angle=torch.tensor([a])))[0]
        for a in (1.0, 4.0)
    ]
    torch.testing.assert_close(halves[0] + halves[1], alpha)
    for half, sign in zip(halves, (-1, 1), strict=True):
        assert float(half.sum() / alpha.sum()) == pytest.approx(0.5, abs=0.02)
        away = geometry_of(Maps(half[None], maps.image)).centre - geometry.centre
        axis = torch.tensor([[math.sin(turned), math.cos(turned)]])
        # of half an ellipse 4 / (3 pi) of the long half axis
        torch.testing.assert_close(away, sign * 15 * 4 / (3 * math.pi) * axis, atol=0.3, rtol=0)


def test_a_dilated_disc_is_a_larger_disc_and_an_eroded_one_a_smaller() -> None:
    maps = Maps(ellipse(32, 32, 10, 10)[None], torch.zeros(1, dtype=torch.long))
    geometry = geometry_of(maps)
    by = 3 / geometry.side
    for corrupt, radius, strength in ((dilate, 13.0, by), (erode, 7.0, by / 0.6)):
        found = corrupt(geometry, strength, drawn(maps))
        assert float(soft_overlap(found, ellipse(32, 32, radius, radius)[None])) > 0.97


def test_what_is_elsewhere_is_the_same_shape() -> None:
    maps = discs()
    given = replace(drawn(maps), at=torch.full((len(maps), 2), 0.5))
    geometry = geometry_of(maps)
    found = geometry_of(
        Maps(CORRUPTIONS["elsewhere"](geometry, torch.ones(len(maps)), given), maps.image)
    )
    torch.testing.assert_close(
        found.centre, torch.full((len(maps), 2), SIDE / 2), atol=0.05, rtol=0
    )
    torch.testing.assert_close(found.side, geometry.side, rtol=1e-3, atol=0)


def test_the_signed_distance_is_that_of_scipy() -> None:
    g = torch.Generator().manual_seed(0)
    alpha = torch.cat([discs(4).alpha, (torch.rand(2, SIDE, SIDE, generator=g) > 0.9).float()])
    for found, mask in zip(signed_distance(alpha).numpy(), (alpha >= 0.5).numpy(), strict=True):
        wanted = np.where(
            mask, 0.5 - distance_transform_edt(mask), distance_transform_edt(~mask) - 0.5
        )
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    far = signed_distance(torch.stack([torch.zeros(8, 8), torch.ones(8, 8)]))
    assert (far[0] == 16).all() and (far[1] == -16).all()


def test_a_map_is_drawn_from_its_distances() -> None:
    mask = (discs(4).alpha >= 0.5).float()
    torch.testing.assert_close(drawn_from(signed_distance(mask)), mask)


def test_flips_turn_a_square_inside_out_and_twice_nothing() -> None:
    """With the same square, that is: the same draws around the same border."""
    maps = discs()
    geometry = geometry_of(maps)
    once = flipped(geometry, draws(maps, 1))
    changed = (once - maps.alpha).abs() > 1e-6
    for alpha, new, where in zip(maps.alpha, once, changed, strict=True):
        rows, columns = where.any(1).nonzero()[:, 0], where.any(0).nonzero()[:, 0]
        square = (
            slice(int(rows[0]), int(rows[-1]) + 1),
            slice(int(columns[0]), int(columns[-1]) + 1),
        )
        torch.testing.assert_close(new[square], 1 - alpha[square])
    sides = changed.any(2).sum(1) / geometry.side
    assert float(sides.max()) < 0.5 and float(changed.flatten(1).sum(1).min()) > 0
    again = replace(geometry, maps=Maps(once, maps.image))
    torch.testing.assert_close(flipped(again, draws(maps, 1)), maps.alpha)
    assert flipped(geometry_of(maps[torch.zeros(0, dtype=torch.long)]), draws(maps)).shape[0] == 0


def test_flips_are_at_the_border_more_often() -> None:
    one = discs(2)[torch.zeros(1, dtype=torch.long)]
    maps = Maps(one.alpha.expand(400, -1, -1), torch.zeros(400, dtype=torch.long))
    geometry = geometry_of(maps)
    found = (flipped(geometry, Draws(0, 0, [0])) - maps.alpha).abs()
    at = geometry_of(Maps((found > 0).float(), maps.image)).centre.long()
    away = geometry.signed[torch.arange(400), at[:, 0], at[:, 1]].abs()
    assert float((away < 3).float().mean()) > 0.8
