"""What tests of composites share."""

from collections.abc import Callable

import pytest


@pytest.fixture
def pasted(monkeypatch: pytest.MonkeyPatch) -> list:
    """The layers that `compose` has pasted, from the back."""
    import genseg.data.compose as module  # not before the shapes of genseg are checked

    seen = []
    draw: Callable[..., object] = module._draw_layer

    def spy(*args: object) -> object:
        layer = draw(*args)
        if layer is not None:
            seen.append(layer)
        return layer

    monkeypatch.setattr(module, "_draw_layer", spy)
    return seen
