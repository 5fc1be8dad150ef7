"""Plain ViTs as encoders of one level."""

from dataclasses import asdict
from pathlib import Path

import pytest
import timm
import torch

from genseg.nn.encoder import EncoderConfig, build_encoder, load_weights
from genseg.nn.encoder_file import EncoderFacts, save_encoder

TINY = EncoderConfig("tu-vit_tiny_patch16_224")
DETAIL = EncoderConfig("tu-vit_tiny_patch16_224", "detail")


def test_the_map_is_timms_patch_tokens_and_files_have_timms_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder, _ = build_encoder(TINY)
    encoder.eval()
    facts = EncoderFacts(TINY, "simmim", (0.5,) * 3, (0.25,) * 3, 48)
    save_encoder(encoder, tmp_path / "encoder.safetensors", facts)
    plain = timm.create_model("vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True).eval()
    timm.models.load_checkpoint(plain, str(tmp_path / "encoder.safetensors"))
    x = torch.randn(2, 3, 48, 32)
    with torch.no_grad():
        tokens = plain.forward_features(x)[:, 1:]  # behind the class token
        torch.testing.assert_close(encoder.pyramid(x)[-1].flatten(2).mT, tokens)
        torch.testing.assert_close(encoder(x), tokens.mean(1))
    assert encoder.width == 192 and encoder.stride() == 16
    other, _ = build_encoder(TINY)
    assert not load_weights(other, tmp_path / "encoder.safetensors").missing


def test_a_side_that_the_patches_do_not_divide_and_a_task_that_wants_a_pyramid() -> None:
    encoder, _ = build_encoder(TINY)
    encoder.check_size(size=32)
    with pytest.raises(ValueError, match=r"size=40: the encoder takes no images of 40 px"):
        encoder.check_size(size=40)
    with pytest.raises(ValueError, match="a plain ViT has one level, and the alpha task"):
        build_encoder(TINY, pyramid=True)


def test_convolutions_beside_it_give_a_pyramid(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder, _ = build_encoder(DETAIL, pyramid=True)
    plain, _ = build_encoder(TINY)
    plain.net.load_state_dict(
        {k: v for k, v in encoder.net.state_dict().items() if k.startswith("model")}
    )
    x = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        levels, tokens = encoder.eval().pyramid(x), plain.eval().pyramid(x)[-1]
    assert [tuple(level.shape[1:]) for level in levels] == [
        (width, 96 // s, 64 // s)
        for width, s in zip(encoder.net.out_channels, (1, 2, 4, 8, 16, 32), strict=True)
    ]
    torch.testing.assert_close(levels[4], tokens)  # patches of 16: the image is seen as it is
    torch.testing.assert_close(levels[5][..., 1, 0], tokens[..., 2:4, :2].mean((2, 3)))
    assert all(p.requires_grad for n, p in encoder.named_parameters() if "detail" in n)
    facts = EncoderFacts(DETAIL, "none", (0.5,) * 3, (0.25,) * 3, 64)
    save_encoder(encoder, tmp_path / "encoder.safetensors", facts)
    again = build_encoder(EncoderConfig(**{**asdict(DETAIL), "weights": str(tmp_path)}))[1]
    assert again is not None and not (again.missing or again.unused or again.misshapen)


def test_patches_of_other_sizes_are_put_at_stride_16() -> None:
    encoder, _ = build_encoder(EncoderConfig("tu-vit_tiny_patch16_224", "detail"), pyramid=True)
    encoder.net.patch, seen = 14, []
    encoder.net.model.forward_intermediates = lambda x, **_: [
        seen.append(x.shape[2:]) or torch.zeros(1, 192, x.shape[2] // 14, x.shape[3] // 14)
    ]
    assert encoder.pyramid(torch.zeros(1, 3, 64, 128))[4].shape[2:] == (4, 8)
    assert [tuple(s) for s in seen] == [(56, 112)]


def test_what_has_a_pyramid_takes_no_such_stem() -> None:
    with pytest.raises(ValueError, match=r"stem=detail is for plain ViTs; resnet18 has"):
        build_encoder(EncoderConfig("resnet18", "detail"))
