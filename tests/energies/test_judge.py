"""What an energy is worth: a vector that is moved, against a loop over maps."""

import math

import pytest
import torch
from energies import embeddings, energy_of, maps_of
from torch import Tensor

from genseg.alpha.codes import STRIDE, Codes
from genseg.energies.judge import Scene, judge
from genseg.energies.maps import frame, soft_overlap

SHIFT = (2, 3)  # rows and columns between the first image's maps and the second one's


def pair(alpha: Tensor, *, sources: list[int]) -> tuple[Scene, Scene]:
    """Two images: maps, and the same ones moved in another order; which cut-outs the latter are of
    where the former are of 10, 11, 12."""
    pixels = embeddings(2)
    before = Scene(pixels[0], alpha, torch.tensor([10, 11, 12]))
    return before, Scene(pixels[1], alpha[[2, 0, 1]].roll(SHIFT, (1, 2)), torch.tensor(sources))


@torch.no_grad()
def test_the_vector_of_a_cut_out_draws_it_at_its_place_in_another_image() -> None:
    energy = energy_of("denoising")
    alpha = maps_of([0, 0, 0]).alpha
    first, second = pair(alpha, sources=[12, 10, 7])  # the last one is another cut-out
    wanted = []
    for ours, theirs in ((2, 0), (0, 1)):
        one = Scene(first.embeddings, first.alpha[ours : ours + 1])
        vector = energy.encode(one.embeddings[None], one.maps).codes.vector
        place, scale = frame(second.alpha[theirs : theirs + 1])
        codes = Codes(vector, place, scale, torch.zeros(1, dtype=torch.long))
        drawn = energy.decode(second.embeddings[None], codes).sigmoid()
        wanted.append(float(soft_overlap(drawn, second.alpha[theirs : theirs + 1])))
    found = judge(energy, [first], pairs=[first, second]).moved
    assert found == pytest.approx(sum(wanted) / 2, abs=1e-5)
    # where it lies counts by whole pixels of the maps
    moved = frame(second.alpha[:1])[0] - frame(alpha[2:])[0]
    torch.testing.assert_close(moved, STRIDE * torch.tensor([SHIFT], dtype=torch.float32))


def test_a_cut_out_that_is_covered_or_mirrored_there_does_not_count() -> None:
    energy = energy_of("denoising")
    whole = maps_of([0, 0, 0]).alpha
    rows, columns = (torch.arange(24) * STRIDE < at[:, None] for at in frame(whole)[0].unbind(1))
    bent = whole * (rows[:, :, None] != columns[:, None])  # differs once it is mirrored
    first, second = pair(bent, sources=[12, 10, 11])
    assert judge(energy, [first], pairs=[first, second]).moved > 0
    flipped = Scene(second.embeddings, second.alpha.flip(2), second.source)
    covered = Scene(second.embeddings, second.alpha * (torch.arange(24) % 2), second.source)
    for other in (flipped, covered):
        assert math.isnan(judge(energy, [first], pairs=[first, other]).moved)


def test_what_draws_nothing_is_not_moved() -> None:
    first, second = pair(maps_of([0, 0, 0]).alpha, sources=[12, 10, 11])
    assert math.isnan(judge(energy_of("value"), [first], pairs=[first, second]).moved)
