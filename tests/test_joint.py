"""Method and alpha task as one module: one loss, one backward pass, and neither disturbs the
other."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from processes import forked
from torch import Tensor, nn

from genseg.alpha.decoder import AlphaDecoder, DecoderConfig
from genseg.alpha.objective import ObjectiveConfig
from genseg.core.schedule import Plan
from genseg.data.composites.compose import ComposeConfig, Composites
from genseg.joint import AlphaConfig, Inputs, Joint, frozen_statistics
from genseg.methods import METHODS
from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.nn.groups import Grouped, group_norms

SMALL = DecoderConfig(channels=(16, 16, 8, 8), embedding=5, code=6, hidden=3, tower=8)
PLAN = Plan(images=80, batch=8, total=20)
SIZE = 64
TERMS = ("objectness", "mask", "amodal", "quality")


def build(name: str | None, weight: float = 1.0, contrast: float = 0.0) -> Joint:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig())[0]
    method = None
    if name is not None:
        kind, config = METHODS[name]
        changes = {"simclr": {"hidden": 32, "dim": 16}, "byol": {"hidden": 32, "dim": 16}}[name]
        method = kind(encoder, config(**changes), PLAN)
    compose, objective = ComposeConfig(size=SIZE, shared=3), ObjectiveConfig(contrast=contrast)
    return Joint(
        encoder,
        method,
        AlphaConfig(weight=weight, decoder=SMALL, compose=compose, objective=objective),
    )


@pytest.mark.parametrize("images", [4, 16])
def test_composites_are_normalised_as_one_batch_though_views_are_in_groups(images: int) -> None:
    encoder, plain = (build_encoder(EncoderConfig())[0].train() for _ in range(2))
    plain.load_state_dict(encoder.state_dict())
    group_norms(encoder, 8)
    x = torch.randn(images, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with frozen_statistics(encoder, frozen=True), torch.no_grad():
        torch.testing.assert_close(encoder.pyramid(x)[-1], plain.pyramid(x)[-1])
    grouped = [m for m in encoder.modules() if isinstance(m, Grouped)]
    assert (
        len(grouped) == 20
        and {m.groups for m in grouped} == {8}
        and {m.momentum for m in grouped} == {0.1}
    )


DISCS = [(18, 20, 6), (40, 44, 13), (32, 30, 22)]


def inputs_of(
    images: int, *, views: bool = True, layers: tuple[int, ...] = (0, 1), seed: int = 0
) -> Inputs:
    """Random views and images; on each image the same discs."""
    g = torch.Generator().manual_seed(seed)
    at = torch.arange(SIZE) + 0.5
    masks = [
        (at[:, None] - y) ** 2 + (at - x) ** 2 < r**2 for y, x, r in (DISCS[k] for k in layers)
    ]
    alpha = (
        torch.stack(masks * images).byte() * 255
        if masks
        else torch.zeros(0, SIZE, SIZE, dtype=torch.uint8)
    )
    return Inputs(
        views=[torch.randn(2, images, 3, 32, 32, generator=g)] * views,
        composed=torch.randn(images, 3, SIZE, SIZE, generator=g),
        composites=Composites(
            image=torch.zeros(images, SIZE, SIZE, 3, dtype=torch.uint8),
            visible=alpha,
            amodal=alpha,
            owner=torch.arange(images).repeat_interleave(len(layers)),
            known=torch.ones(len(alpha), dtype=torch.bool),
            ignored=torch.zeros(images, SIZE, SIZE, dtype=torch.bool),
            source=torch.arange(len(layers)).repeat(images),
        ),
    )


def part_of(whole: Inputs, rank: int) -> Inputs:
    """One half of the images, with their layers."""
    half = len(whole.composed) // 2
    images = slice(rank * half, (rank + 1) * half)
    c = whole.composites
    mine = (c.owner >= images.start) & (c.owner < images.stop)
    return Inputs(
        [v[:, images] for v in whole.views],
        whole.composed[images],
        Composites(
            c.image[images],
            c.visible[mine],
            c.amodal[mine],
            c.owner[mine] - images.start,
            c.known[mine],
            c.ignored[images],
            c.source[mine],
        ),
    )


def freeze_batch_norm(module: nn.Module) -> None:
    for m in module.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.eval()


@pytest.mark.parametrize("weight", [1.0, 0.3, 0.0])
def test_the_loss_is_contrast_plus_weighted_terms(weight: float) -> None:
    joint, inputs = build("simclr", weight), inputs_of(3)
    torch.manual_seed(1)
    out = {k: v.detach() for k, v in joint(inputs).items()}
    alone = build("simclr").method(inputs.views)
    torch.testing.assert_close(out["contrast"], alone["loss"].detach())
    torch.testing.assert_close(out["embeddings"], alone["embeddings"])
    torch.testing.assert_close(out["loss"], out["contrast"] + weight * sum(out[t] for t in TERMS))
    assert all(float(out[t]) > 0 for t in TERMS) and 0 <= float(out["overlap"]) <= 1


def test_without_a_method_the_alpha_task_is_trained_alone() -> None:
    joint, inputs = build(None, 0.5), inputs_of(3, views=False)
    before = joint.encoder.net.bn1.running_mean.clone()
    out = joint(inputs)
    torch.testing.assert_close(out["loss"], 0.5 * sum(out[t] for t in TERMS))
    assert "contrast" not in out and joint.trivial(8) is None and joint.scheduled(0.5) == {}
    assert out["embeddings"].shape == (3, 512) and not out["embeddings"].requires_grad
    # the statistics are those of composites
    assert not torch.equal(joint.encoder.net.bn1.running_mean, before)
    for hook in (joint.begin_step, lambda: joint.before_step(0.1), lambda: joint.after_step(0.1)):
        hook()
    out["loss"].backward()
    assert all(p.grad is not None for p in joint.parameters() if p.requires_grad)


def test_gradients_reach_encoder_decoder_and_head() -> None:
    joint = build("byol")
    joint(inputs_of(3))["loss"].backward()
    reached = {
        n for n, p in joint.named_parameters() if p.grad is not None and p.grad.abs().max() > 0
    }
    assert reached == {n for n, p in joint.named_parameters() if p.requires_grad}
    for part in ("encoder.", "decoder.", "method.head", "method.predictor"):
        assert any(n.startswith(part) for n in reached)
    assert not any("teacher" in n for n in reached)


def test_instance_contrast_has_a_head_only_when_it_is_on() -> None:
    """Encoder, decoder and the other terms begin the same; the head is no part of what is
    exported."""
    off, on, inputs = build(None), build(None, contrast=0.5), inputs_of(4, views=False)
    before, after = off.state_dict(), on.state_dict()
    assert (
        {n for n in after if n not in before}
        == {n for n in after if n.startswith("head.")}
        != set()
    )
    assert all(torch.equal(after[n], x) for n, x in before.items())
    found = []
    for joint in (off, on):
        torch.manual_seed(1)
        found.append({k: v.detach() for k, v in joint(inputs).items()})
    assert found[1].keys() - found[0].keys() == {"instances"} and float(found[1]["instances"]) > 0
    assert all(torch.equal(found[1][t], found[0][t]) for t in TERMS)
    torch.testing.assert_close(found[1]["loss"], found[0]["loss"] + found[1]["instances"])


@pytest.mark.parametrize("contrast", [0.0, 0.5])
def test_every_parameter_has_a_gradient_without_any_layer(contrast: float) -> None:
    joint = build("simclr", contrast=contrast)
    loss = joint(inputs_of(3, layers=()))["loss"]
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert all(
        p.grad is not None and p.grad.isfinite().all()
        for p in joint.parameters()
        if p.requires_grad
    )


def statistics(module: nn.Module) -> dict[str, Tensor]:
    return {k: x.clone() for k, x in module.state_dict().items() if "running" in k}


def test_composites_leave_the_encoders_statistics_to_its_views() -> None:
    joint, twin, inputs = build("simclr"), build("simclr"), inputs_of(3)
    twin.method(inputs.views)
    joint(inputs)
    got, want = statistics(joint.encoder), statistics(twin.encoder)
    assert len(got) > 30 and all(torch.equal(got[k], want[k]) for k in want)
    assert all(m.momentum == 0.1 for m in joint.encoder.modules() if isinstance(m, nn.BatchNorm2d))
    before = statistics(build("simclr").decoder)
    assert any(not torch.equal(x, before[k]) for k, x in statistics(joint.decoder).items())


def test_frozen_statistics_are_thawed_also_after_an_error() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4, momentum=None))
    x = torch.randn(2, 3, 5, 5) + 3
    before = statistics(net)
    want = net(x)
    net[1].reset_running_stats(), net[2].reset_running_stats()
    with pytest.raises(RuntimeError, match="stop"), frozen_statistics(net, frozen=True):
        torch.testing.assert_close(net(x), want)  # normalised by the batch as ever
        assert all(torch.equal(x, before[k]) for k, x in statistics(net).items())
        raise RuntimeError("stop")
    assert net[1].momentum == 0.1 and net[2].momentum is None
    with frozen_statistics(net, frozen=False):
        net(x)
    assert not torch.equal(net[1].running_mean, before["1.running_mean"])


# Two processes


def gradients(inputs: Inputs) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients with batch norms set aside and nothing drawn at random."""
    joint = build("simclr", contrast=0.5)
    freeze_batch_norm(joint)
    draw = torch.randperm
    torch.randperm = lambda n, device=None: torch.arange(n, device=device)
    try:
        loss = joint(inputs)["loss"]
    finally:
        torch.randperm = draw
    loss.backward()
    return float(loss.detach()), {
        n: p.grad for n, p in joint.named_parameters() if p.grad is not None
    }


def without(whole: Inputs, bare: tuple[int, ...]) -> Inputs:
    """The same, with no layer on some of the images."""
    c = whole.composites
    kept = torch.tensor([o not in bare for o in c.owner.tolist()])
    layers = {k: getattr(c, k)[kept] for k in ("visible", "amodal", "owner", "known", "source")}
    return replace(whole, composites=replace(c, **layers))


def _one_rank(rank: int, folder: str, bare: tuple[int, ...]) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    loss, found = gradients(part_of(without(inputs_of(4), bare), rank))
    for g in found.values():
        torch.distributed.all_reduce(g)
        g /= 2
    torch.save({"loss": loss, "gradients": found}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("bare", [(), (0,), (0, 1)])
def test_two_processes_equal_one_with_the_whole_batch(
    bare: tuple[int, ...], tmp_path: Path
) -> None:
    """2 x 2 images equal 1 x 4, also when one rank has fewer layers than the other, or none."""
    loss, want = gradients(without(inputs_of(4), bare))
    forked(_one_rank, str(tmp_path), bare, count=2)
    ranks = [torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in (0, 1)]
    assert (ranks[0]["loss"] + ranks[1]["loss"]) / 2 == pytest.approx(loss, abs=1e-4)
    assert want.keys() == ranks[0]["gradients"].keys()
    for name, g in want.items():
        scale = float(g.abs().max())
        torch.testing.assert_close(
            ranks[0]["gradients"][name], g, atol=2e-3 * scale + 1e-7, rtol=0, msg=name
        )


def test_the_decoder_is_the_one_of_the_config() -> None:
    assert isinstance(build(None).decoder, AlphaDecoder)
    for values, message in (
        ({"share": 0.0}, "share"),
        ({"weight": -1.0}, "weight"),
        ({"side": 16}, "side"),
    ):
        with pytest.raises(ValueError, match=message):
            AlphaConfig(**values)


def test_instance_contrast_needs_shared_cut_outs() -> None:
    with pytest.raises(ValueError, match="set alpha.compose.shared=3"):
        AlphaConfig(objective=ObjectiveConfig(contrast=0.5))
    AlphaConfig(objective=ObjectiveConfig(contrast=0.5), compose=ComposeConfig(shared=1))
