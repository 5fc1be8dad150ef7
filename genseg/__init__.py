"""genseg: from a folder of unlabelled images to a pretrained encoder, instance alpha maps, and a
measured answer."""

import importlib
from typing import Any

__version__ = "0.1.0"
OF_ENCODERS = ("probe", "zero_shot", "evaluate_representation")
OF_INSTANCES = ("measure_instances", "group", "embed", "choose")
VERBS = (
    *("pretrain", "energy", "finetune", "generate", "predict", "evaluate", "compare", "study"),
    *("trial", "scan", "split", "convert", "export", "visualize"),
    *OF_ENCODERS,
    *OF_INSTANCES,
)
# name -> its module, imported when it is first used: `import genseg` imports no torch
LAZY = {
    **dict.fromkeys(("Instances", "Model", "load"), "genseg.model"),
    **dict.fromkeys((*VERBS, "reading"), "genseg.api"),
    **dict.fromkeys(OF_ENCODERS, "genseg.api_encoders"),
    **dict.fromkeys(OF_INSTANCES, "genseg.api_instances"),
}


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(importlib.import_module(LAZY[name]), name)
    raise AttributeError(f"module 'genseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *LAZY])
