"""The loop: what it stops at, on all ranks, what fp16 may skip, and clipped and accumulated
gradients."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from processes import forked
from torch import Tensor, nn

from genseg.core.schedule import Plan
from genseg.train.loop import SKIPS, NonFiniteError, Timing, train


class Notes:
    """Hooks that count."""

    finished = False

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.norms: list[float] = []
        self.progress: list[float] = []
        self.losses: list[float] = []

    @property
    def updates(self) -> int:
        return len(self.progress)

    def inputs(self, batch: Tensor) -> tuple[int, Tensor]:
        return len(batch), batch

    def learning_rate(self, step: int) -> float:
        return self.lr

    def begin_step(self) -> None:
        pass

    def before_step(self, progress: float) -> None:
        pass

    def after_step(self, progress: float) -> None:
        self.progress.append(progress)

    def measured(
        self, step: int, outputs: dict[str, Tensor], timing: Timing, grad_norm: float
    ) -> None:
        self.norms.append(grad_norm)
        self.losses.append(float(outputs["loss"]))


class Bowl(nn.Module):
    """Loss 0 where all weights are 0. A batch of zeros has a finite loss and a gradient that is not
    a number; a batch of infinities has a loss that is infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((4,), 100.0))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {
            "loss": self.weight.square().sum() * x.mean().clamp(min=1)
            + 0 * (x * self.weight).sum().sqrt()
        }


def trained(
    module: nn.Module,
    batches: Sequence[Tensor],
    *,
    scale: float | None = None,
    lr: float = 0.1,
    passes: int = 1,
    clip: float = 0.0,
) -> Notes:
    """Train by plain SGD on all batches; `scale`: as on a GPU in fp16, with gradients scaled by so
    much at first."""
    accelerator = Accelerator(cpu=True, mixed_precision="no" if scale is None else "fp16")
    if scale is not None:  # which Accelerate makes for GPUs alone
        accelerator.native_amp, accelerator.scaler = (
            True,
            torch.amp.GradScaler("cpu", init_scale=scale),
        )
    optimizer = accelerator.prepare_optimizer(torch.optim.SGD(module.parameters(), lr=lr))
    notes = Notes(lr)
    steps = len(batches) // passes
    made = train(
        module,
        optimizer,
        iter(batches),
        accelerator,
        notes,
        plan=Plan(images=8, batch=8, total=steps),
        start=0,
        passes=passes,
        clip=clip,
        seed=0,
    )
    assert made == steps == len(notes.norms)
    return notes


GOOD, NO_GRADIENT, INFINITE = torch.ones(4), torch.zeros(4), torch.full((4,), torch.inf)


def test_teachers_move_by_the_progress_of_the_update_itself() -> None:
    """k / K for update k = 0, 1, ..., as BYOL's tau has it."""
    assert trained(Bowl(), [GOOD] * 4, lr=0.001).progress == [0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_fp16_whose_gradients_never_become_finite_stops(clip: float) -> None:
    module = Bowl()
    with pytest.raises(
        NonFiniteError, match=rf"step {SKIPS}: .*norm nan: not finite, for {SKIPS} updates in a row"
    ):
        trained(module, [NO_GRADIENT] * 50, scale=65536.0, clip=clip)
    assert module.weight.tolist() == [100.0] * 4


def test_fp16_goes_on_when_its_scale_has_become_low_enough() -> None:
    """Gradients of 200 times a scale of 2^127 are infinite; 2^120 is low enough."""
    module = Bowl()
    notes = trained(module, [GOOD] * 40, scale=2.0**127)
    skipped = sum(norm == torch.inf for norm in notes.norms)
    assert 5 < skipped < 15 and notes.updates == 40 - skipped
    assert float(module.weight.detach().max()) < 1 and notes.norms[-1] < 1


def test_fp16_may_skip_again_after_an_update() -> None:
    part = [NO_GRADIENT] * (SKIPS - 1)
    assert trained(Bowl(), [*part, GOOD, *part, GOOD], scale=65536.0).updates == 2


def test_without_fp16_the_first_gradient_that_is_not_finite_stops() -> None:
    module = Bowl()
    with pytest.raises(
        NonFiniteError, match=r"step 3: .*norm nan: not finite, so no update was made"
    ):
        trained(module, [GOOD, GOOD, NO_GRADIENT, GOOD])
    # two updates, each by a fifth
    torch.testing.assert_close(module.weight.detach(), torch.full((4,), 64.0))


def _one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    module = Bowl()
    try:
        trained(module, [GOOD, INFINITE if rank == 1 else GOOD, GOOD])
    except NonFiniteError as error:
        torch.save({"said": str(error), "weight": module.weight.detach()}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_a_loss_that_is_not_finite_on_one_rank_stops_both(tmp_path: Path) -> None:
    forked(_one_rank, str(tmp_path), count=2)
    ranks = [torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in (0, 1)]
    assert all("step 2: " in r["said"] and "no update was made" in r["said"] for r in ranks)
    assert all(r["weight"].tolist() == [80.0] * 4 for r in ranks)


@pytest.mark.parametrize(("clip", "moved"), [(0.0, 400.0), (1.0, 1.0), (1000.0, 400.0)])
def test_a_gradient_is_shortened_to_clip_and_logged_as_it_was(clip: float, moved: float) -> None:
    """The gradient is 200 in each of 4 weights, so 400 long."""
    module = Bowl()
    notes = trained(module, [GOOD], lr=1.0, clip=clip)
    assert notes.norms == [pytest.approx(400.0)]
    assert float((module.weight.detach() - 100).norm()) == pytest.approx(moved, rel=1e-4)


class Regression(nn.Module):
    """Linear, without any norm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.layer(x)[:, 0] - x.prod(1)).square().mean()}


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_accumulated_gradients_are_those_of_the_whole_batch(clip: float) -> None:
    whole, parts = Regression(), Regression()
    batches = torch.randn(3, 8, 3, generator=torch.Generator().manual_seed(1))
    one = trained(whole, list(batches), clip=clip)
    two = trained(parts, list(batches.flatten(0, 1).split(2)), passes=4, clip=clip)
    torch.testing.assert_close(parts.state_dict(), whole.state_dict())
    assert two.norms == pytest.approx(one.norms, rel=1e-5) and two.losses == pytest.approx(
        one.losses, rel=1e-5
    )
