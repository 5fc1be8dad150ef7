"""The training loop. It knows no method: a module gives losses, `before_step` and `after_step` do
the rest."""

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from genseg.core import dist, interrupts
from genseg.core.schedule import Plan

SKIPS = 30  # updates that fp16 may skip in a row: its scale of 65536 is below 1 after 17


class NonFiniteError(RuntimeError):
    """The loss or a gradient is not a number; no rank has made the update."""


_Batch = TypeVar("_Batch", contravariant=True)


@runtime_checkable
class Hooks(Protocol[_Batch]):
    """What the loop calls besides the module; each may do nothing."""

    finished: bool  # nothing more is to be learnt

    def inputs(self, batch: _Batch) -> tuple[int, object]:
        """(images in the batch, what the module's forward takes)."""

    def learning_rate(self, step: int) -> float:
        """Learning rate of update `step`."""

    def begin_step(self) -> None:
        """An update begins."""

    def before_step(self, progress: float) -> None:
        """Gradients are complete."""

    def after_step(self, progress: float) -> None:
        """The update is made."""

    def measured(
        self, step: int, outputs: dict[str, Tensor], timing: "Timing", grad_norm: float
    ) -> None:
        """Update `step` (from 1) is over; also the place for logs, probes and checkpoints."""


@dataclass
class Timing:
    """Seconds of the updates since it was last reset."""

    start: float = 0.0
    waiting: float = 0.0
    images: int = 0
    steps: int = 0

    def reset(self) -> None:
        """Begin a new interval now."""
        self.start, self.waiting, self.images, self.steps = time.perf_counter(), 0.0, 0, 0

    @property
    def seconds(self) -> float:
        return max(time.perf_counter() - self.start, 1e-9)


def train(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: Iterator[_Batch],
    accelerator: Accelerator,
    hooks: Hooks[_Batch],
    *,
    plan: Plan,
    start: int,
    passes: int,
    clip: float,
    seed: int,
) -> int:
    """Train from update `start` to the end of `plan`, or to that of the step in which SIGINT,
    SIGTERM or SIGHUP comes or after which the hooks have finished.

    `module` and `optimizer` are prepared by `accelerator`; one update is `passes` batches of
    `loader`. Returns the number of updates made so far. Raises NonFiniteError on all ranks before
    an update that would spoil the weights, or after SKIPS in a row that fp16 has skipped.
    """
    stop = StopSignal()
    skipped = 0
    timing = Timing()
    timing.reset()
    with stop:
        for step in range(start, plan.total):
            torch.manual_seed(((seed * 1_000_003 + step) * dist.world() + dist.rank()) % 2**63)
            for group in optimizer.param_groups:
                group["lr"] = hooks.learning_rate(step) * group.get("scale", 1.0)
            hooks.begin_step()
            parts: list[dict[str, Tensor]] = []
            for i in range(passes):
                asked = time.perf_counter()
                batch = next(loader)
                timing.waiting += time.perf_counter() - asked
                count, inputs = hooks.inputs(batch)
                timing.images += count * dist.world()
                sync = contextlib.nullcontext() if i == passes - 1 else accelerator.no_sync(module)
                with sync:
                    outputs = module(inputs)
                    accelerator.backward(outputs["loss"] / passes)
                parts.append({name: value.detach() for name, value in outputs.items()})
            outputs = _merged(parts)
            hooks.before_step(step / plan.total)
            norm = _gradient_norm(module, optimizer, accelerator, clip)
            skipped = 0 if math.isfinite(norm) else skipped + 1
            _stop_if_not_finite(step, outputs, norm, skipped, accelerator)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if not accelerator.optimizer_step_was_skipped:
                hooks.after_step(step / plan.total)
            timing.steps += 1
            hooks.measured(step + 1, outputs, timing, norm)
            if dist.any_rank(stop.called or hooks.finished):
                return step + 1
    return plan.total


class StopSignal:
    """Catches SIGINT, SIGTERM and SIGHUP while it is entered; the second one of them acts as
    usual."""

    def __init__(self) -> None:
        self.called = False

    def __enter__(self) -> "StopSignal":
        self.before = interrupts.replaced(self._handle)
        return self

    def _handle(self, number: int, frame: object) -> None:
        self.called = True
        interrupts.note(number)
        for caught, handler in self.before.items():
            signal.signal(caught, handler)

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def _merged(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Outputs of an update from those of its passes: scalars averaged, rows one after the other."""
    return {
        k: torch.stack([p[k] for p in parts]).mean(0)
        if v.ndim == 0
        else torch.cat([p[k] for p in parts])
        for k, v in parts[0].items()
    }


def _gradient_norm(
    module: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator, clip: float
) -> float:
    """Norm of all gradients, clipped to `clip` if that is above 0."""
    accelerator.unscale_gradients(optimizer)
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if clip > 0:
        torch.nn.utils.clip_grads_with_norm_(module.parameters(), clip, norm)
    return float(norm)


def _stop_if_not_finite(
    step: int, outputs: dict[str, Tensor], norm: float, skipped: int, accelerator: Accelerator
) -> None:
    """`skipped`: updates in a row, this one among them, whose gradient was not finite."""
    # there it only lowers the scale
    allowed = SKIPS if accelerator.mixed_precision == "fp16" else 1
    bad = not bool(outputs["loss"].isfinite()) or skipped >= allowed
    if dist.any_rank(bad):
        terms = ", ".join(f"{k} {float(v):.4g}" for k, v in outputs.items() if v.numel() == 1)
        often = f", for {skipped} updates in a row" if skipped > 1 else ""
        raise NonFiniteError(
            f"step {step + 1}: {terms}, gradient norm {norm:.4g}: not finite{often}, so no update "
            "was made. Lower optimizer.lr, set optimizer.clip=1, lengthen optimizer.warmup, or "
            "use precision=no, and start over with --fresh; if it comes back at the same step, "
            "look at the images of that batch."
        )
