"""A folder that `timm.create_model("local-dir:FOLDER", pretrained=True)` reads."""

import json
import shutil
from pathlib import Path

import timm
import torch
from safetensors import safe_open

from genseg.nn.encoder import metadata_of
from genseg.nn.weights import whole


def save_timm_folder(encoder_file: Path, folder: Path) -> bool:
    """Write `config.json` and `model.safetensors` beside each other for the encoder of a run.

    False, and nothing written, when timm has no model of the encoder's name, stem and tensors.
    """
    metadata = metadata_of(encoder_file)
    encoder = metadata["encoder"]
    name = encoder["name"].removeprefix("tu-")
    if not timm.is_model(name) or encoder["stem"] != "imagenet" or not _same_names(name, encoder_file):
        return False
    size = metadata["size"]
    content = {
        "architecture": name,
        "num_classes": 0,
        "pretrained_cfg": {
            "input_size": [3, size, size], "mean": metadata["mean"], "std": metadata["std"], "num_classes": 0,
            "interpolation": "bilinear", "crop_pct": 1.0, "tag": f"genseg_{metadata['method']}",
        },
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    with whole(folder / "model.safetensors") as temporary:
        shutil.copyfile(encoder_file, temporary)
    with whole(folder / "config.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    return True


def _same_names(name: str, encoder_file: Path) -> bool:
    """Whether timm's model of this name has the tensors of the file, and no others."""
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0)
    with safe_open(encoder_file, framework="pt") as file:
        return set(model.state_dict()) == set(file.keys())
