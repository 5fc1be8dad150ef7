"""Every method with every optimiser, over the end of a freeze."""

import pytest
import torch
from small import ENCODER

from genseg.core.schedule import Plan
from genseg.methods import METHODS
from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.train.optim import OptimizerConfig, build_optimizer

SMALL = {
    "moco": {"queue": 16, "dim": 16},
    "simclr": {"hidden": 32, "dim": 16},
    "byol": {"hidden": 32, "dim": 16},
    "swav": {"hidden": 32, "dim": 16, "prototypes": 10, "freeze": "2 steps"},
    "simmim": {"patch": 8},
}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
@pytest.mark.parametrize("name", SMALL)
def test_every_method_trains_past_a_freeze_with_every_optimizer(name: str, optimizer: str) -> None:
    """SwAV's prototypes stand still for the first two of five updates; all else moves."""
    torch.manual_seed(0)
    method, config = METHODS[name]
    plan = Plan(images=40, batch=8, total=5)
    module = method(build_encoder(EncoderConfig(ENCODER))[0], config(**SMALL[name]), plan)
    optimiser = build_optimizer(
        OptimizerConfig(name=optimizer, lr=0.1, scaling="none"), module, plan
    )
    start = {n: p.detach().clone() for n, p in module.named_parameters() if p.requires_grad}
    for step in range(plan.total):
        module.begin_step()
        module.begin_pass(torch.arange(8), [(0, step, i) for i in range(8)])
        module([torch.randn(2, 8, 3, 32, 32)])["loss"].backward()
        module.before_step(step / plan.total)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        module.after_step(step / plan.total)
        if name == "swav":
            still = torch.allclose(
                module.get_parameter("prototypes"), start["prototypes"], atol=1e-7
            )
            assert still == (step < 2)
    trained = {n: p for n, p in module.named_parameters() if n in start and p.ndim > 1}
    assert {n for n, p in trained.items() if torch.equal(p, start[n])} == set()
