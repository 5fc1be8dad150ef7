"""Frozen teachers: what they compute, and files that do not fit."""

import shutil
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.nn.encoder_file import EncoderFacts, save_encoder
from genseg.nn.teacher import load_teacher

VIT, CONVNEXT = "test_vit", "test_convnext"  # timm's smallest
GREY = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a ViT and of a ConvNeXt as timm names them, and a run with an encoder."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    for name in (VIT, CONVNEXT):
        net = timm.create_model(name, pretrained=False)
        save_file(net.state_dict(), folder / f"{name}.safetensors", {"timm": name})
    (folder / "run").mkdir()
    facts = EncoderFacts(EncoderConfig(), "moco", GREY, GREY, 64)
    save_encoder(build_encoder(EncoderConfig())[0], folder / "run" / "encoder.safetensors", facts)
    return folder


def test_the_features_of_a_vit_are_its_patch_tokens_row_by_row(files: Path) -> None:
    teacher = load_teacher(str(files / f"{VIT}.safetensors"))
    teacher.precision = torch.float32
    net = timm.create_model(VIT, pretrained=False, dynamic_img_size=True)
    net.load_state_dict(load_file(files / f"{VIT}.safetensors"))
    x = torch.randn(2, 3, 48, 80)  # no square, and not the side of its position embeddings
    tokens = net.eval().forward_features(x)[:, net.num_prefix_tokens :]
    found = teacher(x)
    assert found.shape == (2, teacher.width, 48 // teacher.stride, 80 // teacher.stride)
    for y in range(found.shape[2]):
        for i in range(found.shape[3]):
            torch.testing.assert_close(found[:, :, y, i], tokens[:, y * found.shape[3] + i])


def test_the_features_of_a_convnext_are_its_last_stage(files: Path) -> None:
    teacher = load_teacher(str(files / f"{CONVNEXT}.safetensors"))
    teacher.precision = torch.float32
    net = timm.create_model(CONVNEXT, pretrained=False)
    net.load_state_dict(load_file(files / f"{CONVNEXT}.safetensors"))
    x = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(teacher(x), net.eval().forward_features(x))
    assert (teacher.stride, teacher(x).shape[2:]) == (32, (2, 3))


def test_a_run_is_a_teacher(files: Path) -> None:
    teacher = load_teacher(str(files / "run"))
    teacher.precision = torch.float32
    encoder, _ = build_encoder(EncoderConfig(weights=str(files / "run")))
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(teacher(x), encoder.eval().pyramid(x)[-1])
    assert (teacher.stride, teacher.width, teacher.facts.mean) == (32, 512, GREY)


def test_it_stays_frozen_and_in_evaluation_mode(files: Path) -> None:
    teacher = load_teacher(str(files / f"{VIT}.safetensors")).train()
    assert not any(m.training for m in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not teacher(torch.randn(1, 3, 32, 32, requires_grad=True)).requires_grad


def test_bf16_is_near_float32_and_another_key(files: Path) -> None:
    teacher = load_teacher(str(files / f"{VIT}.safetensors"))
    x = torch.randn(1, 3, 64, 64)
    found, keys = [], set()
    for precision in (torch.float32, torch.bfloat16):
        teacher.precision = precision
        found.append(teacher(x))
        keys.add(teacher.key)
    assert found[1].dtype == torch.float32
    assert torch.cosine_similarity(*found).min() > 0.99
    assert len(keys) == 2


def test_key_names_of_torch_hub(tmp_path: Path) -> None:
    """DINOv2 with registers: its class token has its position embedding apart, and registers have
    another name; the architecture is known by the shapes."""
    torch.manual_seed(0)
    name = "vit_small_patch14_reg4_dinov2"
    net = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
    own = {key: torch.randn_like(x) * 0.02 for key, x in net.state_dict().items()}
    net.load_state_dict(own)
    place = torch.randn(1, 1, 384)
    hub = {key: x for key, x in own.items() if key not in ("cls_token", "reg_token", "pos_embed")}
    hub |= {
        "register_tokens": own["reg_token"],
        "cls_token": own["cls_token"] - place,
        "pos_embed": torch.cat([place, own["pos_embed"]], 1),
        "mask_token": torch.zeros(1, 384),
    }
    save_file(hub, tmp_path / "hub.safetensors")
    teacher = load_teacher(str(tmp_path / "hub.safetensors"))
    teacher.precision = torch.float32
    x = torch.randn(1, 3, 28, 28)
    expected = net.eval().forward_features(x)[:, 5:].mT.unflatten(2, (2, 2))
    torch.testing.assert_close(teacher(x), expected, atol=1e-4, rtol=1e-4)
    assert teacher.facts.name == name
    assert teacher.facts.loaded.unused == ("mask_token",)


def test_a_tag_is_looked_for_on_this_machine_alone(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = "test_vit.r160_in1k"
    with pytest.raises(ValueError, match=r"not on this machine.*hf download timm/.*--download"):
        load_teacher(tag)
    with pytest.raises(ValueError, match="cannot be fetched from timm/"):  # tests are offline
        load_teacher(tag, download=True)
    hub = tmp_path / "models--timm--test_vit.r160_in1k"  # as the hub lays files out
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text("abc")
    (hub / "snapshots" / "abc").mkdir(parents=True)
    shutil.copy(files / f"{VIT}.safetensors", hub / "snapshots" / "abc" / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    assert load_teacher(tag).facts.name == tag
    with pytest.raises(ValueError, match="did you mean test_vit"):
        load_teacher("test_vot.r160_in1k")


def test_what_does_not_fit_is_an_error_that_names_it(files: Path, tmp_path: Path) -> None:
    file = files / f"{VIT}.safetensors"
    tensors = load_file(file)
    bare = tmp_path / "bare.safetensors"
    save_file(tensors, bare)
    with pytest.raises(
        ValueError, match="does not say its architecture.*--teacher-name NAME, or teacher_name=NAME"
    ):
        load_teacher(str(bare))
    assert load_teacher(str(bare), name=VIT).facts.name == VIT
    half = tmp_path / "half.safetensors"
    save_file(
        {k: x for k, x in tensors.items() if "blocks.3" not in k} | {"odd": torch.zeros(1)}, half
    )
    with pytest.raises(ValueError, match=r"missing \(blocks.3.*3 unused .*odd"):
        load_teacher(str(half), name=VIT)
    with pytest.raises(ValueError, match="does not fit the architecture deit_tiny_patch16_224"):
        load_teacher(str(bare), name="deit_tiny_patch16_224")
    with pytest.raises(ValueError, match="does not fit the architecture test_convnext"):
        load_teacher(str(bare), name=CONVNEXT)
    # timm would resample the patches in silence
    with pytest.raises(ValueError, match="patch_embed.proj.weight is .*16, 16"):
        load_teacher(str(bare), name="vit_small_patch14_dinov2")
    with pytest.raises(ValueError, match="no ViT and no ConvNeXt"):
        load_teacher(str(bare), name="resnet18")
    with pytest.raises(ValueError, match="did you mean .*test_vit"):
        load_teacher(str(bare), name="test_vits")
    with pytest.raises(ValueError, match="hf-hub:timm/test_vit is no name of an architecture"):
        load_teacher(str(bare), name="hf-hub:timm/test_vit")  # timm would ask the network
    with pytest.raises(ValueError, match="there is neither"):
        load_teacher(str(tmp_path))


def test_sides_and_memory(files: Path) -> None:
    teacher = load_teacher(str(files / f"{VIT}.safetensors"))
    with pytest.raises(ValueError, match="side=50.*patches of 16 pixels.*use 48 or 64"):
        teacher.check_side(side=50)
    with pytest.raises(ValueError, match="height=50"):
        teacher(torch.zeros(1, 3, 50, 64))
    with pytest.raises(ValueError, match="more memory than there is.*smaller side"):
        teacher(torch.zeros(1, 3, 1, 1).expand(1, 3, 1_600_000, 1_600_000))
