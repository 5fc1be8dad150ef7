"""A folder that `timm.create_model("local-dir:FOLDER", pretrained=True)` reads."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch

from genseg.nn.encoder import Encoder, EncoderConfig, torchvision_state
from genseg.nn.encoder_file import facts_of
from genseg.nn.weights import whole

TAG = "genseg_"  # and the method


def save_timm_folder(encoder_file: Path, folder: Path) -> bool:
    """Write `config.json` and `model.safetensors` beside each other for the encoder of a run.

    False, and nothing written, when timm has no model of the encoder's name, stem and tensors that
    computes the same.
    """
    facts = facts_of(encoder_file)
    name = facts.encoder.name.removeprefix("tu-")
    if (
        not timm.is_model(name)
        or facts.encoder.stem != "imagenet"
        or not _is_timms(facts.encoder.name)
    ):
        return False
    known = timm.get_pretrained_cfg(name)
    # by these timm finds what it replaces for other classes or channels
    ends = {
        key: getattr(known, key)
        for key in ("first_conv", "classifier")
        if getattr(known, key, None)
    }
    content: dict[str, Any] = {
        "architecture": name,
        "num_classes": 0,
        "pretrained_cfg": {
            "input_size": [facts.encoder.in_channels, facts.size, facts.size],
            "mean": facts.mean,
            "std": facts.std,
            "num_classes": 0,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "tag": TAG + facts.method.replace(", ", "_").replace(" ", "_"),
            **ends,
        },
    }
    if facts.encoder.in_channels != 3:
        content["model_args"] = {"in_chans": facts.encoder.in_channels}
    _refuse_foreign(folder)
    folder.mkdir(exist_ok=True)
    with whole(folder / "model.safetensors") as weights, whole(folder / "config.json") as config:
        shutil.copyfile(encoder_file, weights)
        # is there first, and says whose the other is
        config.write_text(json.dumps(content, indent=2) + "\n")
    return True


def _refuse_foreign(folder: Path) -> None:
    """Raise ValueError where a file that would be overwritten is not genseg's."""
    there = [name for name in ("config.json", "model.safetensors") if (folder / name).exists()]
    try:
        made = json.loads((folder / "config.json").read_bytes())["pretrained_cfg"][
            "tag"
        ].startswith(TAG)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        made = False
    if there and not made:
        raise ValueError(
            f"{folder} holds {' and '.join(there)}, not written by genseg, which would be "
            "overwritten; choose another folder"
        )


@cache
@torch.no_grad()
def _is_timms(name: str) -> bool:
    """Whether timm's model of an encoder's name has its tensors, no others, and makes the same of
    an image.

    Of xception and DenseNet smp has the names, and another network.
    """
    with torch.random.fork_rng(devices=[]):  # a run that is exported goes on as if it were not
        encoder = Encoder(EncoderConfig(name)).eval()
        model = timm.create_model(name.removeprefix("tu-"), num_classes=0).eval()
        for norm in encoder.modules():
            if (
                isinstance(norm, torch.nn.modules.batchnorm._BatchNorm)
                and norm.running_mean is not None
            ):
                norm.running_mean.normal_()
        x = torch.randn(1, 3, encoder.side, encoder.side)
    state = torchvision_state(encoder)
    if state.keys() != model.state_dict().keys():
        return False
    model.load_state_dict(state)
    ours, theirs = encoder(x), model(x)
    return ours.shape == theirs.shape and bool(
        (ours - theirs).abs().max() <= 1e-3 * (1 + ours.abs().max())
    )
