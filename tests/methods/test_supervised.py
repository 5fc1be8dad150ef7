"""Supervised pretraining: cross-entropy of the labels that are used, and of no others."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor

from genseg.core.schedule import Plan
from genseg.methods.method import RunImages
from genseg.methods.semantic import labelled
from genseg.methods.supervised import Supervised, SupervisedConfig, used_labels
from genseg.nn.encoder import EncoderConfig, build_encoder


def nothing(indices: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
    raise AssertionError("labels alone are asked for")


def images(*labels: int, classes: tuple[str, ...] = ("a", "b", "c")) -> RunImages:
    return RunImages(len(labels), nothing, labels or None, classes if labels else ())


def build(config: SupervisedConfig, seen: RunImages) -> Supervised:
    torch.manual_seed(0)
    encoder, _ = build_encoder(EncoderConfig("tu-resnet10t"))
    module = Supervised(encoder, config, Plan(images=80, batch=8, total=20))
    module.prepare(seen, begun=False)
    return module.eval()  # the same norms for one view and for many


def test_the_loss_is_cross_entropy_over_views_and_labelled_images() -> None:
    """A twin in float64; images without a label, and outputs of no class, take no part."""
    config = SupervisedConfig(most=7, unseen=("b",))
    module = build(config, images(0, 1, 2, 2, 0))
    views = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    module.begin_pass(torch.tensor([4, 1, 3, 0]), ())
    out = module([views])
    h = torch.stack([module.encoder(v) for v in views]).double()
    weight, bias = module.head.weight.double(), module.head.bias.double()
    scores = log_softmax((h @ weight.T + bias).detach().numpy()[..., :3], -1)
    naive = -np.mean([scores[v, i, c] for v in range(2) for i, c in ((0, 0), (2, 2), (3, 0))])
    assert float(out["loss"].detach()) == pytest.approx(naive, rel=1e-5)
    torch.testing.assert_close(out["embeddings"], h[0].float(), rtol=1e-4, atol=1e-5)
    out["loss"].backward()
    grad = module.head.weight.grad
    assert grad is not None and grad[:3].any(1).all() and not grad[3:].any()
    assert all(p.grad is not None for p in module.encoder.parameters() if p.requires_grad)


def test_equal_scores_are_trivial_and_a_pass_without_labels_costs_nothing() -> None:
    module = build(SupervisedConfig(unseen=("c",)), images(0, 1, 2))
    torch.nn.init.zeros_(module.head.weight)
    torch.nn.init.zeros_(module.head.bias)
    views = torch.randn(2, 1, 3, 32, 32)
    module.begin_pass(torch.tensor([1]), ())
    assert (
        float(module([views])["loss"].detach()) == pytest.approx(math.log(3)) == module.trivial(1)
    )
    module.begin_pass(torch.tensor([2]), ())
    assert float(module([views])["loss"].detach()) == 0


def test_labels_are_those_that_a_semantic_target_would_use() -> None:
    rng = np.random.default_rng(0)
    labels = tuple(rng.integers(0, 3, 60).tolist())
    config = SupervisedConfig(labelled=0.1, seed=3, unseen=("a",))
    used = used_labels(config, images(*labels))
    assert used == labelled(torch.tensor(labels), ("a", "b", "c"), config)
    assert {labels[i] for i in used} == {1, 2} and len(used) < 8


@pytest.mark.parametrize(
    ("config", "seen", "message"),
    [
        (SupervisedConfig(), images(), "learns from classes, and data.path has none"),
        (SupervisedConfig(most=2), images(0, 1, 2), "method.most=2: the images have 3 classes"),
        (
            SupervisedConfig(unseen=("d",)),
            images(0, 1),
            "there are no classes d; the classes are a",
        ),
        (SupervisedConfig(unseen=("a", "b")), images(0, 1), "method.unseen leaves 1"),
    ],
)
def test_what_cannot_be_learnt_is_told(
    config: SupervisedConfig, seen: RunImages, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        used_labels(config, seen)
