"""The decoder of codes against a loop over pixels, and where places lie."""

import copy

import pytest
import torch
from small import SMALL
from torch import Tensor

from genseg.alpha.codes import GRIDS, REACH, Codes
from genseg.alpha.decoder import AlphaDecoder, Places
from genseg.nn.encoder import EncoderConfig, build_encoder


@pytest.fixture(scope="module")
def decoder() -> AlphaDecoder:
    torch.manual_seed(0)
    return AlphaDecoder(build_encoder(EncoderConfig())[0], SMALL).double().eval()


def draw(n: int = 7, b: int = 3, seed: int = 1) -> tuple[Tensor, Codes]:
    """Embeddings of b images and codes of them in mixed order; the second image has none."""
    g = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(b, SMALL.embedding, 6, 8, generator=g, dtype=torch.float64)
    image = torch.tensor([2, 0, 2, 0, 0, 2, 0])[:n]
    vector = torch.randn(n, SMALL.code, generator=g, dtype=torch.float64)
    place = torch.rand(n, 2, generator=g, dtype=torch.float64) * 16
    return embeddings, Codes(
        vector, place, torch.rand(n, generator=g, dtype=torch.float64) * 30 + 4, image
    )


def naive(decoder: AlphaDecoder, embeddings: Tensor, codes: Codes) -> Tensor:
    """A small network on (embedding, dy, dx, r^2) of one pixel after the other."""
    _, e, h, w = embeddings.shape
    d = SMALL.hidden
    out = torch.zeros(len(codes.vector), 2, h, w, dtype=embeddings.dtype)
    for n, (place, scale, i) in enumerate(zip(codes.place, codes.scale, codes.image, strict=True)):
        flat = decoder.kernel.weight @ codes.vector[n] + decoder.kernel.bias
        first, rest = flat[: d * (e + 3)].view(d, e + 3), flat[d * (e + 3) :]
        offset, second, last = rest[:d], rest[d : 3 * d].view(2, d), rest[3 * d :]
        for y in range(h):
            # embeddings have stride 2: the middle of their pixel (0, 0) lies at (1, 1)
            for x in range(w):
                dy, dx = (2 * y + 1 - place[0]) / scale, (2 * x + 1 - place[1]) / scale
                seen = torch.cat([embeddings[i, :, y, x], torch.stack([dy, dx, dy * dy + dx * dx])])
                out[n, :, y, x] = second @ (first @ seen + offset).relu() + last
    return out


def test_decoding_is_the_small_network_at_each_pixel(decoder: AlphaDecoder) -> None:
    embeddings, codes = draw()
    torch.testing.assert_close(decoder.decode(embeddings, codes), naive(decoder, embeddings, codes))


def test_codes_of_several_images_are_decoded_as_one_image_at_a_time(decoder: AlphaDecoder) -> None:
    embeddings, codes = draw()
    together = decoder.decode(embeddings, codes)
    for i in range(len(embeddings)):
        mine = (codes.image == i).nonzero()[:, 0]
        own = codes[mine]
        alone = decoder.decode(
            embeddings[i : i + 1], Codes(own.vector, own.place, own.scale, own.image * 0)
        )
        torch.testing.assert_close(together[mine], alone)
    order = torch.tensor([4, 0, 6, 5, 1, 3, 2])
    torch.testing.assert_close(decoder.decode(embeddings, codes[order]), together[order])


def test_decoding_near_a_place_is_decoding_within_two_scales_of_it(
    decoder: AlphaDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genseg.alpha.codes.MANY", 2)
    g = torch.Generator().manual_seed(4)
    pixels = torch.randn(SMALL.embedding, 40, 56, generator=g, dtype=torch.float64)
    grids = ((4, 20, 14), (8, 10, 7), (16, 2, 5))
    centres, scales = Places(
        torch.zeros(1, 360), torch.zeros(1, 360), torch.zeros(1, 360, 1), grids
    ).centres()
    chosen = torch.randperm(360, generator=g)[:60]
    # windows of 8, 16, 32 pixels of the image
    place, scale = centres[chosen].double(), scales[chosen].double() / 4
    codes = Codes(
        torch.randn(60, SMALL.code, generator=g, dtype=torch.float64),
        place,
        scale,
        torch.zeros_like(chosen),
    )
    whole = decoder.decode(pixels[None], codes)[:, 0].sigmoid().float()
    near = torch.zeros_like(whole)
    for numbers, corners, alphas in decoder.decode_near(pixels, codes):
        for n, (top, left), alpha in zip(numbers.tolist(), corners.tolist(), alphas, strict=True):
            near[n, top : top + alpha.shape[0], left : left + alpha.shape[1]] = alpha
    for alpha, want, (y, x), reach in zip(near, whole, place.tolist(), scale.tolist(), strict=True):
        rows, columns = (((torch.arange(n) + 0.5) * 2 - at).abs() for n, at in ((40, y), (56, x)))
        distance = torch.maximum(rows[:, None], columns)
        inside = distance < 2 * reach - 2
        torch.testing.assert_close(alpha[inside], want[inside])
        within = 2 * reach < y < 80 - 2 * reach and 2 * reach < x < 112 - 2 * reach
        if within and not torch.allclose(alpha, want):  # it does not reach beyond
            assert not alpha[distance > 2 * reach + 2].any()
    assert list(decoder.decode_near(pixels, codes[chosen < 0])) == []


def test_what_reaches_beyond_its_window_is_decoded_everywhere(decoder: AlphaDecoder) -> None:
    """A fibre of 140 x 2 pixels has the scale of a square of 16; a blob keeps its window."""
    plain = copy.deepcopy(decoder)
    first, second = 0, SMALL.hidden * (SMALL.embedding + 3) + SMALL.hidden
    with torch.no_grad():  # the logit is 20 times the first embedding, less 10
        plain.kernel.weight.zero_()
        plain.kernel.bias.zero_()
        plain.kernel.bias[[first, second]] = torch.tensor([1.0, 20.0], dtype=torch.float64)
        plain.kernel.bias[second + 2 * SMALL.hidden] = -10
    pixels = torch.zeros(SMALL.embedding, 64, 96, dtype=torch.float64)
    pixels[0, 50, 10:80] = 1
    pixels[0, 4:8, 60:64] = 1
    place = torch.tensor([[101.0, 90.0], [12.0, 124.0]], dtype=torch.float64)
    scale = torch.full((2,), 16.0, dtype=torch.float64)
    codes = Codes(
        torch.zeros(2, SMALL.code, dtype=torch.float64),
        place,
        scale,
        torch.zeros(2, dtype=torch.long),
    )
    whole = plain.decode(pixels[None], codes)[:, 0].sigmoid().float()
    near, fibre = plain.decode_near(pixels, codes)
    assert near[0].tolist() == [1] and near[2].shape == (1, 32, 32) and (near[2] > 0.5).sum() == 16
    assert (
        fibre[0].tolist() == [0]
        and fibre[1].tolist() == [[0, 0]]
        and (fibre[2] > 0.5).sum() == 70 + 16
    )
    torch.testing.assert_close(fibre[2], whole[:1])


def test_no_code_gives_no_alpha(decoder: AlphaDecoder) -> None:
    embeddings, codes = draw()
    assert decoder.decode(embeddings, codes[torch.zeros(7, dtype=torch.bool)]).shape == (0, 2, 6, 8)


def test_an_alpha_moves_with_its_place_and_embeddings(decoder: AlphaDecoder) -> None:
    embeddings, codes = draw()
    moved = Codes(codes.vector, codes.place + torch.tensor([2.0, 4.0]), codes.scale, codes.image)
    before = decoder.decode(embeddings, codes)
    after = decoder.decode(embeddings.roll((1, 2), (2, 3)), moved)
    torch.testing.assert_close(after[:, :, 1:, 2:], before[:, :, :-1, :-2])


def test_an_alpha_grows_with_its_scale(decoder: AlphaDecoder) -> None:
    """Over flat embeddings the alpha is a function of the distance in units of the scale."""
    _, codes = draw(1)
    flat = torch.ones(3, SMALL.embedding, 9, 9, dtype=torch.float64)
    place = torch.full((1, 2), 9.0, dtype=torch.float64)
    small = decoder.decode(flat, Codes(codes.vector, place, codes.scale, codes.image))
    large = decoder.decode(flat, Codes(codes.vector, place, 2 * codes.scale, codes.image))
    torch.testing.assert_close(large[:, :, ::2, ::2], small[:, :, 2:7, 2:7])


def test_centres_and_scales_by_hand() -> None:
    places = Places(
        torch.zeros(1, 8), torch.zeros(1, 8), torch.zeros(1, 8, 2), ((4, 2, 3), (16, 1, 2))
    )
    centres, scales = places.centres()
    assert centres.tolist() == [[2, 2], [2, 6], [2, 10], [6, 2], [6, 6], [6, 10], [8, 8], [8, 24]]
    assert scales.tolist() == [4.0 * REACH] * 6 + [16.0 * REACH] * 2


def test_codes_are_those_of_their_places() -> None:
    vector = torch.arange(2 * 8 * 2).view(2, 8, 2).float()
    places = Places(torch.zeros(2, 8), torch.zeros(2, 8), vector, ((4, 2, 3), (16, 1, 2)))
    codes = places.codes(torch.tensor([1, 0]), torch.tensor([7, 4]))
    assert codes.vector.tolist() == [vector[1, 7].tolist(), vector[0, 4].tolist()]
    assert codes.place.tolist() == [[8, 24], [6, 6]] and codes.scale.tolist() == [
        16.0 * REACH,
        4.0 * REACH,
    ]
    assert codes.image.tolist() == [1, 0]


def test_places_come_grid_after_grid_from_the_right_level(decoder: AlphaDecoder) -> None:
    """A change of one cell of the pyramid's level of stride s changes the proposals around that
    place."""
    g = torch.Generator().manual_seed(0)
    pyramid = [
        torch.randn(1, c, 64 // s, 96 // s, generator=g, dtype=torch.float64)
        for c, s in zip((3, 64, 64, 128, 256, 512), (1, 2, 4, 8, 16, 32), strict=True)
    ]
    embeddings, places = decoder(pyramid)
    assert embeddings.shape == (1, SMALL.embedding, 32, 48)
    assert (
        places.grids == ((4, 16, 24), (8, 8, 12), (16, 4, 6))
        and tuple(s for s, _, _ in places.grids) == GRIDS
    )
    assert places.objectness.shape == (1, 16 * 24 + 8 * 12 + 4 * 6)
    centres, scales = places.centres()
    finest = scales == scales.min()
    changed = [x.clone() for x in pyramid]
    changed[2][0, :, 3, 18] += 3  # stride 4: around (14, 74)
    difference = (decoder(changed)[1].vector - places.vector)[0].abs().sum(1)
    assert difference[~finest].max() < 1e-9  # coarser grids do not see the finest skip
    assert (
        centres[finest][difference[finest].argmax()] - torch.tensor([14.0, 74.0])
    ).abs().max() <= 8


def test_the_decoder_at_its_start_finds_instances_nearly_nowhere(decoder: AlphaDecoder) -> None:
    assert float(decoder.propose.bias[0].detach()) == -4.0
