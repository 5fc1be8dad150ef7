"""In which precision a trained model looks at images."""

from typing import Literal

import torch

Precision = Literal["auto", "no", "bf16", "fp16"]


def fast_precision(device: torch.device) -> torch.dtype:
    """bf16 where the hardware computes it."""
    if device.type == "cuda":
        return (
            torch.bfloat16
            if torch.cuda.is_bf16_supported(including_emulation=False)
            else torch.float32
        )
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def scoring_precision(setting: Precision, device: torch.device) -> torch.dtype:
    """That in which a fine-tuned model is scored and used, by the `precision` of its recipe: in
    float32 unless that is auto, so that a run's own scores are those of genseg evaluate
    detector."""
    return fast_precision(device) if setting == "auto" else torch.float32
