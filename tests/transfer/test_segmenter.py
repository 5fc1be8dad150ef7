"""Segmenters: our encoder inside smp's models, the loss against a loop, a round trip through
save_pretrained."""

import math
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch

from genseg.core import dist
from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.transfer.contract import Labelled
from genseg.transfer.segmenter import DeepLabConfig, FPNConfig, Segmenter, SegmenterConfig

KINDS = [SegmenterConfig(), FPNConfig(), DeepLabConfig()]


def segmenter(config: SegmenterConfig) -> Segmenter:
    torch.manual_seed(0)
    architecture = EncoderConfig("resnet18")
    return Segmenter(build_encoder(architecture)[0], config, architecture, classes=2)


def batch() -> Labelled:
    g = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (2, 64, 64), generator=g)
    target[:, :10] = 255
    return Labelled(torch.randn(2, 3, 64, 64, generator=g), [], [], None, target)


@pytest.mark.parametrize("config", KINDS, ids=lambda c: c.name)
def test_the_encoder_has_the_weights_it_was_given_and_learns(config: SegmenterConfig) -> None:
    torch.manual_seed(0)
    architecture = EncoderConfig("resnet18")
    encoder, _ = build_encoder(architecture)
    before = {k: v.clone() for k, v in encoder.net.state_dict().items()}
    model = Segmenter(encoder, config, architecture, classes=2).train()
    assert all(torch.equal(v, before[k]) for k, v in model.model.encoder.state_dict().items())
    assert model.encoder.net is model.model.encoder
    model(batch())["loss"].backward()
    assert all(p.grad is not None for p in model.model.encoder.parameters())


def test_what_no_level_needs_stays_out_of_training() -> None:
    architecture = EncoderConfig("mobilenet_v2")
    encoder, _ = build_encoder(architecture)
    next(encoder.net.parameters()).requires_grad_(False)
    before = {name: p.requires_grad for name, p in encoder.net.named_parameters()}
    model = Segmenter(encoder, SegmenterConfig(), architecture, classes=2)
    assert {name: p.requires_grad for name, p in model.model.encoder.named_parameters()} == before


def test_the_loss_is_cross_entropy_and_dice_over_the_pixels_that_are_asked() -> None:
    model, labels = segmenter(SegmenterConfig(dice=0.5)).eval(), batch()
    assert labels.semantic is not None
    with torch.no_grad():
        outputs = model(labels)
    p = model.model(labels.images).detach().double().softmax(1)
    asked = labels.semantic != 255
    crossed = [
        -math.log(float(p[b, labels.semantic[b, y, x], y, x]))
        for b, y, x in asked.nonzero().tolist()
    ]
    assert float(outputs["cross_entropy"]) == pytest.approx(sum(crossed) / len(crossed), rel=1e-4)
    dice = []
    for c in range(3):
        mine, true = p[:, c] * asked, (labels.semantic == c).double()
        dice.append(1 - 2 * float((mine * true).sum()) / float(mine.sum() + true.sum()))
    assert float(outputs["dice"]) == pytest.approx(0.5 * sum(dice) / 3, rel=1e-4)


def test_processes_with_different_numbers_of_pixels_equal_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, labels = segmenter(SegmenterConfig()).eval(), batch()
    assert labels.semantic is not None
    labels.semantic[0, :50] = 255
    with torch.no_grad():
        want = float(model(labels)["cross_entropy"])
        asked = (labels.semantic != 255).sum()
        monkeypatch.setattr(dist, "over_ranks", lambda _: asked / 2)  # as the ranks' mean would be
        pairs = zip(labels.images, labels.semantic, strict=True)
        ranks = [
            float(model(Labelled(x[None], [], [], None, y[None]))["cross_entropy"])
            for x, y in pairs
        ]
    assert sum(ranks) / 2 == pytest.approx(want, rel=1e-4)


def test_nothing_asked_is_a_loss_of_nothing() -> None:
    labels = batch()
    nothing = Labelled(labels.images, [], [], None, torch.full((2, 64, 64), 255))
    outputs = segmenter(SegmenterConfig())(nothing)
    outputs["loss"].backward()
    assert float(outputs["cross_entropy"].detach()) == 0 and bool(outputs["loss"].isfinite())


def test_images_of_any_size_and_a_round_trip_through_smp(tmp_path: Path) -> None:
    model = segmenter(SegmenterConfig()).eval()
    image = torch.randn(3, 45, 70)
    logits = model.segment(image)
    assert logits.shape == (3, 45, 70)
    model.model.save_pretrained(tmp_path / "unet")
    loaded = smp.from_pretrained(tmp_path / "unet").eval()
    with torch.no_grad():
        assert torch.allclose(
            loaded(image[None, :, :32, :64]), model.model(image[None, :, :32, :64]), atol=1e-5
        )


def test_a_small_stem_is_refused() -> None:
    architecture = EncoderConfig("resnet18", stem="small")
    with pytest.raises(ValueError, match="smp builds its models with the stem of ImageNet alone"):
        Segmenter(build_encoder(architecture)[0], SegmenterConfig(), architecture, classes=1)
