"""What places are asked for, worked out by hand; and a loss that any batch can have."""

import math
from collections.abc import Callable

import pytest
import torch
from discs import DISCS, EMPTY, SIZE, Disc, disc, truth_of
from small import SMALL
from torch import Tensor

from genseg.alpha.codes import REACH
from genseg.alpha.decoder import AlphaDecoder, Places
from genseg.alpha.objective import (
    Assignment,
    ObjectiveConfig,
    _chosen,
    assign,
    objective,
)
from genseg.core.mask_losses import border_band, mask_loss
from genseg.data.composites.compose import Composites
from genseg.nn.encoder import Encoder


def places_of(images: int = 1, size: int = SIZE, code: int = SMALL.code) -> Places:
    g = torch.Generator().manual_seed(0)
    grids = tuple((s, size // s, size // s) for s in (4, 8, 16))
    p = sum(r * c for _, r, c in grids)
    draw = [
        torch.randn(images, p, *more, generator=g).requires_grad_() for more in ((), (), (code,))
    ]
    return Places(*draw, grids)


def assigned(truth: Composites, places: Places | None = None) -> tuple[Assignment, Tensor, Tensor]:
    """The assignment, with the centres and strides of all places."""
    places = places or places_of(len(truth.image), truth.image.shape[1])
    centres, scales = places.centres()
    return assign(places, truth.visible.float() / 255, truth), centres, scales / REACH


@pytest.mark.parametrize(
    ("radius", "stride"),
    [(3, 4), (6, 4), (8.8, 4), (9.3, 8), (13, 8), (17.8, 8), (18.3, 16), (30, 16), (55, 16)],
)
def test_an_instance_belongs_to_the_grid_of_its_size_near_its_centre(
    radius: float, stride: int
) -> None:
    """Its side is sqrt(pi) r; grids end at sides of 16, 32 and never."""
    for y, x in ((64.0, 64.0), (61.3, 66.9), (66.0, 62.0)):
        found, centres, strides = assigned(truth_of([(0, y, x, radius)]))
        own = found.layer[0] == 0
        assert set(strides[own].tolist()) == {stride}
        distance = (centres[own] - torch.tensor([y, x])).norm(dim=1)
        assert distance.max() <= max(0.25 * math.sqrt(math.pi) * radius, 0.71 * stride) + 0.5
        assert (found.layer[0] == -1).sum() == (~own).sum()


def test_autocast_moves_no_place() -> None:
    """A matrix product in bf16 would put centroids of 512 pixels on a grid of two."""
    truth = truth_of([(0, 13.0 + 67 * i, 490.0 - 61 * i, 7.0) for i in range(8)], size=512)
    places = places_of(1, 512)
    want = assigned(truth, places)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = assigned(truth, places)[0]
    assert torch.equal(found.layer, want.layer) and torch.equal(found.counted, want.counted)


NEIGHBOURS = {11: 0, 13: 8, 15: 8, 17: 4, 21: 4, 22: 0, 23: 0, 25: 16, 31: 16, 33: 8, 42: 8, 43: 0}


@pytest.mark.parametrize(("side", "unclear"), NEIGHBOURS.items())
def test_the_neighbouring_grid_is_not_asked_about_sides_near_its_limit(
    side: int, unclear: int
) -> None:
    """From three quarters of its least side, up to four thirds of its largest; 0: all grids are
    asked."""
    found, centres, strides = assigned(truth_of([(0, 64.0, 64.0, side / math.sqrt(math.pi))]))
    own = found.layer[0] >= 0
    left_out = ~found.counted[0]
    assert set(strides[left_out].tolist()) == ({unclear} if unclear else set())
    near = (centres - 64).norm(dim=1) <= torch.maximum(
        0.25 * torch.tensor(float(side)), 0.71 * strides
    ) - 0.2
    assert torch.equal(left_out & near, near & (strides == unclear)) and unclear not in strides[own]


def test_places_where_a_host_is_unknown_are_not_counted_unless_an_instance_is_there() -> None:
    ignored = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    ignored[0, :64] = True
    found, centres, _ = assigned(truth_of([(0, 32.0, 32.0, 6.0)], ignored=ignored))
    own, unknown = found.layer[0] == 0, centres[:, 0] < 64
    assert own.any() and found.counted[0][own].all()
    assert not found.counted[0][unknown & ~own].any()
    bare, _, _ = assigned(truth_of([(0, 32.0, 32.0, 6.0)]))
    assert torch.equal(found.layer, bare.layer)
    assert torch.equal(found.counted[0][~unknown], bare.counted[0][~unknown])


def test_of_two_instances_the_one_in_front_has_the_places_that_it_covers() -> None:
    """A small disc on the middle of a large one: by size they live on grids of their own; each is
    found."""
    found, centres, strides = assigned(truth_of([(0, 64.0, 64.0, 30.0), (0, 64.0, 84.0, 6.0)]))
    assert {0, 1} == set(found.layer[0].tolist()) - {-1}
    assert set(strides[found.layer[0] == 1].tolist()) == {4} and set(
        strides[found.layer[0] == 0].tolist()
    ) == {16}


def test_a_place_that_two_instances_want_belongs_to_the_one_nearer_in_its_own_side() -> None:
    """Touching discs of one size: each place belongs to the disc that holds it, none to both."""
    found, centres, _ = assigned(truth_of([(0, 64.0, 57.0, 6.0), (0, 64.0, 69.0, 6.0)]))
    for k, x in ((0, 57.0), (1, 69.0)):
        own = centres[found.layer[0] == k]
        assert len(own) and ((own - torch.tensor([64.0, x])).norm(dim=1) <= 6).all()
    whole, twice = (
        assigned(truth_of([(0, 64.0, 64.0, 6.0)]))[0],
        truth_of([(0, 64.0, 64.0, 6.0)] * 2),
    )
    # two layers of one place: the first wins
    same = Composites(**{**vars(twice), "visible": twice.amodal})
    assert torch.equal(assigned(same)[0].layer, whole.layer)


def test_a_layer_that_is_hidden_is_asked_nothing() -> None:
    """Wholly behind another one, or of fewer than 4 pixels: neither wanted nor held against a place
    on it."""
    found, centres, _ = assigned(truth_of([(0, 64.0, 64.0, 5.0), (0, 64.0, 64.0, 9.0)]))
    assert set(found.layer[0].tolist()) == {-1, 1}
    # one pixel, that of the place at (62, 62)
    tiny, centres, _ = assigned(truth_of([(0, 62.5, 62.5, 0.9)]))
    assert (tiny.layer == -1).all()
    assert centres[~tiny.counted[0]].tolist() == [[62.0, 62.0]]


def test_each_image_has_its_own_layers() -> None:
    discs = [(1, 30.0, 30.0, 6.0), (0, 90.0, 90.0, 14.0), (1, 64.0, 64.0, 25.0)]
    found, _, _ = assigned(truth_of(discs, images=3))
    for i in range(3):
        mine = [k for k, d in enumerate(discs) if d[0] == i]
        alone, _, _ = assigned(truth_of([(0, *discs[k][1:]) for k in mine]))
        want = (
            torch.tensor([*mine, -1])[alone.layer[0]]
            if mine
            else torch.full_like(alone.layer[0], -1)
        )
        assert torch.equal(found.layer[i], want) and torch.equal(found.counted[i], alone.counted[0])


def test_every_instance_of_four_pixels_or_more_has_a_place() -> None:
    """Also one that lies between the places of the finest grid."""
    g = torch.Generator().manual_seed(0)
    for _ in range(150):
        y, x = (40 + 40 * torch.rand(2, generator=g)).tolist()
        radius = float(1.3 + 38 * torch.rand(1, generator=g) ** 2)
        assert (assigned(truth_of([(0, y, x, radius)]))[0].layer == 0).any(), (y, x, radius)


def test_some_places_of_each_layer_are_decoded_drawn_by_chance() -> None:
    layer = torch.full((2, 40), -1)
    layer[0, 3:6], layer[0, 10], layer[1, 20:24] = 2, 0, 5
    seen = set()
    for seed in range(60):
        torch.manual_seed(seed)
        image, place = _chosen(layer, 1, 100)
        assert sorted(layer[image, place].tolist()) == [0, 2, 5]
        seen |= set(zip(image.tolist(), place.tolist(), strict=True))
    assert seen == {(0, 3), (0, 4), (0, 5), (0, 10), (1, 20), (1, 21), (1, 22), (1, 23)}
    kept = set()
    for seed in range(60):
        torch.manual_seed(seed)
        image, place = _chosen(layer, 1, 2)
        assert len(image) == 2
        kept.add(tuple(sorted(layer[image, place].tolist())))
    assert kept == {(0, 2), (0, 5), (2, 5)}
    pairs = set()
    for seed in range(60):
        torch.manual_seed(seed)
        image, place = _chosen(layer, 3, 100)
        assert sorted(layer[image, place].tolist()) == [0, 2, 2, 2, 5, 5, 5]
        assert len(set(zip(image.tolist(), place.tolist(), strict=True))) == 7
        pairs.add(tuple(sorted(place[image == 1].tolist())))
    assert len(pairs) == 4
    assert [len(x) for x in _chosen(torch.full((2, 40), -1), 1, 5)] == [0, 0]


def test_sure_and_right_logits_cost_nothing_and_wrong_ones_much() -> None:
    alpha = disc(16, 14, 7, 32).flatten()[None]
    for boundary in (0.0, 1.0):
        assert float(mask_loss((alpha * 2 - 1) * 40, alpha, boundary, 32)) < 1e-4
        assert float(mask_loss((1 - alpha * 2) * 40, alpha, boundary, 32)) > 40


def test_the_band_around_a_border_counts_once_more() -> None:
    alpha = disc(16, 14, 7, 32)[None]
    band = torch.zeros_like(alpha)
    for y in range(32):
        for x in range(32):
            seen = alpha[0, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
            band[0, y, x] = float(seen.max() - seen.min() > 0.5)
    torch.testing.assert_close(border_band(alpha), band)
    logits = torch.randn(1, 1024, generator=torch.Generator().manual_seed(0))
    flat = alpha.flatten(1)
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, flat, reduction="none")
    extra = mask_loss(logits, flat, 0.7, 32) - mask_loss(logits, flat, 0.0, 32)
    torch.testing.assert_close(extra, 0.7 * each[band.flatten(1) > 0].mean()[None])
    assert not border_band(torch.zeros(1, 8, 8)).any()
    assert not border_band(torch.ones(1, 8, 8)).any()


# The whole objective


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Nothing is drawn at random: of each layer the first places are decoded."""
    return lambda: monkeypatch.setattr(
        torch, "randperm", lambda n, device=None: torch.arange(n, device=device)
    )


def terms_of(
    decoder: AlphaDecoder, truth: Composites, *, most: int = 1, **changes: float
) -> tuple[dict[str, Tensor], Places]:
    """The objective over random embeddings and proposals."""
    embeddings = torch.randn(
        len(truth.image), 5, 32, 32, generator=torch.Generator().manual_seed(2)
    )
    places = places_of(len(truth.image), 64)
    return objective(decoder, embeddings, places, truth, ObjectiveConfig(places=most, **changes))[
        0
    ], places


@pytest.mark.parametrize("most", [1, 3])
def test_the_terms_are_means_over_places(
    decoder: AlphaDecoder, settled: Callable[[], None], most: int
) -> None:
    """Against one place after the other, with the losses written out."""
    settled()
    truth = truth_of(DISCS, images=2, size=64)
    truth.known[1] = False
    terms, places = terms_of(
        decoder, truth, most=most, boundary=0.0, mask=2.0, amodal=0.5, quality=0.25, objectness=3.0
    )
    found, _, _ = assigned(truth, places)
    embeddings = torch.randn(2, 5, 32, 32, generator=torch.Generator().manual_seed(2))
    masks, amodals, qualities = [], [], []
    chosen = [
        (k, *at) for k in range(len(DISCS)) for at in (found.layer == k).nonzero()[:most].tolist()
    ]
    for k, i, p in chosen:
        logits = decoder.decode(embeddings, places.codes(torch.tensor([i]), torch.tensor([p])))[0]
        logits = logits.detach().flatten(1).double()
        for n, (alphas, out) in enumerate(((truth.visible, masks), (truth.amodal, amodals))):
            a = (alphas[k].double() / 255).unfold(0, 2, 2).unfold(1, 2, 2).mean((2, 3)).flatten()
            q = logits[n].sigmoid()
            e = -a * q.log() - (1 - a) * (1 - q).log()
            dice = 1 - (2 * (q * a).sum() + 1) / ((q * q).sum() + (a * a).sum() + 1)
            if n and not truth.known[k]:
                continue
            out.append(
                float(dice + ((a * e).sum() / a.sum() + ((1 - a) * e).sum() / (1 - a).sum()) / 2)
            )
            if n == 0:
                both, either = (
                    ((logits[0] > 0) & (a > 0.5)).sum(),
                    ((logits[0] > 0) | (a > 0.5)).sum(),
                )
                iou, guess = (
                    float(both / either),
                    float(places.quality[i, p].detach().double().sigmoid()),
                )
                qualities.append(-iou * math.log(guess) - (1 - iou) * math.log(1 - guess))
    assert float(terms["mask"].detach()) == pytest.approx(2.0 * sum(masks) / len(masks), rel=1e-4)
    assert len(amodals) < len(masks) and (len(masks) > 4) == (most > 1)
    assert float(terms["amodal"].detach()) == pytest.approx(
        0.5 * sum(amodals) / len(amodals), rel=1e-4
    )
    assert float(terms["quality"].detach()) == pytest.approx(
        0.25 * sum(qualities) / len(qualities), rel=1e-4
    )
    p = places.objectness.detach().double().sigmoid()
    positive, negative = found.layer >= 0, (found.layer < 0) & found.counted
    cost = (-0.25 * (1 - p) ** 2 * p.log())[positive].sum() + (-0.75 * p**2 * (1 - p).log())[
        negative
    ].sum()
    assert float(terms["objectness"].detach()) == pytest.approx(
        3.0 * float(cost) / int(positive.sum()), rel=1e-4
    )


def test_the_loss_does_not_depend_on_the_order_of_layers(
    decoder: AlphaDecoder, settled: Callable[[], None]
) -> None:
    settled()
    # none overlap
    discs = [
        (0, 20.0, 22.0, 6.0),
        (0, 44.0, 42.0, 12.0),
        (1, 30.0, 33.0, 14.0),
        (1, 10.0, 54.0, 4.0),
    ]
    want, _ = terms_of(decoder, truth_of(discs, images=2, size=64))
    for order in ([3, 2, 1, 0], [2, 0, 3, 1]):
        got, _ = terms_of(decoder, truth_of([discs[k] for k in order], images=2, size=64))
        for name, value in want.items():
            torch.testing.assert_close(got[name], value, msg=name)


@pytest.mark.parametrize("discs", EMPTY.values(), ids=EMPTY)
def test_all_parameters_have_gradients_in_any_batch(
    encoder: Encoder, decoder: AlphaDecoder, discs: list[Disc]
) -> None:
    """DDP waits for each of them, also where there is no layer; then it is a finite one of the
    empty places alone."""
    truth = truth_of(discs, images=2, size=64)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    pyramid = encoder.pyramid(x)
    embeddings, places = decoder(pyramid)
    terms, _ = objective(decoder, embeddings, places, truth, ObjectiveConfig())
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()
    assert math.isfinite(float(loss.detach())) and float(terms["objectness"].detach()) > 0
    for name, p in decoder.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name
        if len(discs) > 1:
            assert p.grad.abs().max() > 0, name
    if len(discs) < 2:
        assert (
            float(terms["mask"].detach())
            == float(terms["amodal"].detach())
            == float(terms["quality"].detach())
            == 0
        )
        assert float(decoder.kernel.weight.grad.abs().max()) == 0


def test_a_batch_that_is_ignored_everywhere_costs_nothing(decoder: AlphaDecoder) -> None:
    terms, _ = terms_of(
        decoder, truth_of([], size=64, ignored=torch.ones(1, 64, 64, dtype=torch.bool))
    )
    assert all(float(t.detach()) == 0 for t in terms.values())


def test_a_weight_of_zero_leaves_a_term_out(decoder: AlphaDecoder) -> None:
    for name in ("objectness", "mask", "amodal", "quality"):
        terms, _ = terms_of(decoder, truth_of(DISCS, images=2, size=64), **{name: 0.0})
        left = {k for k, t in terms.items() if float(t.detach())}
        assert left == {"objectness", "mask", "amodal", "quality"} - {name}


def test_gradient_descent_on_codes_gives_the_alphas_back(decoder: AlphaDecoder) -> None:
    """The terms are those that one wants small: with them alone a disc's alpha, objectness and
    quality are learnt."""
    truth = truth_of([(0, 30.0, 33.0, 12.0)], size=64)
    at = (torch.arange(32) + 0.5) / 16 - 1
    embeddings = torch.stack([*torch.meshgrid(at, at, indexing="ij"), *torch.zeros(3, 32, 32)])[
        None
    ]
    places = places_of(1, 64)
    optimizer = torch.optim.Adam(
        [places.objectness, places.quality, places.vector, *decoder.kernel.parameters()], 0.03
    )
    torch.manual_seed(0)
    for _ in range(250):
        terms, facts = objective(decoder, embeddings, places, truth, ObjectiveConfig())
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    assert float(facts["overlap"]) > 0.9
    found, _, _ = assigned(truth, places)
    p = places.objectness.detach().sigmoid()
    assert p[found.layer >= 0].min() > 0.6 and p[(found.layer < 0) & found.counted].max() < 0.4
