"""Two processes with the images of one are that one: gradients, chains, centres."""

from pathlib import Path
from typing import Any

import pytest
import torch
from energies import SOME, examples, of_images, shaping_of
from processes import forked
from torch import Tensor

from genseg.energies.shaping import Examples, Shaping
from genseg.energies.strategies import SHAPINGS

# strategies, and keys that change what they do
ALL: dict[str, dict[str, Any]] = {
    **{name: {} for name in SHAPINGS},
    "kmeans trained": {"trained": True},
    "noise_contrastive conditional": {"conditional": True},
}
# images 2 and 3 are those of the second process; in some steps the first has none with a map
SECOND = ([2, 2, 3, 3, 3], [1, 4])
STEPS = {
    **{(name, "some"): SOME for name in ALL},
    **{
        (name, "of the second"): SECOND
        for name in ("maximum_likelihood", "hmc", "adversarial", "metric", "masked", "critic")
    },
    ("kmeans trained", "of the second"): SECOND,
    ("score_sliced", "of the second"): SECOND,
}


def one_step(name: str, seen: Examples) -> tuple[Shaping, dict[str, Tensor]]:
    """A strategy after a step with gradients, and its terms."""
    shaping = shaping_of(name.split()[0], **ALL[name])
    shaping.model.observe(seen.embeddings)
    terms: dict[str, Tensor] = shaping(seen)
    terms["loss"].backward()
    return shaping, {k: v.detach() for k, v in terms.items()}


def found_by(shaping: Shaping, terms: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    gradients = {k: p.grad for k, p in shaping.named_parameters() if p.grad is not None}
    return {"gradients": gradients, "buffers": dict(shaping.named_buffers()), "terms": terms}


def _one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    found = {
        step: found_by(*one_step(step[0], of_images(examples(*seen), 2 * rank, 2 * rank + 2)))
        for step, seen in STEPS.items()
    }
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each of two processes has found."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    forked(_one_rank, str(folder), count=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("step", STEPS, ids=", ".join)
def test_two_processes_are_one(ranks: list[Any], step: tuple[str, str]) -> None:
    whole = found_by(*one_step(step[0], examples(*STEPS[step])))
    first, second = (rank[step] for rank in ranks)
    for kind in ("gradients", "terms"):  # their mean, as DistributedDataParallel has it
        assert first[kind].keys() == second[kind].keys() == whole[kind].keys()
        for key, wanted in whole[kind].items():
            found = (first[kind][key] + second[kind][key]) / 2
            near = 1e-5 + 1e-4 * float(wanted.abs().max())
            torch.testing.assert_close(found, wanted, atol=near, rtol=1e-3, msg=f"{kind} of {key}")
    for key, wanted in whole["buffers"].items():
        assert first["buffers"][key].equal(second["buffers"][key]), key
        torch.testing.assert_close(first["buffers"][key], wanted, atol=1e-4, rtol=1e-4)
