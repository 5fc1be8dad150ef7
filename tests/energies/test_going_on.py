"""A run that goes on from a checkpoint is the run that never stopped, for every strategy."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from energies import examples, shaping_of

from genseg.energies.draws import Draws
from genseg.energies.shaping import Shaping
from genseg.energies.strategies import SHAPINGS
from genseg.runs.checkpoint import flatten, unflatten

KEYS: dict[str, dict[str, Any]] = {
    **{name: {} for name in SHAPINGS},
    "kmeans trained": {"trained": True},
    "noise_contrastive conditional": {"conditional": True},
}


def begun(name: str) -> tuple[Shaping, torch.optim.Optimizer]:
    shaping = shaping_of(name.partition(" ")[0], **KEYS[name])
    moving = [p for p in shaping.parameters() if p.requires_grad]
    return shaping, torch.optim.AdamW(moving, lr=1e-3, fused=True)


def train(shaping: Shaping, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        seen = replace(examples([0, 0, 1, 2, 2, 3], [0, 3]), draws=Draws(0, step, [5, 6, 7, 8]))
        shaping(seen)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        shaping.after_step()


@pytest.mark.parametrize("name", list(KEYS))
def test_going_on_is_exact(name: str) -> None:
    whole, optimizer = begun(name)
    train(whole, optimizer, range(1))
    tensors, structure = flatten(
        {"module": whole.state_dict(), "optimizer": optimizer.state_dict()}
    )
    kept = {key: x.clone() for key, x in tensors.items()}
    train(whole, optimizer, range(1, 3))
    other, again = begun(name)
    content = unflatten(kept, structure)
    other.load_state_dict(content["module"])
    again.load_state_dict(content["optimizer"])
    train(other, again, range(1, 3))
    one, two = whole.state_dict(), other.state_dict()
    assert one.keys() == two.keys()
    for key in one:
        assert one[key].equal(two[key]), key
