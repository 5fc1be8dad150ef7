"""What tests of composites share."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def pasted(monkeypatch: pytest.MonkeyPatch) -> list:
    """The layers that `compose` has pasted, from the back, each as large as the canvas."""
    import genseg.data.composites.compose as module  # not before the shapes of genseg are checked

    seen = []
    draw: Callable[..., Any] = module._draw_layer

    def spy(*args: Any) -> object:
        layer = draw(*args)
        if layer is not None:
            canvas = args[5]
            colour, alpha = np.zeros_like(canvas), np.zeros_like(canvas[..., 0])
            colour[layer.window], alpha[layer.window] = layer.colour, layer.alpha
            seen.append(
                replace(layer, window=(slice(0, len(canvas)),) * 2, colour=colour, alpha=alpha)
            )
        return layer

    monkeypatch.setattr(module, "_draw_layer", spy)
    return seen
