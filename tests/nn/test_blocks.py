"""The blocks of an encoder: all of them in a row are the encoder."""

import pytest
import torch
from torch import nn

from genseg.nn.blocks import blocks_of
from genseg.nn.encoder import Encoder, EncoderConfig

BLOCKS = {
    "resnet18": 8,
    "resnet34": 16,
    "resnet50": 16,
    "tu-resnet18": 8,
    "tu-convnext_atto": 12,
    "tu-convnext_tiny": 18,
}


@pytest.mark.parametrize("name", BLOCKS)
def test_run_in_a_row_they_give_the_last_map(name: str) -> None:
    encoder = Encoder(EncoderConfig(name)).eval()
    stem, blocks = blocks_of(encoder)
    assert len(blocks) == BLOCKS[name]
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = nn.Sequential(*stem, *blocks)(x)
        torch.testing.assert_close(made, encoder.pyramid(x)[-1])


def test_the_small_stem_is_one_too() -> None:
    encoder = Encoder(EncoderConfig("resnet18", stem="small")).eval()
    stem, blocks = blocks_of(encoder)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        made = nn.Sequential(*stem, *blocks)(x)
        torch.testing.assert_close(made, encoder.pyramid(x)[-1])


@pytest.mark.parametrize("name", ["tu-mobilenetv3_small_050", "tu-regnetx_002"])
def test_other_encoders_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="blocks of this encoder are not known"):
        blocks_of(Encoder(EncoderConfig(name)))
