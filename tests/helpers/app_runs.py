"""Runs that the live page opens."""

from pathlib import Path
from typing import Any

import torch

from genseg.alpha.decoder import AlphaDecoder, DecoderConfig
from genseg.alpha.kept import GenerateConfig
from genseg.alpha.model import AlphaModel, Look, save_alpha
from genseg.core.names import ALPHA_NAME
from genseg.nn.encoder import Encoder, EncoderConfig

SMALL = DecoderConfig(channels=(16, 16, 8, 8), embedding=5, code=6, hidden=3, tower=8)


def write_run(run: Path, seed: int, **changes: Any) -> Path:
    """Random weights that find something everywhere; changes: of what is generated."""
    torch.manual_seed(seed)
    encoder = Encoder(EncoderConfig())
    look = Look((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 512, True)
    config = GenerateConfig(**{"candidate": 0, "score": 0.1, "min_area": 1, **changes})
    model = AlphaModel(encoder, AlphaDecoder(encoder, SMALL), look, config)
    run.mkdir(parents=True)
    save_alpha(model, run / ALPHA_NAME, EncoderConfig())
    return run
