"""An encoder for a file's tests and a small decoder for each of them. (genseg is imported within:
its shapes are checked from when pytest is configured, and this file is read before.)"""

from typing import Any

import pytest
import torch


@pytest.fixture(scope="module")
def encoder() -> Any:
    from genseg.nn.encoder import EncoderConfig, build_encoder

    torch.manual_seed(0)
    return build_encoder(EncoderConfig())[0]


@pytest.fixture
def decoder(encoder: Any) -> Any:
    from small import SMALL

    from genseg.alpha.decoder import AlphaDecoder

    torch.manual_seed(0)
    return AlphaDecoder(encoder, SMALL)
