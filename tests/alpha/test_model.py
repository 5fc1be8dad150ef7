"""Whole images: saved and loaded, of any size, in tiles, shrunk, and with statistics of their
own."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import no_file_above
from safetensors.torch import save_file
from small import SMALL
from torch import Tensor, nn

from genseg.alpha.calibration import Calibration
from genseg.alpha.codes import Codes
from genseg.alpha.decoder import AlphaDecoder, Places
from genseg.alpha.generate import GenerateConfig
from genseg.alpha.model import AlphaModel, Look, load_alpha, save_alpha, snapshot
from genseg.data.instances.instance import Instance
from genseg.nn.encoder import Encoder, EncoderConfig, build_encoder
from genseg.nn.encoder_file import EncoderFacts, save_encoder
from genseg.nn.norms import with_norms
from genseg.nn.weights import WeightsError

PLAIN = Look(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), side=0, stretch=False)
ALL = GenerateConfig(candidate=0.0, score=0.0)


def textured(h: int, w: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def build(look: Look = PLAIN) -> AlphaModel:
    """Random weights."""
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig())[0]
    return AlphaModel(encoder, AlphaDecoder(encoder, SMALL), look, ALL)


@pytest.fixture(scope="module")
def model() -> AlphaModel:
    return build()


# A toy that sees a disc where an image has a dot: red says the radius, green the certainty


class Dots(Encoder):
    """The image itself."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.zeros(1))

    def pyramid(self, x: Tensor) -> list[Tensor]:
        return [x]


class Discs(AlphaDecoder):
    """A place at each pixel, of which nothing depends on the rest of the image."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, pyramid: list[Tensor]) -> tuple[Tensor, Places]:
        red, green = pyramid[0][:, 0], pyramid[0][:, 1]
        objectness = torch.where(red > 0, green * 10, -20.0).flatten(1)
        vector = torch.stack([red * 255, torch.ones_like(red)], -1).flatten(1, 2)
        places = Places(
            objectness, torch.full_like(objectness, 9.0), vector, ((1, *red.shape[1:]),)
        )
        return pyramid[0][:, :1, ::2, ::2], places

    def decode_near(self, pixels: Tensor, codes: Codes) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        n = len(codes.vector)
        dy, dx = (
            (torch.arange(s) + 0.5) * 2 - codes.place[:, i, None]
            for i, s in enumerate(pixels.shape[1:])
        )
        distance = (dy[:, :, None] ** 2 + dx[:, None] ** 2).sqrt()
        alpha = (codes.vector[:, 0, None, None] - distance).sigmoid()
        yield torch.arange(n), torch.zeros(n, 2, dtype=torch.long), alpha


def dots(h: int, w: int, placed: list[tuple[int, int, int]]) -> np.ndarray:
    """(y, x, radius); each a little less certain than the one before."""
    image = np.zeros((h, w, 3), np.uint8)
    for n, (y, x, radius) in enumerate(placed):
        image[y, x] = radius, 60 - n, 0
    return image


def toy(tile: int, **look: object) -> AlphaModel:
    return AlphaModel(Dots(), Discs(), replace(PLAIN, **look), GenerateConfig(tile=tile))


def same(one: list[Instance], two: list[Instance]) -> bool:
    return len(one) == len(two) and all(
        (a.top, a.left, a.score) == (b.top, b.left, b.score) and np.array_equal(a.alpha, b.alpha)
        for a, b in zip(one, two, strict=True)
    )


def disc(h: int, w: int, y: float, x: float, radius: float) -> np.ndarray:
    return (np.arange(h)[:, None] + 0.5 - y) ** 2 + (np.arange(w) + 0.5 - x) ** 2 < radius**2


def iou(instance: Instance, truth: np.ndarray) -> float:
    mask = instance.paint(*truth.shape) > 127
    return float((mask & truth).sum() / (mask | truth).sum())


def test_a_saved_model_finds_the_same(model: AlphaModel, tmp_path: Path) -> None:
    look = Look(mean=(0.1, 0.2, 0.3), std=(0.3, 0.2, 0.1), side=96, stretch=True)
    doubles = replace(ALL, overlap=1.0, inside=1.0)  # untrained, it finds little else
    model = AlphaModel(model.encoder, model.decoder, look, doubles)
    model.calibration = Calibration(2.0, 0.3)
    facts = EncoderConfig(weights="somewhere")
    file = tmp_path / "alpha.safetensors"
    save_alpha(model, file, facts, images_seen=5)
    again, found = load_alpha(file)
    assert (
        found.images_seen == 5
        and found.encoder.weights is None
        and again.look == look
        and again.config == doubles
    )
    assert again.calibration == model.calibration
    assert again.decoder.config == SMALL and not again.training
    image = textured(100, 130)
    want = model.instances(image)
    assert len(want) > 3 and same(again.instances(image), want)
    save_alpha(again, tmp_path / "again.safetensors", facts, images_seen=5)
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["again.safetensors", "alpha.safetensors"]


def test_a_full_disk_leaves_no_half_model(model: AlphaModel, tmp_path: Path) -> None:
    file = tmp_path / "alpha.safetensors"
    with (
        no_file_above(100_000),
        pytest.raises(WeightsError, match="alpha.safetensors cannot be written: File too large"),
    ):
        save_alpha(model, file, EncoderConfig())
    assert not list(tmp_path.iterdir())


def test_another_file_is_named_as_such(model: AlphaModel, tmp_path: Path) -> None:
    save_encoder(
        model.encoder,
        tmp_path / "encoder.safetensors",
        EncoderFacts(EncoderConfig(), "moco", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 64),
    )
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name in ("encoder", "other"):
        with pytest.raises(
            ValueError, match=f"{name}.safetensors holds no alpha decoder that genseg has written"
        ):
            load_alpha(tmp_path / f"{name}.safetensors")
    with pytest.raises(ValueError, match="text.safetensors is not a safetensors file"):
        load_alpha(tmp_path / "text.safetensors")


@pytest.mark.parametrize(("h", "w"), [(33, 70), (5, 41), (64, 95), (1, 1)])
def test_images_of_any_size_keep_it(model: AlphaModel, h: int, w: int) -> None:
    found = model.instances(textured(h, w))
    # nothing is large enough in these; that they are looked at is enough
    assert found or min(h, w) < 10
    for a in found:
        # a window beyond the image would not fit
        assert a.alpha.size and a.paint(h, w).shape == (h, w)
        assert (
            a.top >= 0
            and a.left >= 0
            and a.top + a.alpha.shape[0] <= h
            and a.left + a.alpha.shape[1] <= w
        )


def test_an_image_is_mirrored_to_the_next_multiple_of_32(model: AlphaModel) -> None:
    x = model.tensor([textured(40, 64)])
    assert x.shape == (1, 3, 64, 64)
    torch.testing.assert_close(x[:, :, 40:], x[:, :, 15:39].flip(2))
    torch.testing.assert_close(
        x[0, :, 3, 5] * 255, torch.from_numpy(textured(40, 64)[3, 5]).float()
    )
    assert model.tensor([textured(64, 32)]).shape == (1, 3, 64, 32)


@pytest.mark.parametrize(("h", "w"), [(64, 70), (70, 64), (64, 91), (40, 70), (70, 70)])
@pytest.mark.parametrize("away", [6, 9])
def test_what_is_mirrored_at_an_edge_is_not_found_again(h: int, w: int, away: int) -> None:
    """A dot near the edge has a mirror image beyond it, which is seen as well. Nearer ones are
    doubles of their mirror
    image: of those the better score decides."""
    for y, x in {(h - 1 - away, w // 2), (h // 2, w - 1 - away), (h - 1 - away, w - 1 - away)}:
        (one,) = toy(512).instances(dots(h, w, [(y, x, 10)]))
        assert iou(one, disc(h, w, y + 0.5, x + 0.5, 10)) > 0.9


PLACED = [
    (20, 20, 9),
    (60, 101, 12),
    (90, 30, 7),
    (97, 100, 14),
    (130, 160, 10),
    (30, 170, 13),
    (180, 250, 12),
    (96, 200, 11),
    (150, 96, 6),
    (200, 20, 12),
    (210, 191, 12),
    (30, 290, 8),
]


def test_tiles_give_what_one_tile_gives() -> None:
    """For a model that looks at nothing but the place itself: discs smaller than the tiles' overlap
    of 32."""
    image = dots(224, 320, PLACED)
    whole, tiled = (toy(tile).instances(image) for tile in (512, 128))
    assert len(whole) == len(tiled) == len(PLACED)
    for y, x, radius in PLACED:
        assert max(iou(a, disc(224, 320, y + 0.5, x + 0.5, radius)) for a in whole) > 0.93
    for a, b in zip(whole, tiled, strict=True):
        one, two = (i.paint(224, 320).astype(int) for i in (a, b))
        np.testing.assert_array_equal(one > 127, two > 127)
        # a tile may cut faint rims
        assert np.abs(one - two).max() < 32 and a.score == pytest.approx(b.score, abs=1e-4)


def test_a_disc_larger_than_the_overlap_is_still_one() -> None:
    image = dots(224, 320, [(112, 112, 40)])
    (whole,), (tiled,) = (toy(tile).instances(image) for tile in (512, 128))
    assert iou(tiled, whole.paint(224, 320) > 127) > 0.9


@pytest.mark.parametrize("factor", [2, 3])
def test_shrunk_images_give_instances_in_their_own_pixels(factor: int) -> None:
    """A dot of the shrunk image is a square of the large one."""
    small = dots(96, 128, [(20, 20, 9), (60, 101, 12), (70, 40, 15)])
    large = small.repeat(factor, 0).repeat(factor, 1)
    model = toy(512, side=96)
    found = model.instances(large)
    assert len(found) == 3
    for a, b in zip(found, model.instances(small), strict=True):
        assert iou(a, (b.paint(96, 128) > 127).repeat(factor, 0).repeat(factor, 1)) > 0.93
        np.testing.assert_allclose(a.box_xywh, factor * np.array(b.box_xywh), atol=factor)
        assert a.score == pytest.approx(b.score, abs=1e-3)


@pytest.mark.parametrize(("least", "count"), [(60, 1), (160, 0)])
def test_the_least_area_counts_pixels_of_the_image_not_of_the_shrunk_one(
    least: int, count: int
) -> None:
    """A disc of 28 pixels, of 113 in the image."""
    model = toy(512, side=96)
    model.config = replace(model.config, min_area=least)
    assert len(model.instances(dots(96, 128, [(40, 40, 3)]).repeat(2, 0).repeat(2, 1))) == count


def test_the_least_area_is_that_of_the_whole_not_of_its_pieces() -> None:
    """A disc of 452 pixels, of which two tiles see 394 and 412."""
    model = toy(64)
    model.config = replace(model.config, min_area=430)
    (one,) = model.instances(dots(64, 112, [(30, 56, 12)]))
    assert iou(one, disc(64, 112, 30.5, 56.5, 12)) > 0.9


def test_an_image_without_instances_has_none() -> None:
    assert toy(64).instances(np.zeros((150, 150, 3), np.uint8)) == []


def test_values_are_spread_before_they_are_looked_at() -> None:
    image = textured(64, 64) // 4 + 60
    seen: list[np.ndarray] = []
    model = toy(512, stretch=True)
    model._tile = lambda pixels: seen.append(pixels) or []
    model.instances(image)
    assert seen[0].min() == 0 and seen[0].max() == 255


def test_a_calibrated_model_finds_by_probability() -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    for n, certainty in enumerate((255, 140, 60, 10)):
        image[16 + 32 * (n % 2), 16 + 24 * n, :2] = 5, certainty
    model, calibration = toy(512), Calibration(3.0, -1.0)
    plain = model.instances(image)
    assert len({a.score for a in plain}) == 4
    model.calibration = calibration
    want = [calibration.probability(a.score) for a in plain]
    assert [a.score for a in model.instances(image)] == pytest.approx(want)
    middle = model.instance_at(image, 16, 16)
    assert middle is not None and middle.score in want
    model.config = replace(model.config, score=want[1] - 1e-4)
    assert [a.score for a in model.instances(image)] == pytest.approx(want[:2])
    model.config = replace(model.config, score=want[1] + 1e-4)
    assert len(model.instances(image)) == 1


# Batch norms for generation


def norms_of(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def test_norms_take_the_plain_average_over_its_batches() -> None:
    model = build()
    twin = copy.deepcopy(model)
    images = [textured(64, 64, i) // (1 + i % 3) for i in range(40)]
    parameters = [p.clone() for p in model.parameters()]
    model.fit_norms(iter(images), size=64)
    assert (
        all(torch.equal(a, b) for a, b in zip(parameters, model.parameters(), strict=True))
        and not model.training
    )
    inputs: dict[nn.Module, list[Tensor]] = {}
    for m in norms_of(twin):
        m.train()  # each norm normalises by its own batch, as it does while it is fitted
        m.register_forward_hook(lambda m, x, _: inputs.setdefault(m, []).append(x[0].double()))
    with torch.no_grad():
        for first in (0, 16):  # the rest, a weak batch, would weigh as a full one
            twin.decoder(twin.encoder.pyramid(twin.tensor(images[first : first + 16])))
    used = 0
    for own, other in zip(norms_of(model), norms_of(twin), strict=True):
        seen = inputs.get(other)
        if seen is None:
            continue
        used += 1
        want = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
        spread = torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0)
        torch.testing.assert_close(own.running_mean.double(), want, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(own.running_var.double(), spread, rtol=1e-3, atol=1e-3)
    assert used == len(norms_of(model)) > 20


def test_fitting_norms_forgets_what_was_before_and_sees_windows_of_one_size(
    model: AlphaModel,
) -> None:
    one, two = copy.deepcopy(model), copy.deepcopy(model)
    for m in norms_of(two):
        m.running_mean.add_(5)
    images = [textured(50 + 9 * i, 90 - 7 * i, i) for i in range(4)]
    for m in (one, two):
        m.fit_norms(iter(images), size=64)
    for a, b in zip(norms_of(one), norms_of(two), strict=True):
        torch.testing.assert_close(a.running_mean, b.running_mean)
    twice = copy.deepcopy(one)
    twice.fit_norms(iter(images), size=64)
    for a, b in zip(norms_of(one), norms_of(twice), strict=True):
        torch.testing.assert_close(a.running_var, b.running_var)


def test_one_image_is_enough_to_fit_norms(model: AlphaModel) -> None:
    alone = copy.deepcopy(model)
    alone.fit_norms([textured(64, 64)], size=64)
    assert all(
        not torch.equal(m.running_var, torch.ones_like(m.running_var)) for m in norms_of(alone)
    )


def test_a_snapshot_leaves_the_training_alone() -> None:
    model = build()
    model.encoder.train()
    before = {k: x.clone() for k, x in model.state_dict().items()}
    copied = snapshot(model.encoder, model.decoder, PLAIN, ALL)
    copied.fit_norms([textured(64, 64, i) for i in range(2)], size=64)
    assert all(torch.equal(x, before[k]) for k, x in model.state_dict().items())
    assert (
        model.encoder.training
        and norms_of(model)[0].momentum == 0.1
        and not copied.encoder.training
    )


@pytest.mark.parametrize("name", ["resnet18", "tu-mobilenetv3_small_100"])
def test_a_snapshot_asks_nothing_of_other_processes(name: str, tmp_path: Path) -> None:
    """On a CPU, a norm over all processes that is about to ask them raises an error."""
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name))[0]
    decoder = AlphaDecoder(encoder, SMALL)
    for m in norms_of(encoder):
        nn.init.normal_(m.running_mean, std=0.1)
        nn.init.normal_(m.weight, 1.0, 0.1)
    for part in (encoder, decoder):
        with_norms(part, "sync")
    pixels = torch.randn(2, 3, 64, 64)
    want = [x.detach() for x in encoder.eval().pyramid(pixels)]
    state = {k: x.clone() for k, x in encoder.train().state_dict().items()}
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        copied = snapshot(encoder, decoder, PLAIN, ALL)
        torch.testing.assert_close([x.detach() for x in copied.encoder.pyramid(pixels)], want)
        torch.testing.assert_close(copied.encoder.state_dict(), state)
        copied.fit_norms([textured(64, 64, i) for i in range(2)], size=64)
    finally:
        torch.distributed.destroy_process_group()
    torch.testing.assert_close(encoder.state_dict(), state)
    assert all(
        isinstance(m, nn.SyncBatchNorm) for part in (encoder, decoder) for m in norms_of(part)
    )
    assert len(norms_of(decoder)) > 0 and not any(
        isinstance(m, nn.SyncBatchNorm) for m in norms_of(copied)
    )


@pytest.mark.parametrize("tile", [64, 1024])
def test_the_instance_at_a_place_is_the_one_that_is_proposed_there(tile: int) -> None:
    placed = [(30, 40, 9), (100, 120, 14), (33, 100, 6)]
    model = toy(tile)
    image = dots(150, 160, placed)
    for y, x, radius in placed:
        for dy, dx in ((0, 0), (1, 0), (0, -1)):
            found = model.instance_at(image, y + dy, x + dx)
            assert found is not None and iou(found, disc(150, 160, y + 0.5, x + 0.5, radius)) > 0.9
    assert model.instance_at(image, 75, 75) is None


def test_a_place_is_one_of_the_image_also_where_that_is_shrunk() -> None:
    model = toy(1024, side=64)
    small = dots(64, 96, [(20, 50, 10)])
    found = model.instance_at(np.kron(small, np.ones((3, 3, 1), np.uint8)), 61, 151)
    assert found is not None and iou(found, disc(192, 288, 61.5, 151.5, 30)) > 0.9
