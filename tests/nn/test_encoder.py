"""The encoder: stems, weights, and the libraries that read what it writes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from genseg.nn.encoder import EncoderConfig, build_encoder, load_weights, torchvision_state
from genseg.nn.encoder_file import EncoderFacts, facts_of, save_encoder
from genseg.nn.momentum import teacher_of
from genseg.workflows.export.encoder import export
from genseg.workflows.export.timm_folder import save_timm_folder

FACTS = EncoderFacts(
    encoder=EncoderConfig(),
    method="byol",
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
    size=64,
    images_seen=100,
    fingerprint="abc",
    genseg="0.1.0",
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    encoder, _ = build_encoder(EncoderConfig())
    for m in encoder.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_()
    path = tmp_path_factory.mktemp("run") / "encoder.safetensors"
    save_encoder(encoder, path, FACTS)
    return encoder.eval(), path


def test_torchvision_loads_it_and_computes_the_same(saved: tuple[nn.Module, Path]) -> None:
    encoder, path = saved
    model = torchvision.models.resnet18()
    report = model.load_state_dict(load_file(path), strict=False)
    assert (report.missing_keys, report.unexpected_keys) == (["fc.weight", "fc.bias"], [])
    model.fc = nn.Identity()
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model.eval()(x), encoder(x))


def test_timm_loads_the_folder_and_computes_the_same(
    saved: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    encoder, path = saved
    assert save_timm_folder(path, tmp_path / "timm")
    model = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model.eval()(x), encoder(x))
    assert model.pretrained_cfg["mean"] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(("name", "first"), [("resnet50", "conv1"), ("tu-resnet10t", "conv1.0")])
def test_timm_adapts_the_folder_to_classes_and_channels(
    name: str, first: str, tmp_path: Path
) -> None:
    encoder, _ = build_encoder(EncoderConfig(name))
    save_encoder(encoder, tmp_path / "e.safetensors", replace(FACTS, encoder=EncoderConfig(name)))
    assert save_timm_folder(tmp_path / "e.safetensors", tmp_path / "timm")
    own = torchvision_state(encoder)
    new = {"fc.weight", "fc.bias"}
    for changed, unlike in (
        ({"num_classes": 5}, new),
        ({"in_chans": 1}, {f"{first}.weight"}),
        ({}, set()),
    ):
        model = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True, **changed)
        state = model.state_dict()
        assert {k for k, v in state.items() if k not in own or not torch.equal(v, own[k])} == unlike
        assert model(torch.zeros(2, changed.get("in_chans", 3), 64, 64)).shape == (
            2,
            changed.get("num_classes", model.num_features),
        )
        if "in_chans" in changed:  # grey images are seen as by the sum over channels
            torch.testing.assert_close(
                state[f"{first}.weight"], own[f"{first}.weight"].sum(1, keepdim=True)
            )
    timm.create_model(
        f"local-dir:{tmp_path / 'timm'}", pretrained=True, features_only=True, in_chans=1
    )


def test_smp_loads_it(saved: tuple[nn.Module, Path]) -> None:
    encoder, path = saved
    model = smp.Unet("resnet18", encoder_weights=None)
    model.encoder.load_state_dict(load_file(path))
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model.eval().encoder(x)[-1], encoder.pyramid(x)[-1])


def test_mask_rcnn_loads_it_by_a_prefix(saved: tuple[nn.Module, Path], tmp_path: Path) -> None:
    encoder, path = saved
    export(path, tmp_path / "body.pth", prefix="backbone.body.")
    backbone = torchvision.models.detection.backbone_utils.resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    model = torchvision.models.detection.MaskRCNN(backbone, num_classes=2)
    report = model.load_state_dict(
        torch.load(tmp_path / "body.pth", weights_only=True), strict=False
    )
    assert report.unexpected_keys == []
    assert not [k for k in report.missing_keys if k.startswith("backbone.body.")]
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(model.eval().backbone.body(x)["3"], encoder.pyramid(x)[-1])


def test_metadata_comes_back_as_it_went_in(saved: tuple[nn.Module, Path], tmp_path: Path) -> None:
    assert facts_of(saved[1]) == FACTS
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="was not written by genseg"):
        facts_of(tmp_path / "other.safetensors")


def test_weights_come_from_a_run_directory_or_a_file_and_the_rest_is_said(
    saved: tuple[nn.Module, Path],
) -> None:
    encoder, path = saved
    for weights in (str(path), str(path.parent)):
        again, report = build_encoder(EncoderConfig(weights=weights))
        assert (
            report is not None
            and len(report.loaded) == 120
            and not (report.missing or report.unused)
        )
        for name, tensor in torchvision_state(again).items():
            torch.testing.assert_close(tensor, torchvision_state(encoder)[name])
    small, report = build_encoder(EncoderConfig(stem="small", weights=str(path)))
    assert report is not None and report.misshapen == ("conv1.weight",)
    assert "1 misshapen (conv1.weight)" in str(report)


def test_weights_that_cannot_be_used_are_errors(tmp_path: Path) -> None:
    encoder, _ = build_encoder(EncoderConfig())
    with pytest.raises(ValueError, match="there is no file"):
        load_weights(encoder, tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights at all")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load_weights(encoder, tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="no tensor of .* fits this encoder"):
        load_weights(encoder, tmp_path / "other.safetensors")
    save_file(
        {"bn1.num_batches_tracked": torch.zeros((), dtype=torch.long)},
        tmp_path / "counter.safetensors",
    )
    with pytest.raises(ValueError, match="no tensor of .* fits this encoder"):
        load_weights(encoder, tmp_path / "counter.safetensors")
    with pytest.raises(
        ValueError, match=r"there is no file imagenett; resnet18 knows the tags imagenet, ssl, swsl"
    ):
        build_encoder(EncoderConfig(weights="imagenett"))
    with pytest.raises(ValueError, match="there is no file typo; tu-resnet18 knows the tags timm"):
        build_encoder(EncoderConfig(name="tu-resnet18", weights="typo"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "resnt18",
            r"^encoder\.name=resnt18: there is no such encoder; did you mean resnet18, [^,]+, "
            r"[^,]+\?$",
        ),
        ("tu-resnt18", r"did you mean tu-resnet18, "),
        ("zzzzzz", r"give one of segmentation-models-pytorch, or tu-NAME"),
        (
            "tu-beit_base_patch16_224",
            r"^encoder\.name=tu-beit_base_patch16_224: .* is no plain ViT; use a pyramid encoder",
        ),
    ],
)
def test_an_encoder_that_cannot_be_names_one_that_can(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_encoder(EncoderConfig(name=name))


def test_swin_takes_images_of_any_size(tmp_path: Path) -> None:
    encoder, _ = build_encoder(EncoderConfig(name="tu-swin_tiny_patch4_window7_224"))
    assert all(p.requires_grad for n, p in encoder.net.named_parameters() if "layers_3" in n)
    encoder.check_size(small=64, usual=224)
    assert [tuple(f.shape[2:]) for f in encoder.eval().pyramid(torch.zeros(1, 3, 64, 96))][-1] == (
        2,
        3,
    )


def test_an_encoder_for_one_size_says_which() -> None:
    """MaxViT's windows divide no feature map of 64 px."""
    encoder, _ = build_encoder(EncoderConfig(name="tu-maxvit_tiny_tf_224"))
    encoder.check_size(size=224)
    with pytest.raises(
        ValueError, match=r"views\.a\.size=64: the encoder takes no images of 64 px .*; use 224"
    ):
        encoder.check_size(**{"views.a.size": 64})


def test_timm_encoders_export_timms_own_names(tmp_path: Path) -> None:
    encoder, _ = build_encoder(EncoderConfig(name="tu-resnet18"))
    assert set(torchvision_state(encoder)) == set(
        timm.create_model("resnet18", num_classes=0).state_dict()
    )
    save_encoder(
        encoder, tmp_path / "e.safetensors", replace(FACTS, encoder=EncoderConfig("tu-resnet18"))
    )
    assert save_timm_folder(tmp_path / "e.safetensors", tmp_path / "timm")
    timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True)
    assert json.loads((tmp_path / "timm" / "config.json").read_text())["architecture"] == "resnet18"


def test_what_timm_computes_otherwise_has_no_timm_folder(tmp_path: Path) -> None:
    # smp's has the names, and one ReLU less
    encoder, _ = build_encoder(EncoderConfig(name="densenet121"))
    assert {*torchvision_state(encoder)} == {
        *timm.create_model("densenet121", num_classes=0).state_dict()
    }
    facts = replace(FACTS, encoder=EncoderConfig("densenet121"))
    save_encoder(encoder, tmp_path / "e.safetensors", facts)
    assert (
        not save_timm_folder(tmp_path / "e.safetensors", tmp_path / "timm")
        and not (tmp_path / "timm").exists()
    )


def test_branches_to_other_levels_are_trained_where_these_are_used() -> None:
    config = EncoderConfig(name="tu-hrnet_w18_small")
    frozen = [
        sum(not p.requires_grad for p in build_encoder(config, pyramid=p)[0].parameters())
        for p in (False, True)
    ]
    assert frozen[0] > 50 and frozen[1] == 0


@pytest.mark.parametrize("name", ["resnet18", "tu-resnet18"])
def test_the_small_stem_keeps_the_resolution(name: str) -> None:
    encoder, _ = build_encoder(EncoderConfig(name=name, stem="small"))
    shapes = [tuple(f.shape[2:]) for f in encoder.pyramid(torch.zeros(1, 3, 32, 32))]
    assert shapes[-1] == (4, 4)
    with pytest.raises(ValueError, match="made for ResNets"):
        build_encoder(EncoderConfig(name="vgg11", stem="small"))


def test_a_teacher_is_an_equal_copy_without_gradient() -> None:
    student = nn.Linear(2, 2)
    teacher = teacher_of(student)
    assert torch.equal(teacher.weight, student.weight) and teacher.weight is not student.weight
    assert not any(p.requires_grad for p in teacher.parameters())


def names_of_stages(name: str) -> list[set[str]]:
    encoder, _ = build_encoder(EncoderConfig(name))
    names = {p: n for n, p in encoder.net.named_parameters()}
    return [{names[p] for p in stage} for stage in encoder.stages()]


def test_stages_are_those_of_the_pyramid() -> None:
    prefixes = [{n.partition(".")[0] for n in stage} for stage in names_of_stages("resnet18")]
    assert prefixes == [{"conv1", "bn1"}, {"layer1"}, {"layer2"}, {"layer3"}, {"layer4"}]


def test_stages_follow_depth_where_modules_are_registered_otherwise() -> None:
    blocks = [{int(n.split(".")[1]) for n in stage} for stage in names_of_stages("mobilenet_v2")]
    assert blocks == [{0, 1}, {2, 3}, {4, 5, 6}, set(range(7, 14)), set(range(14, 19))]
    prefixes = [{n.partition(".")[0] for n in stage} for stage in names_of_stages("mit_b0")]
    assert prefixes == [{f"patch_embed{i}", f"block{i}", f"norm{i}"} for i in (1, 2, 3, 4)]
