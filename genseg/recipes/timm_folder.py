"""A folder that `timm.create_model("local-dir:FOLDER", pretrained=True)` reads."""

import json
import shutil
from pathlib import Path

import timm

from genseg.nn.encoder import metadata_of


def save_timm_folder(encoder_file: Path, folder: Path) -> bool:
    """Write `config.json` and `model.safetensors` beside each other for the encoder of a run.

    False, and nothing written, when timm has no model of the encoder's name or the stem is not timm's.
    """
    metadata = metadata_of(encoder_file)
    encoder = metadata["encoder"]
    name = encoder["name"].removeprefix("tu-")
    if not timm.is_model(name) or encoder["stem"] != "imagenet":
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
    (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n")
    shutil.copyfile(encoder_file, folder / "model.safetensors")
    return True
