"""genseg: from a folder of unlabelled images to a pretrained encoder, instance alpha maps, and a
measured answer."""

import importlib
from typing import Any

__version__ = "0.1.0"
LAZY = ("Instances", "Model", "load")  # what stands in genseg.api: `import genseg` imports no torch


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(importlib.import_module("genseg.api"), name)
    raise AttributeError(f"module 'genseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *LAZY])
