"""A run's encoder for other libraries."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from genseg.nn.encoder import WEIGHTS_NAME, encoder_file, metadata_of
from genseg.recipes.timm_folder import save_timm_folder


def export(run: Path, out: Path, *, prefix: str = "") -> str:
    """Write the encoder of `run` to `out` and say what was written.

    `out` ending in .safetensors or .pth: a state dict with torchvision's key names behind `prefix` (such as
    `backbone.body.` for torchvision's Mask R-CNN). Otherwise a folder for timm, which takes no prefix. Raises
    ValueError when the run has no encoder yet, or timm no such model.
    """
    source = encoder_file(run)
    out.parent.mkdir(parents=True, exist_ok=True)
    tensors = {prefix + name: tensor for name, tensor in load_file(source).items()}
    if out.suffix == ".safetensors":
        save_file(tensors, out, {"genseg": json.dumps(metadata_of(source))})
    elif out.suffix == ".pth":
        torch.save(tensors, out)
    elif out.suffix:
        raise ValueError(f"--out {out}: end it in .safetensors or .pth, or name a folder for timm")
    elif prefix:
        raise ValueError(f"--prefix is for state dicts, and timm knows its own names: leave it out, or --out {out}.pth")
    elif not save_timm_folder(source, out):
        raise ValueError(f"timm has no model of the architecture in {source}; write {out / WEIGHTS_NAME} instead")
    return f"{len(tensors)} tensors of {source} in {out}"
