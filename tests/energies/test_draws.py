"""Random numbers of an image do not depend on what else is in its batch."""

import pytest
import torch
from torch import Tensor

from genseg.energies.draws import Draws

IMAGES = torch.tensor([0, 0, 1, 3, 3, 3])


def drawn(keys: list[int], image: Tensor, step: int = 7, seed: int = 0) -> list[Tensor]:
    """One after the other, as a step draws them."""
    draws = Draws(seed, step, keys)
    return [
        draws.normal(image, 3),
        draws.uniform(image),
        draws.below(5, image, 2),
        draws.normal(image, 2, 2),
    ]


def test_an_image_has_the_same_numbers_alone_and_in_any_batch() -> None:
    keys = [10, 11, 12, 13]
    together = drawn(keys, IMAGES)
    for place, key in enumerate(keys):
        alone = drawn([key], torch.zeros(int(IMAGES.eq(place).sum()), dtype=torch.long))
        for whole, part in zip(together, alone, strict=True):
            assert whole[IMAGES.eq(place)].equal(part)
    swapped = drawn([13, 10], torch.tensor([0, 0, 0, 1, 1]))
    for whole, part in zip(together, swapped, strict=True):
        assert torch.cat([whole[3:], whole[:2]]).equal(part)


@pytest.mark.parametrize("change", [{"step": 8}, {"seed": 1}])
def test_another_step_and_another_seed_have_others(change: dict[str, int]) -> None:
    first, other = (drawn([10, 11, 12, 13], IMAGES, **c) for c in ({}, change))
    assert not any(a.equal(b) for a, b in zip(first, other, strict=True))


def test_images_and_draws_have_others() -> None:
    draws = Draws(0, 0, [1, 2])
    both = torch.tensor([0, 1])
    first, second = draws.normal(both, 8), draws.normal(both, 8)
    assert len({tuple(row.tolist()) for row in torch.cat([first, second])}) == 4


def test_numbers_are_spread_as_they_say() -> None:
    draws, image = Draws(0, 0, [1]), torch.zeros(20000, dtype=torch.long)
    normal, uniform, below = draws.normal(image), draws.uniform(image), draws.below(4, image)
    assert abs(float(normal.mean())) < 0.03 and abs(float(normal.std()) - 1) < 0.03
    assert float(uniform.min()) >= 0 and float(uniform.max()) < 1
    assert abs(float(uniform.mean()) - 0.5) < 0.02
    counts = torch.bincount(below, minlength=4)
    assert len(counts) == 4 and float((counts / 20000 - 0.25).abs().max()) < 0.02


def test_images_without_a_map_draw_nothing() -> None:
    draws = Draws(0, 0, [1, 2])
    none = torch.zeros(0, dtype=torch.long)
    assert draws.normal(none, 3).shape == (0, 3)
    assert draws.below(5, none, 2).shape == (0, 2)
