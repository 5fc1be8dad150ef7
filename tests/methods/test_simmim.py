"""SimMIM: its loss against a naive loop, what is masked and by what, what learns, and what it
refuses."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from genseg.core.gradients import hog
from genseg.core.schedule import Plan
from genseg.methods.method import Key
from genseg.methods.simmim import SimMIM, SimMIMConfig
from genseg.nn.encoder import EncoderConfig, build_encoder

PLAN = Plan(images=80, batch=8, total=20)
GREY = (0.5, 0.5, 0.5)
SMALL = EncoderConfig(stem="small")  # its last map has a stride of 8


def build(encoder: EncoderConfig = SMALL, **changes: object) -> SimMIM:
    torch.manual_seed(0)
    return SimMIM(build_encoder(encoder)[0], SimMIMConfig(**changes), PLAN)


def keys(b: int = 4, epoch: int = 0) -> list[Key]:
    return [(0, epoch, i) for i in range(b)]


def view(b: int = 4, v: int = 1, side: int = 32) -> torch.Tensor:
    return torch.randn(v, b, 3, side, side, generator=torch.Generator().manual_seed(1))


def outputs(
    module: SimMIM, views: list[torch.Tensor], of: Sequence[Key] | None = None
) -> dict[str, torch.Tensor]:
    b = views[0].shape[1]
    module.begin_pass(torch.arange(b), of or keys(b))
    return module(views)


@pytest.mark.parametrize("target", ["pixels", "hog"])
def test_the_loss_is_a_naive_loop_over_masked_patches(target: str) -> None:
    module = build(predict=target, patch=8).double().eval()
    group = view(v=2).double()
    found = outputs(module, [group])
    corrupted, hidden = module.corrupt(group, keys())
    assert module.cell == (8 if target == "hog" else 1)
    predicted = module.head(module.encoder.pyramid(corrupted)[-1])
    images = group.flatten(0, 1)
    wanted = hog(images, cell=8) if target == "hog" else images
    errors, n = [], 8 // module.cell  # values of a patch, on a side
    for image in range(len(images)):
        for i in range(4):
            for j in range(4):
                if not hidden[image, 0, 8 * i, 8 * j]:
                    continue
                for y in range(n * i, n * i + n):
                    for x in range(n * j, n * j + n):
                        for c in range(wanted.shape[1]):
                            error = predicted[image, c, y, x] - wanted[image, c, y, x]
                            errors.append(abs(float(error.detach())))
    assert len(errors) == 8 * 10 * n * n * wanted.shape[1]  # ceil(0.6 * 16) patches of each image
    assert float(found["loss"].detach()) == pytest.approx(np.mean(errors), rel=1e-6)
    torch.testing.assert_close(
        found["embeddings"], module.encoder(corrupted[:4]).detach().to(found["embeddings"])
    )


def test_a_mean_colour_has_the_trivial_loss() -> None:
    module, group = build(), view()
    _, hidden = module.corrupt(group, keys())
    mean = [float(group[0][:, c][hidden[:, 0]].mean()) for c in range(3)]
    with torch.no_grad():
        module.head[0].weight.zero_()
        # pixel shuffle takes neighbouring channels for one colour
        module.head[0].bias.copy_(torch.tensor(mean).repeat_interleave(64))
    found = outputs(module, [group])
    torch.testing.assert_close(found["loss"].detach(), found["trivial"])
    assert module.trivial(4) == pytest.approx(float(found["trivial"]))


def test_what_is_masked_is_a_function_of_the_key_and_the_view_alone() -> None:
    module, group = build(patch=4, mask="noise"), view(v=2)
    x, hidden = module.corrupt(group, keys())
    again, _ = module.corrupt(group[:, [2, 0]], [keys()[2], keys()[0]])
    torch.testing.assert_close(again[:2], x[[2, 0]], rtol=0, atol=0)
    second, _ = module.corrupt(group[1:], keys(), first=1)  # as the first of another size
    torch.testing.assert_close(second, x[4:], rtol=0, atol=0)
    other, _ = module.corrupt(group, keys(epoch=1))
    assert (other != x).flatten(1).any(1).all() and (x[0] != x[4]).any()
    assert (hidden[:, 0, ::4, ::4].sum((1, 2)) == 39).all()  # ceil(0.6 * 64)


@pytest.mark.parametrize("mask", ["token", "mean", "noise"])
def test_masked_patches_are_filled_and_the_others_stay(mask: str) -> None:
    module, group = build(mask=mask), view(b=64)
    if module.token is not None:
        nn.init.constant_(module.token, 3)
    x, hidden = module.corrupt(group, keys(64))
    hidden = hidden.expand_as(x)
    torch.testing.assert_close(x[~hidden], group[0][~hidden])
    filled = x[hidden].detach()
    deviation = {"token": 0.0, "mean": 0.0, "noise": 1.0}[mask]
    assert float(filled.mean()) == pytest.approx(3 if mask == "token" else 0, abs=0.02)
    assert float(filled.std()) == pytest.approx(deviation, abs=0.02)
    assert not torch.isclose(filled, group[0][hidden]).float().mean() > 0.01


def test_with_noise_every_pixel_is_predicted() -> None:
    """The denoising autoencoder: targets are the clean pixels."""
    module, group = build(ratio=0, noise=0.5).eval(), view(b=32)
    x, hidden = module.corrupt(group, keys(32))
    assert hidden.all() and module.token is None
    assert float((x - group[0]).std()) == pytest.approx(0.5, abs=0.01)
    predicted = module.head(module.encoder.pyramid(x)[-1])
    loss = outputs(module, [group])["loss"]
    torch.testing.assert_close(loss, (predicted - group[0]).abs().mean())


@pytest.mark.parametrize(
    ("encoder", "side", "stride"),
    [
        (SMALL, 32, 8),
        (EncoderConfig("tu-convnext_atto"), 64, 32),
        (EncoderConfig("tu-vit_tiny_patch16_224"), 32, 16),
    ],
    ids=["resnet", "convnext", "vit"],
)
def test_gradients_reach_all_of_an_encoder(encoder: EncoderConfig, side: int, stride: int) -> None:
    module = build(encoder, patch=4)
    assert module.stride == stride and module.head[0].out_channels == 3 * stride**2
    module.expect_views([side, stride, stride], mean=GREY, std=GREY)
    outputs(module, [view(side=side), view(v=2, side=stride)])["loss"].backward()
    missed = [
        n
        for n, p in module.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    assert not missed


def test_views_of_two_sizes_count_one_by_one() -> None:
    module = build().eval()
    large, small = view(), view(v=3, side=16)
    alone = [float(outputs(module, [group])["loss"].detach()) for group in (large,)]
    both = outputs(module, [large, small])["loss"]
    corrupted, hidden = module.corrupt(small, keys(), first=1)
    predicted = module.head(module.encoder.pyramid(corrupted)[-1])
    where = hidden.expand_as(predicted)
    rest = (predicted - small.flatten(0, 1))[where].abs().mean()
    assert float(both.detach()) == pytest.approx((alone[0] + 3 * float(rest.detach())) / 4)


def test_it_learns_to_fill_in_what_is_smooth() -> None:
    """Images of one colour each, of which the visible patches tell: far below the trivial loss."""
    module = build(EncoderConfig(), mask="mean", patch=8)
    colours = torch.rand(1, 8, 3, 1, 1, generator=torch.Generator().manual_seed(2))
    group = (4 * colours - 2).expand(-1, -1, -1, 32, 32).contiguous()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    for step in range(25):
        found = outputs(module, [group], keys(8, epoch=step))
        found["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(found["loss"].detach()) < 0.4 * float(found["trivial"])


def test_what_is_shown_keeps_the_visible_pixels() -> None:
    module, group = build().eval(), view()
    shown = module.shown(group, keys())
    x, hidden = module.corrupt(group, keys())
    assert list(shown) == ["image", "masked", "predicted"]
    hidden = hidden.expand_as(x)
    torch.testing.assert_close(shown["predicted"][~hidden], group[0][~hidden])
    assert (shown["predicted"][hidden] != group[0][hidden]).all()
    assert list(build(predict="hog").eval().shown(group, keys())) == ["image", "masked"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratio": 0.0}, "nothing is hidden, so nothing can be predicted"),
        ({"ratio": 0.0, "noise": 0.1, "mask": "noise"}, "mask=noise has no effect with ratio=0"),
        ({"ratio": 1.0}, "ratio=1: use 0 to 0.99"),
        ({"noise": -1.0}, "noise=-1: use 0 or more"),
    ],
)
def test_numbers_that_cannot_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimMIMConfig(**changes)


def test_views_and_patches_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"views of 36 px are no whole patches .*: use 32 px"):
        build().expect_views([36], mean=GREY, std=GREY)
    with pytest.raises(ValueError, match=r"a view of 8 px is one patch.*: set method\.patch=2"):
        build().expect_views([16, 8], mean=GREY, std=GREY)
    build(patch=2).expect_views([8], mean=GREY, std=GREY)
    with pytest.raises(ValueError, match="none divides the encoder's stride of 8 px and patches"):
        build(predict="hog", patch=3)
