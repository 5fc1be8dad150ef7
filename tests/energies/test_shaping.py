"""What holds for every way to shape an energy."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from energies import KEYS, NOTHING, SIZE, SOME, embeddings, energy_of, examples, maps_of, shaping_of
from torch import Tensor

from genseg.alpha.decoder import DecoderConfig
from genseg.energies import push
from genseg.energies.autoencoder import AutoencoderConfig, MaskedAutoencoder, hidden_blocks
from genseg.energies.draws import Draws
from genseg.energies.maps import Maps, frame
from genseg.energies.model import EnergyFacts, built, load_energy, save_energy
from genseg.energies.slope import ScoreDenoising
from genseg.energies.strategies import LISTED, SHAPINGS

# those whose loss leaves the embeddings alone
DETACHED = tuple(
    name
    for name, strategy in SHAPINGS.items()
    if issubclass(strategy.trains, push.Push | push.Metric | ScoreDenoising) or name == "value"
)


def test_the_list_has_twenty_two_names_of_its_own() -> None:
    assert len(LISTED) == 22
    assert all(strategy.config().name == name for name, strategy in SHAPINGS.items())


@pytest.mark.parametrize("seen", [SOME, NOTHING], ids=["some", "none"])
@pytest.mark.parametrize("name", SHAPINGS)
def test_every_weight_has_a_finite_gradient(name: str, seen: tuple[list[int], list[int]]) -> None:
    """Also of a step without any map: processes wait for each other's."""
    shaping = shaping_of(name)
    terms = shaping(examples(*seen))
    torch.testing.assert_close(terms.pop("loss"), sum(terms.values()))
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()
    weights = {k: p for k, p in shaping.named_parameters() if p.requires_grad}
    assert weights and not [k for k, p in weights.items() if p.grad is None]
    assert all(bool(p.grad.isfinite().all()) for p in weights.values() if p.grad is not None)
    assert bool(loss.isfinite()) and (seen is SOME or float(loss.detach()) == 0)
    idle = [k for k, p in weights.items() if p.grad is not None and not p.grad.any()]
    # what is trained is trained; the energy of conditional terms does not know c
    assert seen is NOTHING or not [k for k in idle if k != "model.offset"]


@pytest.mark.parametrize("name", SHAPINGS)
def test_a_file_holds_an_energy(name: str, tmp_path: Path) -> None:
    """That of lista was written, and could not be read."""
    shape = SHAPINGS[name].config()
    sizes, decoder = AutoencoderConfig(cells=8, hidden=16), DecoderConfig(embedding=8, code=24)
    energy = built(shape, sizes, decoder)
    file = tmp_path / "energy.safetensors"
    save_energy(energy, file, EnergyFacts(shape, sizes, decoder, "digest"))
    loaded, facts = load_energy(file)
    assert facts.shape == shape
    torch.testing.assert_close(loaded.state_dict(), energy.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", SHAPINGS)
def test_an_energy_of_no_maps_has_no_numbers(name: str) -> None:
    with torch.no_grad():
        assert energy_of(name)(embeddings(), maps_of([])).shape == (0,)


@pytest.mark.parametrize("name", SHAPINGS)
def test_an_energy_does_not_know_the_order_of_maps_and_images(name: str) -> None:
    model, x, maps = energy_of(name), embeddings(), maps_of(SOME[0])
    model.observe(x)
    order = torch.tensor([2, 0, 1, 6, 4, 3, 5, 7, 9, 8])  # within images
    images = torch.tensor([2, 0, 3, 1])  # which image is where
    place = images.argsort()
    with torch.no_grad():
        energy = model(x, maps)
        assert energy.isfinite().all() and energy.shape == (10,)
        found = model(x, maps[order])
        torch.testing.assert_close(found, energy[order], atol=1e-4, rtol=1e-4)
        found = model(x[images], Maps(maps.alpha, place[maps.image]))
        torch.testing.assert_close(found, energy, atol=1e-4, rtol=1e-4)
        alone = model(x[1:2], Maps(maps.alpha[3:5], torch.zeros(2, dtype=torch.long)))
        torch.testing.assert_close(alone, energy[3:5], atol=1e-4, rtol=1e-4)


def still(alpha: Tensor, seed: int, where: Tensor | None = None) -> Tensor:
    """A direction in which maps keep area and centroid, and with them the window of the encoder,
    which has no gradient; only within `where`."""
    at = torch.arange(SIZE, dtype=torch.float64) + 0.5
    one = torch.ones(SIZE, SIZE, dtype=torch.float64)
    frames = torch.stack([one, one * at[:, None], one * at])
    if where is not None:
        frames = frames * where
    basis = torch.linalg.qr(frames.flatten(1).T)[0]
    v = torch.randn(alpha.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    flat = (v if where is None else v * where).flatten(1)
    return (flat - flat @ basis @ basis.T).view_as(v)


@pytest.mark.parametrize("name", SHAPINGS)
def test_the_slope_of_an_energy_is_that_of_finite_differences(name: str) -> None:
    model, x, maps = energy_of(name).double(), embeddings().double(), maps_of(SOME[0])
    alpha = maps.alpha.double()
    v = still(alpha, 3)
    near = 1e-6
    for moved, same in zip(frame(alpha + near * v), frame(alpha), strict=True):
        torch.testing.assert_close(moved, same, atol=1e-9, rtol=0)
    at = alpha.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(model(x, Maps(at, maps.image)).sum(), at)
    with torch.no_grad():
        up, down = (model(x, Maps(alpha + s * near * v, maps.image)) for s in (1, -1))
    wanted = (up - down) / (2 * near)
    found = (slope * v).sum((1, 2))
    torch.testing.assert_close(found, wanted, atol=1e-5 * float(wanted.abs().max()), rtol=1e-4)
    assert float(wanted.abs().min()) > 0


@pytest.mark.parametrize("name", ["metric", "value", "score_sliced"])
def test_the_bend_of_an_energy_is_that_of_finite_differences(name: str) -> None:
    model, x, maps = energy_of(name).double(), embeddings().double(), maps_of(SOME[0])
    alpha = maps.alpha.double()
    v = still(alpha, 3)

    def slope(alpha: Tensor, graph: bool = False) -> tuple[Tensor, Tensor]:
        """Along v, of each map."""
        at = alpha.clone().requires_grad_(True)
        (found,) = torch.autograd.grad(model(x, Maps(at, maps.image)).sum(), at, create_graph=graph)
        return (found * v).sum((1, 2)), at

    first, at = slope(alpha, True)
    (second,) = torch.autograd.grad(first.sum(), at)
    near = 1e-6
    wanted = (slope(alpha + near * v)[0] - slope(alpha - near * v)[0]) / (2 * near)
    found = (second * v).sum((1, 2))
    torch.testing.assert_close(found, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=1e-3)
    assert float(wanted.abs().min()) > 0


@pytest.mark.parametrize("name", SHAPINGS)
def test_push_leaves_the_embeddings_alone_and_pull_does_not(name: str) -> None:
    """What judges must not bend what it judges; what draws may ask for embeddings that it can draw
    from."""
    seen = examples(*SOME)
    pixels = seen.embeddings.requires_grad_(True)
    shaping_of(name)(replace(seen, embeddings=pixels))["loss"].backward()
    if name in DETACHED:
        assert pixels.grad is None or not pixels.grad.any()
    else:
        assert pixels.grad is not None
        assert bool(pixels.grad.flatten(1).any(1).all()) and bool(pixels.grad.isfinite().all())


def test_what_is_hidden_of_a_map_is_not_seen() -> None:
    """The half that is asked for, of the map and of the image under it, does not reach the
    encoder; the other half does."""
    model = energy_of("masked")
    assert isinstance(model, MaskedAutoencoder)
    x, maps = embeddings(1), maps_of([0])
    hidden = hidden_blocks(maps, torch.rand(1, 256, generator=torch.Generator().manual_seed(0)))
    assert 0.3 < float(hidden.float().mean()) < 0.7
    seen: list[Tensor] = []
    model.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        distance = model.of_hidden(x, maps, hidden)
        for where, same in ((hidden, True), (~hidden, False)):
            image = torch.where(where[:, None], x + 1, x)
            model.of_hidden(image, maps, hidden)
            assert torch.allclose(seen[-1], seen[0]) is same
            other = maps.alpha + still(maps.alpha, 0, where[0]).float()
            changed = model.of_hidden(x, Maps(other, maps.image), hidden)
            assert torch.allclose(seen[-1], seen[0], atol=1e-4) is same
            assert not torch.allclose(changed, distance, atol=1e-4)


@pytest.mark.parametrize("conditional", [False, True])
def test_noise_contrastive_estimation_has_both_forms(conditional: bool) -> None:
    shaping = shaping_of("noise_contrastive", conditional=conditional)
    shaping(examples(*SOME))["loss"].backward()
    slope = shaping.model.offset.grad
    assert slope is not None and bool(slope.any()) is not conditional


def test_a_sparse_code_is_multiplied_by_rows_of_length_one() -> None:
    shaping = shaping_of("sparse")
    weight = shaping.model.decoder.kernel.weight
    torch.testing.assert_close(weight.norm(dim=0), torch.ones(weight.shape[1]))


def test_chains_go_on_from_step_to_step() -> None:
    shaping = shaping_of("maximum_likelihood", anew=0.0)
    assert isinstance(shaping, push.Likelihood)
    seen = examples(*SOME)
    shaping(seen)
    chains, begun = shaping.chains.clone(), shaping.begun.clone()
    assert 1 <= int(begun.sum()) <= len(seen.maps)
    assert chains.any(1).equal(begun.bool())
    shaping(replace(seen, draws=Draws(0, 3, KEYS)))  # draws the same ones again
    assert begun.equal(shaping.begun)
    moved = (shaping.chains - chains).abs().sum(1)
    assert bool((moved[begun.bool()] > 0).all()) and not moved[~begun.bool()].any()
