"""Small energies of all strategies, and what a step of them sees."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genseg.alpha.codes import CodeDecoder
from genseg.energies.autoencoder import Autoencoder, AutoencoderConfig
from genseg.energies.corrupt import drawn_from
from genseg.energies.draws import Draws
from genseg.energies.fitted import Fitted
from genseg.energies.maps import Maps
from genseg.energies.shaping import Examples, Judged, Shaping
from genseg.energies.strategies import SHAPINGS, build_energy, build_shaping

EMBEDDING, CODE, SIZE = 8, 8, 24
SMALL = AutoencoderConfig(cells=8, hidden=16)
KEYS = [5, 6, 7, 8]  # of the images


def shaping_of(name: str, **keys: Any) -> Shaping:
    """A strategy with its defaults, but for some keys; always the same weights. Fitted priors are
    fitted to noise."""
    torch.manual_seed(0)
    decoder = CodeDecoder()
    decoder.make_kernel(code=CODE, embedding=EMBEDDING, hidden=4)
    small: dict[str, Any] = {
        "components": 2,
        "chains": 64,
        "atoms": 12,
        "centres": 6,
        "rounds": 2,
        "leapfrogs": 3,
    }
    config = SHAPINGS[name].config()
    config = replace(config, **{k: v for k, v in small.items() if hasattr(config, k)}, **keys)
    model = build_energy(config, decoder, SMALL, embedding=EMBEDDING, code=CODE)
    shaping = build_shaping(config, model)
    if isinstance(model.prior, Fitted):
        model.prior.fit(torch.randn(40, CODE).pow(3))
    return shaping


def energy_of(name: str, **keys: Any) -> Autoencoder:
    return shaping_of(name, **keys).model


def embeddings(images: int = 4) -> Tensor:
    return torch.randn(images, EMBEDDING, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def maps_of(image: list[int]) -> Maps:
    """Soft discs; their images."""
    g = torch.Generator().manual_seed(2)
    n = len(image)
    at = torch.arange(SIZE) + 0.5
    y, x = (6 + 12 * torch.rand(n, generator=g) for _ in range(2))
    radius = 2.5 + 4 * torch.rand(n, generator=g)
    squared = (at[:, None] - y[:, None, None]) ** 2 + (at - x[:, None, None]) ** 2
    alpha = drawn_from(squared.sqrt() - radius[:, None, None])
    return Maps(alpha, torch.tensor(image, dtype=torch.long))


def examples(image: list[int], own: list[int]) -> Examples:
    """Of four images.

    image: that of each true map
    own: which of these each of the decoder's instances is nearest to
    """
    maps, nearest = maps_of(image), torch.tensor(own, dtype=torch.long)
    found = maps[nearest]
    smaller = Maps((found.alpha - 0.2).relu(), found.image)
    overlap = torch.linspace(0.9, 0.1, len(own))
    judged = Judged(smaller, overlap, nearest)
    return Examples(embeddings(), maps, judged, Draws(0, 3, KEYS), 0.5)


SOME = ([0, 0, 0, 1, 1, 1, 1, 2, 3, 3], [0, 3, 8])
NOTHING: tuple[list[int], list[int]] = ([], [])


def of_images(whole: Examples, first: int, last: int) -> Examples:
    """The part of a step that a process with these images sees."""
    mine = (whole.maps.image >= first) & (whole.maps.image < last)
    ours = (whole.own.maps.image >= first) & (whole.own.maps.image < last)
    number = mine.long().cumsum(0) - 1  # of each true map, among those of the process

    def moved(maps: Maps, chosen: Tensor) -> Maps:
        return Maps(maps.alpha[chosen], maps.image[chosen] - first)

    own = Judged(
        moved(whole.own.maps, ours), whole.own.overlap[ours], number[whole.own.nearest[ours]]
    )
    draws = Draws(0, 3, KEYS[first:last])
    return Examples(
        whole.embeddings[first:last], moved(whole.maps, mine), own, draws, whole.progress
    )
