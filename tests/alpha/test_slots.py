"""Slot attention against algorithm 1 written out in float64; reconstruction, codes and instances by
hand."""

import math

import numpy as np
import pytest
import torch
from small import SMALL
from torch import Tensor

from genseg.alpha.kept import GenerateConfig
from genseg.alpha.slots import (
    GRID,
    SlotAttention,
    SlotAttentionConfig,
    SlotDecoder,
    reconstruction,
    slots_found,
)
from genseg.joint import SlotsConfig
from genseg.nn.encoder import EncoderConfig, build_encoder

FEATURES, HEIGHT, WIDTH = 10, 5, 4
SLOTS = SlotAttentionConfig(count=4, iterations=3, width=8)


def attention() -> SlotAttention:
    torch.manual_seed(0)
    attend = SlotAttention(FEATURES, SLOTS)
    with torch.no_grad():
        for p in attend.parameters():
            p.add_(0.3 * torch.randn_like(p))  # gains, offsets and deviations are 1 and 0 at first
    return attend


def features() -> Tensor:
    return torch.randn(2, FEATURES, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


def draws(monkeypatch: pytest.MonkeyPatch, noise: Tensor) -> None:
    monkeypatch.setattr(SlotAttention, "_noise", lambda self, images: noise[:images])


NOISE = torch.randn(2, SLOTS.count, SLOTS.width, generator=torch.Generator().manual_seed(2))


# A twin in float64, one number at a time where it matters


def layer_norm(x: np.ndarray, norm: torch.nn.LayerNorm) -> np.ndarray:
    gain, offset = (p.detach().double().numpy() for p in (norm.weight, norm.bias))
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(
        x.var(-1, keepdims=True) + norm.eps
    ) * gain + offset


def linear(x: np.ndarray, layer: torch.nn.Linear) -> np.ndarray:
    y = x @ layer.weight.detach().double().numpy().T
    return y if layer.bias is None else y + layer.bias.detach().double().numpy()


def gru(x: np.ndarray, h: np.ndarray, cell: torch.nn.GRUCell) -> np.ndarray:
    """Cho et al., 2014, as torch parts the gates: reset, update, new."""
    w, u, b, c = (
        p.detach().double().numpy()
        for p in (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    )
    (xr, xz, xn), (hr, hz, hn) = np.split(x @ w.T + b, 3, -1), np.split(h @ u.T + c, 3, -1)
    r, z = 1 / (1 + np.exp(-(xr + hr))), 1 / (1 + np.exp(-(xz + hz)))
    return (1 - z) * np.tanh(xn + r * hn) + z * h


def mlp(x: np.ndarray, layers: torch.nn.Sequential) -> np.ndarray:
    return linear(np.maximum(linear(x, layers[0]), 0), layers[2])


def algorithm_1(
    attend: SlotAttention, image: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Slots (k d) and shares of attention (k n) of one image (c h w)."""
    rows, columns = image.shape[1:]
    pixels = []
    for i in range(rows):
        for j in range(columns):
            y, x = i / (rows - 1), j / (columns - 1)
            place = linear(np.array([y, x, 1 - y, 1 - x]), attend.position)
            pixels.append(mlp(layer_norm(image[:, i, j] + place, attend.norm), attend.hidden))
    inputs = layer_norm(np.array(pixels), attend.norm_inputs)
    k, v = linear(inputs, attend.k), linear(inputs, attend.v)
    mean, deviation = (
        attend.mean.detach().double().numpy(),
        attend.log_deviation.detach().double().exp().numpy(),
    )
    slots = mean + deviation * noise
    share = np.empty((len(slots), len(k)))
    for _ in range(SLOTS.iterations):
        q = linear(layer_norm(slots, attend.norm_slots), attend.q)
        for n, key in enumerate(k):
            e = np.array([math.exp(key @ query / math.sqrt(SLOTS.width)) for query in q])
            share[:, n] = e / e.sum()
        np.testing.assert_allclose(share.sum(0), 1)  # slots compete for a pixel
        share = (share + 1e-8) / (share + 1e-8).sum(1, keepdims=True)
        slots = gru(share @ v, slots, attend.gru)
        slots = slots + mlp(layer_norm(slots, attend.norm_mlp), attend.mlp)
    return slots, share


def test_attention_is_algorithm_1(monkeypatch: pytest.MonkeyPatch) -> None:
    attend, x = attention(), features()
    draws(monkeypatch, NOISE)
    slots, share = attend(x)
    torch.testing.assert_close(share.sum(2), torch.ones(2, SLOTS.count))
    for i in range(2):
        want = algorithm_1(attend, x[i].double().numpy(), NOISE[i].double().numpy())
        np.testing.assert_allclose(slots[i].detach().numpy(), want[0], atol=1e-4)
        np.testing.assert_allclose(share[i].detach().numpy(), want[1], atol=1e-5)


def test_slots_are_permuted_as_their_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    attend, x, order = attention(), features(), torch.tensor([2, 0, 3, 1])
    draws(monkeypatch, NOISE)
    slots, share = attend(x)
    draws(monkeypatch, NOISE[:, order])
    again = attend(x)
    torch.testing.assert_close(again[0], slots[:, order])
    torch.testing.assert_close(again[1], share[:, order])
    assert not torch.allclose(slots, slots[:, order], atol=1e-2)


def test_noise_is_drawn_in_training_and_fixed_in_generation() -> None:
    attend, x = attention(), features()[:1].expand(2, -1, -1, -1)
    one, two = attend(x)[0], attend(x)[0]
    assert not torch.allclose(one, two, atol=1e-2) and not torch.allclose(one[0], one[1], atol=1e-2)
    attend.eval()
    one, two = attend(x)[0], attend(x)[0]
    assert torch.equal(one, two)
    torch.testing.assert_close(one[0], one[1])
    assert not torch.allclose(one[0, 0], one[0, 1], atol=1e-2)


# The decoder


def decoder() -> tuple[SlotDecoder, list[Tensor]]:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig())[0]
    made = SlotDecoder(encoder, SLOTS, SMALL)
    return made, encoder.pyramid(torch.randn(2, 3, 64, 96))


def test_alphas_sum_to_one_and_one_colour_reconstructs_one_colour() -> None:
    made, pyramid = decoder()
    alpha, _, codes = made(pyramid)
    torch.testing.assert_close(alpha.sum(1), torch.ones(2, 32, 48))
    assert alpha.detach().std(1).max() > 0.01  # slots differ
    assert codes.image.tolist() == [0] * SLOTS.count + [1] * SLOTS.count
    colour = torch.tensor([0.7, -1.2, 0.3])
    with torch.no_grad():
        made.colour.weight.zero_()
        made.colour.bias.zero_()
        made.colour.bias.view(3, -1)[:, 0] = colour
    image = colour[None, :, None, None].expand(2, 3, 64, 96)
    drawn = made(pyramid)[1].detach()
    assert float(reconstruction(drawn, image)) < 1e-10
    assert float(reconstruction(drawn, image + 2)) == pytest.approx(4, rel=1e-5)
    with torch.no_grad():
        made.colour.bias.view(3, -1)[0, 2] = 0.5  # red rises from left to right
    torch.testing.assert_close(
        made(pyramid)[1].detach()[0, 0, 7], 0.7 + 0.5 * torch.linspace(-1, 1, 48)
    )


def test_the_loss_reaches_what_is_used_and_the_rest_is_frozen() -> None:
    made, pyramid = decoder()
    reconstruction(made(pyramid)[1], torch.randn(2, 3, 64, 96)).backward()
    reached = {
        n for n, p in made.named_parameters() if p.grad is not None and p.grad.abs().max() > 0
    }
    wanted = {n for n, p in made.named_parameters() if p.requires_grad}
    assert reached == wanted
    assert not any("tower" in n or "propose" in n or "levels" in n for n in wanted)


def test_codes_lie_where_attention_is_and_are_as_large_as_it_is_wide() -> None:
    made, _ = decoder()
    share = torch.zeros(1, SLOTS.count, 6 * 8)
    share[0, 0, 2 * 8 + 5] = 1  # one cell
    share[0, 1, [0 * 8 + 1, 4 * 8 + 1]] = 0.5  # two cells of one column
    share[0, 2, [3 * 8 + 0, 3 * 8 + 6]] = torch.tensor([0.25, 0.75])  # two of one row
    share[0, 3] = 1 / 48  # all
    codes = made._codes(torch.randn(1, SLOTS.count, SLOTS.width), share, 8)
    want = [(2.5, 5.5), (2.5, 1.5), (3.5, 0.5 + 0.75 * 6), (3, 4)]
    torch.testing.assert_close(codes.place, torch.tensor(want) * GRID)
    # variances, in cells
    squares = [0, 2**2, 0.25 * 0.75 * 6**2, (6**2 - 1) / 12 + (8**2 - 1) / 12]
    torch.testing.assert_close(
        codes.scale, torch.tensor([2 * GRID * math.sqrt(max(1, s)) for s in squares])
    )


# Instances


def regions(*, sure: float = 0.9) -> Tensor:
    """Maps (1 4 32 32): slot 1 is the ground, 0 and 3 are squares, 2 wins nothing."""
    winner = torch.ones(32, 32, dtype=torch.long)
    winner[4:10, 6:14] = 0
    winner[20:30, 18:31] = 3
    rest = (1 - sure) / 3
    alpha = torch.full((1, 4, 32, 32), rest).scatter_(1, winner[None, None], sure)
    # less sure of two rows
    alpha[0, :, 22:24, 18:31] = torch.tensor([0.1, 0.2, 0.1, 0.6])[:, None, None]
    return alpha


def test_slots_become_instances_and_the_ground_does_not() -> None:
    (found,) = slots_found(regions(), GenerateConfig(min_area=12))
    # twice as large: maps have a stride of two
    assert [a.box_xywh for a in found] == [(12, 8, 16, 12), (36, 40, 26, 20)]
    assert [a.area for a in found] == [16 * 12, 26 * 20]
    assert [a.score for a in found] == pytest.approx([0.9, (8 * 0.9 + 2 * 0.6) / 10])
    (large,) = slots_found(regions(), GenerateConfig(min_area=16 * 12 + 1))[0]
    assert large.box_xywh == (36, 40, 26, 20)
    one = torch.zeros(2, 3, 8, 8)
    one[:, 2] = 1
    assert slots_found(one, GenerateConfig()) == [[], []]  # nothing but ground


@pytest.mark.parametrize(("least", "count"), [(0, 2), (0.83, 2), (0.85, 1), (0.91, 0)])
def test_slots_that_are_less_sure_than_asked_for_are_left_out(least: float, count: int) -> None:
    """Of 0.9 and of 0.84."""
    assert len(slots_found(regions(), GenerateConfig(score=least))[0]) == count


def test_by_default_no_slot_is_too_unsure() -> None:
    """Of eleven slots one wins with an alpha of little more than an eleventh."""
    config = SlotsConfig()
    assert config.slots.count == 11
    winner = torch.zeros(16, 16, dtype=torch.long)
    winner[4:9, 4:9] = 7
    alpha = torch.full((1, 11, 16, 16), 0.09).scatter_(1, winner[None, None], 0.1)
    (found,) = slots_found(alpha, config.generate)
    assert [a.box_xywh for a in found] == [(8, 8, 10, 10)]


def test_the_slot_that_surrounds_the_image_is_the_ground_even_if_another_is_larger() -> None:
    winner = torch.zeros(32, 32, dtype=torch.long)
    winner[1:31, 1:31] = 2
    alpha = torch.nn.functional.one_hot(winner, 3).permute(2, 0, 1)[None].float()
    (found,) = slots_found(alpha, GenerateConfig())
    assert [a.box_xywh for a in found] == [(2, 2, 60, 60)]
