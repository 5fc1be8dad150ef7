"""Distillation: its loss against a naive loop, what learns, what the teacher sees, and runs that go
on."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from genseg.cli import main
from genseg.core.schedule import Plan
from genseg.methods.distill import Distill, DistillConfig, at_places
from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.nn.encoder_file import EncoderFacts, save_encoder

PLAN = Plan(images=80, batch=8, total=20)
GREY, COLOURS = (0.5, 0.5, 0.5), (0.2, 0.3, 0.4)
SMALL = EncoderConfig(stem="small")  # its last maps have strides of 4 and 8


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT as timm names it, and a run of another colour scale."""
    folder = tmp_path_factory.mktemp("teachers")
    torch.manual_seed(0)
    net = timm.create_model("test_vit", pretrained=False)
    save_file(net.state_dict(), folder / "vit.safetensors", {"timm": "test_vit"})
    facts = EncoderFacts(EncoderConfig(), "moco", COLOURS, GREY, 64)
    save_encoder(build_encoder(EncoderConfig())[0], folder / "encoder.safetensors", facts)
    return folder


def build(teacher: Path, encoder: EncoderConfig = SMALL, **changes: object) -> Distill:
    torch.manual_seed(0)
    config = DistillConfig(teacher=str(teacher), **changes)
    module = Distill(build_encoder(encoder)[0], config, PLAN)
    module.teacher.precision = torch.float32
    module.expect_views([32], mean=GREY, std=GREY)
    for m in module.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.eval()
    return module


def make_views(b: int = 4, small: int = 0) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    groups = [torch.randn(2, b, 3, 32, 32, generator=g)]
    return groups + [torch.randn(small, b, 3, 16, 16, generator=g)] * bool(small)


def test_the_loss_is_a_naive_loop_over_places_and_views(files: Path) -> None:
    module = build(files / "vit.safetensors", side=64, dense=0.5, pooled=2.0)
    views = make_views(small=3)
    found = module(views)
    with torch.no_grad():
        taught = module.taught(views[0].flatten(0, 1))
        maps = module.encoder.pyramid(views[0].flatten(0, 1))[-2:]
        assert [m.shape[-1] for m in maps] == [8, 4] and taught.shape[2:] == (4, 4)
        dense = []
        for head, m in zip(module.dense, maps, strict=True):
            given, wanted = head(m).double(), at_places(taught, (m.shape[2], m.shape[3])).double()
            places = [
                1
                - float(given[n, :, y, x] @ wanted[n, :, y, x])
                / float(given[n, :, y, x].norm() * wanted[n, :, y, x].norm())
                for n in range(8)
                for y in range(m.shape[2])
                for x in range(m.shape[3])
            ]
            dense.append(np.mean(places))
        pooled = []
        for i in range(4):
            wanted_of = [taught[v * 4 + i].mean((1, 2)).double() for v in range(2)]
            directions = [w / w.norm() for w in wanted_of]
            for group in views:
                for v in range(len(group)):
                    p = module.pooled(module.encoder(group[v, i : i + 1]))[0].double()
                    d = directions[v] if group is views[0] else (directions[0] + directions[1]) / 2
                    pooled.append(1 - float(p @ d / (p.norm() * d.norm())))
    assert float(found["dense"].detach()) == pytest.approx(np.mean(dense), rel=1e-5)
    assert float(found["pooled"].detach()) == pytest.approx(np.mean(pooled), rel=1e-5)
    want = 0.5 * np.mean(dense) + 2 * np.mean(pooled)
    assert float(found["loss"].detach()) == pytest.approx(want, rel=1e-5)


def test_constant_features_have_the_trivial_loss(files: Path) -> None:
    module = build(files / "vit.safetensors")
    views = make_views()
    taught = module.taught(views[0].flatten(0, 1))
    unit = nn.functional.normalize
    with torch.no_grad():
        for head in (*module.dense, module.pooled):
            head.weight.zero_()
        # both levels are of other places than the teacher's 2 x 2
        for head, places in zip(module.dense, (8, 4), strict=True):
            head.bias.copy_(unit(at_places(taught, (places, places)), dim=1).mean((0, 2, 3)))
        module.pooled.bias.copy_(unit(taught.mean((2, 3)), dim=1).mean(0))
    found = module(views)
    torch.testing.assert_close(found["loss"].detach(), found["trivial"], atol=1e-5, rtol=1e-5)
    assert module.trivial(4) == pytest.approx(float(found["trivial"]))


@pytest.mark.parametrize(
    ("encoder", "levels"),
    [(SMALL, 2), (EncoderConfig("tu-convnext_atto"), 3), (EncoderConfig("tu-test_vit"), 1)],
    ids=["resnet", "convnext", "vit"],
)
def test_gradients_reach_the_student_and_never_the_teacher(
    files: Path, encoder: EncoderConfig, levels: int
) -> None:
    module = build(files / "vit.safetensors", encoder, levels=levels)
    views = [torch.randn(1, 2, 3, 64, 64), torch.randn(1, 2, 3, 32, 32)]
    module(views)["loss"].backward()
    named = {n: p for n, p in module.named_parameters() if p.requires_grad}
    assert not [n for n, p in named.items() if p.grad is None or not p.grad.any()]
    assert all(p.grad is None for p in module.teacher.parameters())
    assert (
        not [n for n in module.state_dict() if "teacher" in n] and not module.teacher.net.training
    )


def test_the_teacher_sees_pixels_as_it_has_learnt_from_them(files: Path) -> None:
    """A run of mean 0.2, 0.3, 0.4; views are normalised to mean 0.5."""
    module = build(files)
    pixels = torch.rand(2, 3, 32, 32)
    mean = torch.tensor(COLOURS)[:, None, None]
    want = module.teacher((pixels - mean) / 0.5)
    torch.testing.assert_close(module.taught((pixels - 0.5) / 0.5), want, atol=1e-4, rtol=1e-4)
    assert module.teacher.facts.mean == COLOURS


def test_a_ramp_stays_one_at_other_places() -> None:
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    # means of 4 are at 1.5, 5.5, ...; the first and last see the border
    torch.testing.assert_close(at_places(ramp, (4, 4))[0, 0, 1, 1:3], torch.tensor([5.5, 9.5]))
    assert at_places(ramp, (16, 16)) is ramp


def test_a_killed_run_ends_as_an_undisturbed_one_by_the_same_teacher_alone(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(4):
        picture = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"images/{i}.png"), picture)
    teacher = tmp_path / "teacher.safetensors"
    shutil.copy(files / "vit.safetensors", teacher)
    words = [
        *("pretrain", "--config", "distill", f"method.teacher={teacher}", "method.side=32"),
        *(f"data.path={tmp_path / 'images'}", "data.workers=0", "data.cache=0", "threads=1"),
        *("views.large.size=32", "views.small.count=1", "views.small.size=32", "batch_size=2"),
        *("steps=2", "checkpoint.every=1 steps", "probe.every=0 steps"),
    ]
    assert main([*words, f"run={tmp_path / 'run'}"]) == 0
    shown = capsys.readouterr()
    assert "method.teacher: test_vit, " in shown.out + shown.err
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path / "run", killed)
    (killed / "checkpoints/latest").write_text("step_00000001\n")
    assert main([*words, f"run={killed}"]) == 0
    for file in ("encoder.safetensors", "checkpoints/step_00000002/tensors.safetensors"):
        assert (killed / file).read_bytes() == (tmp_path / "run" / file).read_bytes()
    (killed / "checkpoints/latest").write_text("step_00000001\n")
    net = timm.create_model("test_vit", pretrained=False)
    save_file(net.state_dict(), teacher, {"timm": "test_vit"})
    capsys.readouterr()
    assert main([*words, f"run={killed}"]) == 2
    assert "the run has begun with another file of that name" in capsys.readouterr().err


def test_what_cannot_be(files: Path) -> None:
    with pytest.raises(ValueError, match="nothing is learnt"):
        DistillConfig(dense=0.0, pooled=0.0)
    with pytest.raises(ValueError, match=r"method\.teacher: distillation wants one"):
        Distill(build_encoder(SMALL)[0], DistillConfig(), PLAN)
    with pytest.raises(ValueError, match=r"method\.teacher=nowhere: there is no file"):
        build(Path("nowhere"))
    with pytest.raises(ValueError, match=r"method\.side=40: .* patches of 16 pixels.* 32 or 48"):
        build(files / "vit.safetensors", side=40)
    with pytest.raises(ValueError, match=r"method\.levels=2: the encoder has 1 level; use"):
        build(files / "vit.safetensors", EncoderConfig("tu-test_vit"), levels=2)
