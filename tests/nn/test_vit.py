"""Plain ViTs as encoders of one level."""

from pathlib import Path

import pytest
import timm
import torch

from genseg.nn.encoder import EncoderConfig, build_encoder, load_weights
from genseg.nn.encoder_file import EncoderFacts, save_encoder

TINY = EncoderConfig("tu-vit_tiny_patch16_224")


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
