"""Grids of stride 32 and 64, for things that fill the image."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from discs import truth_of
from small import SMALL as SMALLEST

from genseg.alpha.codes import GRIDS, REACH
from genseg.alpha.decoder import AlphaDecoder, DecoderConfig
from genseg.alpha.objective import assign
from genseg.energies.head import EnergyHead, EnergyTask
from genseg.energies.strategies import SHAPINGS

SMALL = replace(SMALLEST, tower=16)
ALL = (*GRIDS, 32, 64)


def built(encoder: Any, grids: tuple[int, ...]) -> AlphaDecoder:
    torch.manual_seed(0)
    return AlphaDecoder(encoder, replace(SMALL, grids=grids)).eval()


def test_without_them_the_weights_are_as_ever(encoder: Any) -> None:
    torch.manual_seed(0)
    usual, more = AlphaDecoder(encoder, SMALL).state_dict(), built(encoder, ALL).state_dict()
    added = more.keys() - usual.keys()
    assert added == {f"levels.{n}.{part}" for n in (3, 4) for part in ("weight", "bias")}
    for key in usual:
        if key.startswith(("pixels", "embed", "levels")):  # what is drawn before them
            assert torch.equal(usual[key], more[key]), key


def test_they_are_made_of_the_last_level(encoder: Any) -> None:
    decoder, given = built(encoder, ALL), []
    decoder.levels[4].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    with torch.no_grad():
        pyramid = encoder.eval().pyramid(torch.randn(1, 3, 96, 160))  # 3 x 5 places of stride 32
        _, places = decoder(pyramid)
    assert places.grids[-2:] == ((32, 3, 5), (64, 2, 3))
    assert places.objectness.shape == (1, sum(r * c for _, r, c in places.grids))
    centres, scales = places.centres()
    assert centres[-6:].tolist() == [[y, x] for y in (32, 96) for x in (32, 96, 160)]
    assert scales[-1] == 64 * REACH
    last = pyramid[-1][0]
    for y in range(2):
        for x in range(3):  # what lies beyond the image counts for nothing
            near = last[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean((1, 2))
            torch.testing.assert_close(given[0][0, :, y, x], near)


def test_a_disc_is_for_the_grid_of_its_side(encoder: Any) -> None:
    """Sides of 160 and of 60 pixels, in an image of 256."""
    decoder = built(encoder, ALL)
    truth = truth_of([(0, 128.0, 120.0, 90.3), (1, 60.0, 64.0, 33.9)], images=2, size=256)
    with torch.no_grad():
        _, places = decoder(encoder.eval().pyramid(torch.zeros(2, 3, 256, 256)))
    found = assign(places, truth.visible.float() / 255, truth).layer
    strides = (places.centres()[1] / REACH).long()
    assert set(strides[found[0] == 0].tolist()) == {64}
    assert set(strides[found[1] == 1].tolist()) == {16}


def test_large_codes_are_looked_for_everywhere(encoder: Any) -> None:
    decoder = built(encoder, ALL)
    torch.manual_seed(1)
    with torch.no_grad():
        embeddings, places = decoder(encoder.eval().pyramid(torch.randn(1, 3, 128, 128)))
        place = torch.arange(places.objectness.shape[1])[-24:]  # of strides 16 and more
        codes = places.codes(torch.zeros_like(place), place)
        whole = decoder.decode(embeddings, codes)[:, 0].sigmoid()
        seen = set()
        for chosen, corner, alpha in decoder.decode_near(embeddings[0], codes):
            (top, left), (h, w) = corner[0].tolist(), alpha.shape[1:]
            near = whole[chosen[0], top : top + h, left : left + w]
            torch.testing.assert_close(alpha[0], near, atol=1e-4, rtol=1e-4)
            seen |= set(chosen.tolist())
    wanted = (whole > 0.5).flatten(1).any(1).nonzero()[:, 0].tolist()
    assert wanted and set(wanted) <= seen


@pytest.mark.parametrize("grids", [(4, 8), (4, 8, 16, 64), (8, 16, 32), ()])
def test_others_are_refused(grids: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="grids="):
        DecoderConfig(grids=grids)


def test_norms_of_one_channel_are_refused() -> None:
    """A grid of stride 64 may have a single place."""
    with pytest.raises(ValueError, match="tower=8: use 16"):
        DecoderConfig(tower=8, grids=ALL)


def test_an_energy_refuses_them(encoder: Any) -> None:
    task = EnergyTask(shape=SHAPINGS["autoencoder"].config())
    EnergyHead(task, built(encoder, GRIDS))
    with pytest.raises(ValueError, match=r"grids=\[4, 8, 16, 32\]: an energy"):
        EnergyHead(task, built(encoder, (*GRIDS, 32)))
