"""Cut-outs that two composites share attract, other layers repel: against a loop over layers."""

import math

import pytest
import torch
from discs import EMPTY, Disc, truth_of
from torch import Tensor, nn

from genseg.alpha.decoder import AlphaDecoder
from genseg.alpha.objective import (
    ObjectiveConfig,
    contrast_head,
    instance_contrast,
)
from genseg.data.composites.compose import Composites
from genseg.nn.encoder import Encoder

# Composites 0 and 1 share the cut-outs 7 (twice in 1) and 3, composites 2 and 3 share 5. 9 and 1
# are in two of no pair, composite 4 has no partner, and nothing is seen of 8.
LAYERS = {
    7: [(0, 14.0, 16.0, 6.0), (1, 40.0, 30.0, 9.0), (1, 12.0, 50.0, 5.0)],
    3: [(0, 44.0, 40.0, 10.0), (1, 30.0, 12.0, 8.0)],
    8: [(1, 40.0, 31.0, 4.0)],
    9: [(1, 34.0, 16.0, 6.0), (2, 12.0, 12.0, 5.0)],
    5: [(3, 30.0, 30.0, 12.0), (2, 40.0, 40.0, 7.0), (4, 20.0, 20.0, 6.0)],
    1: [(3, 55.0, 10.0, 5.0), (0, 55.0, 9.0, 5.0), (4, 44.0, 40.0, 6.0)],
}


def paired() -> Composites:
    flat = [(source, d) for source, discs in LAYERS.items() for d in discs]
    flat.sort(key=lambda layer: layer[0] != 8)  # the hidden one is the first, behind all others
    truth = truth_of([d for _, d in flat], images=5, size=64)
    return Composites(**{**vars(truth), "source": torch.tensor([s for s, _ in flat])})


def naive_contrast(
    head: nn.Module, embeddings: Tensor, truth: Composites, temperature: float
) -> tuple[float, int]:
    """Layer by layer in float64: the mean of the terms, and how many there are."""
    z: list[Tensor | None] = []
    for alpha, owner in zip(truth.visible.double() / 255, truth.owner.tolist(), strict=True):
        total, weight = torch.zeros(embeddings.shape[1], dtype=torch.float64), 0.0
        for y in range(32):
            for x in range(32):
                a = float(alpha[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].sum())
                total, weight = total + a * embeddings[owner, :, y, x].double(), weight + a
        z.append(None if weight < 4 else nn.functional.normalize(head(total / weight), dim=0))
    terms = []
    for i, a in enumerate(z):
        for j, b in enumerate(z):
            if a is None or b is None:
                continue
            image, other = int(truth.owner[i]), int(truth.owner[j])
            if image == other or image // 2 != other // 2 or truth.source[i] != truth.source[j]:
                continue
            scores = [float(a @ b) / temperature]
            for k, c in enumerate(z):
                if (
                    c is not None
                    and int(truth.owner[k]) in (image, other)
                    and truth.source[k] != truth.source[i]
                ):
                    scores.append(float(a @ c) / temperature)
            terms.append(math.log(sum(math.exp(s) for s in scores)) - scores[0])
    return sum(terms) / len(terms), len(terms)


@torch.no_grad()
def test_instance_contrast_equals_a_loop_over_layers(decoder: AlphaDecoder) -> None:
    truth, head = paired(), contrast_head(decoder)
    embeddings = torch.randn(5, 5, 32, 32, generator=torch.Generator().manual_seed(2)) * 20
    got = instance_contrast(
        head, embeddings, truth, ObjectiveConfig(contrast=0.7, contrast_temperature=0.3)
    )
    want, count = naive_contrast(head.double(), embeddings, truth, 0.3)
    assert count == 8  # each way 2 for the cut-out 7, 1 for 3 and 1 for 5
    assert float(got) == pytest.approx(0.7 * want, rel=1e-4)


@torch.no_grad()
def test_equal_features_give_the_log_of_the_number_of_candidates(decoder: AlphaDecoder) -> None:
    """One pair among 2 others in the first image and 1 in the second: each way one positive and 3
    negatives."""
    truth = truth_of(
        [
            (0, 14.0, 14.0, 6.0),
            (0, 44.0, 14.0, 6.0),
            (0, 14.0, 44.0, 6.0),
            (1, 14.0, 14.0, 6.0),
            (1, 44.0, 44.0, 9.0),
        ],
        images=2,
        size=64,
    )
    truth = Composites(**{**vars(truth), "source": torch.tensor([4, 5, 6, 7, 4])})
    flat = torch.ones(2, 5, 32, 32)
    got = instance_contrast(contrast_head(decoder), flat, truth, ObjectiveConfig(contrast=1.0))
    assert float(got) == pytest.approx(math.log(4), abs=1e-5)


def test_instance_contrast_reaches_the_encoder(encoder: Encoder, decoder: AlphaDecoder) -> None:
    head = contrast_head(decoder)
    x = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    instance_contrast(
        head, decoder(encoder.pyramid(x))[0], paired(), ObjectiveConfig(contrast=1.0)
    ).backward()
    for name, p in (
        *head.named_parameters(),
        ("conv1", encoder.net.conv1.weight),
        ("embed", decoder.embed.weight),
    ):
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.abs().max() > 0, name
    encoder.zero_grad()


@pytest.mark.parametrize("discs", EMPTY.values(), ids=EMPTY)
def test_without_a_pair_instance_contrast_is_zero_and_the_head_has_its_gradient(
    decoder: AlphaDecoder, discs: list[Disc]
) -> None:
    head = contrast_head(decoder)
    embeddings = torch.randn(2, 5, 32, 32, requires_grad=True)
    loss = instance_contrast(
        head, embeddings, truth_of(discs, images=2, size=64), ObjectiveConfig(contrast=1.0)
    )
    assert float(loss.detach()) == 0
    loss.backward()
    for p in (*head.parameters(), embeddings):
        assert p.grad is not None and not p.grad.any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"contrast": -1.0}, "contrast=-1"),
        ({"contrast_temperature": 0.0}, "contrast_temperature=0"),
    ],
)
def test_numbers_that_make_no_contrast_are_named(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectiveConfig(**values)
