"""One process's part in a run: what pretraining and fine-tuning share of the hooks of the loop."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from accelerate import Accelerator
from torch import Tensor, nn

from genseg import __version__
from genseg.core import dist
from genseg.core.names import METRICS_NAME
from genseg.core.schedule import Plan
from genseg.runs import checkpoint
from genseg.runs.metrics import MetricsFile, ProgressLine, Row
from genseg.runs.resume import Saved, due
from genseg.train.loop import Timing, train
from genseg.train.optim import lr_at, restore_strides
from genseg.train.tracker import TrackerName, start_tracker
from genseg.train.watch import Watcher


@runtime_checkable
class SessionParts(Protocol):
    """What a session asks of the parts of a run."""

    config: Any
    accelerator: Accelerator
    wrapped: nn.Module
    optimizer: Any
    plan: Plan
    fingerprint: str

    @property
    def described(self) -> dict[str, Any]:
        """All that decides the run's weights beside its data."""


class Session(ABC):
    """The hooks of `genseg.train.loop`: logs, saves and resumes at their intervals.

    A subclass has `self.parts` of its own kind, trains `self.module`, and adds what is abstract
    here.
    """

    module: nn.Module
    finished = False  # before its end

    def __init__(
        self,
        parts: SessionParts,
        run: Path,
        *,
        progress: ProgressLine | None,
        watch: Watcher | None,
    ) -> None:
        self.config, self.run, self.plan = parts.config, run, parts.plan
        self.accelerator, self.wrapped, self.optimizer = (
            parts.accelerator,
            parts.wrapped,
            parts.optimizer,
        )
        self.described, self.fingerprint = parts.described, parts.fingerprint
        self.main = parts.accelerator.is_main_process
        self.device = parts.accelerator.device
        self.step = 0
        self.log_every = parts.plan.steps(parts.config.log_every)
        self.save_every = parts.plan.steps(parts.config.checkpoint.every)
        self.progress = progress
        self.watch = watch(run, self.say) if self.main and watch else None
        self.metrics: MetricsFile | None = None

    def open_metrics(self, tracker: TrackerName = "none") -> None:
        """Open metrics.jsonl, without what a kill has left of later steps, and begin to track."""
        self.tracker = tracker
        start_tracker(self.accelerator, tracker, self.run, self.step)
        self.metrics = MetricsFile(self.run / METRICS_NAME, self.step) if self.main else None

    def record(self, row: Row) -> None:
        """Write a line of metrics.jsonl, and give it to the tracker; the main process does."""
        assert self.metrics is not None
        self.metrics.write(row)
        if self.tracker != "none":
            numbers = {k: v for k, v in row.items() if k != "step"}
            self.accelerator.log(numbers, step=int(row["step"]))

    @abstractmethod
    def batches(self) -> Iterator[Any]:
        """This rank's batches from the present step on."""

    def advance(self, batches: Iterator[Any]) -> bool:
        """Train from the present step on; False when that was interrupted, and saved."""
        c = self.config
        reached = train(
            self.wrapped,
            self.optimizer,
            batches,
            self.accelerator,
            self,
            plan=self.plan,
            start=self.step,
            passes=c.accumulate,
            clip=c.optimizer.clip,
            seed=c.seed,
        )
        if reached == self.plan.total or self.finished:
            return True
        self.save(reached, ends=True)
        self.say(f"interrupted after step {reached}; the same command goes on from there")
        return False

    def close(self) -> None:
        """Close the files that are written to, and leave the process group."""
        if self.metrics is not None:
            self.metrics.file.close()
        self.accelerator.end_training()

    # hooks of the loop

    def learning_rate(self, step: int) -> float:
        return lr_at(self.config.optimizer, self.plan, step)

    @abstractmethod
    def inputs(self, batch: Any) -> tuple[int, Any]:
        """How many images a batch has, and what the module takes of it, on the device."""

    @abstractmethod
    def begin_step(self) -> None:
        """Before the passes of a step."""

    @abstractmethod
    def before_step(self, progress: float) -> None:
        """Before the optimizer's step."""

    @abstractmethod
    def after_step(self, progress: float) -> None:
        """After the optimizer's step."""

    def measured(
        self, step: int, outputs: dict[str, Tensor], timing: Timing, grad_norm: float
    ) -> None:
        """Log, score and save at their intervals, and at the end."""
        self.step = step
        last = step == self.plan.total
        if due(step, self.log_every) or step == 1 or last:
            self.log(outputs, timing, grad_norm)
            if self.watch is not None and not last:
                self.watch.update()
            timing.reset()
        if self.judge(step, last=last):
            timing.reset()
        if last or due(step, self.save_every):
            self.save(step, ends=last)
            timing.reset()

    # what the hooks do

    @abstractmethod
    def judge(self, step: int, *, last: bool) -> bool:
        """Score what has been learnt, where that is due; whether something was."""

    @abstractmethod
    def log(self, outputs: dict[str, Tensor], timing: Timing, grad_norm: float) -> None:
        """Write a line of metrics.jsonl, and show it."""

    def row(
        self,
        terms: Mapping[str, float],
        timing: Timing,
        grad_norm: float,
        more: Mapping[str, float] | None = None,
    ) -> Row:
        """A line of metrics.jsonl; `more` follows the loss terms."""
        rate = timing.images / timing.seconds
        return {
            "step": self.step,
            "epoch": round(self.step / self.plan.steps_per_epoch, 4),
            "images": self.step * self.plan.batch,
            **terms,
            **(more or {}),
            "grad_norm": grad_norm,
            "lr": self.learning_rate(self.step - 1),
            "images_per_second": rate,
            "data_wait": timing.waiting / timing.seconds,
            "eta_seconds": (self.plan.total - self.step) * self.plan.batch / rate,
        }

    @abstractmethod
    def save(self, step: int, *, ends: bool) -> None:
        """Write a checkpoint, and what goes with it; `ends`: training ends here."""

    def save_checkpoint(
        self, step: int, modules: Mapping[str, nn.Module | None], state: Mapping[str, Any]
    ) -> None:
        """Write all that is needed to go on: tensors of modules, optimizer and scaler; numbers."""
        scaler = self.accelerator.scaler
        tensors, structure = checkpoint.flatten(
            {
                **{name: m.state_dict() if m is not None else {} for name, m in modules.items()},
                "optimizer": self.optimizer.state_dict(),
                "scaler": scaler.state_dict() if scaler else {},
            }
        )
        common = {
            "step": step,
            "structure": structure,
            "config": self.described,
            "version": __version__,
            "fingerprint": self.fingerprint,
        }
        keep = self.config.checkpoint.keep
        checkpoint.save(self.run, step, tensors, {**common, **state}, keep=keep)

    def restore(self, saved: Saved, modules: Mapping[str, nn.Module | None]) -> dict[str, Any]:
        """Load what `save_checkpoint` wrote into modules, optimizer and scaler; the state."""
        tensors, state = saved
        content = checkpoint.unflatten(tensors, state["structure"])
        for name, module in modules.items():
            if module is not None:
                module.load_state_dict(content[name])
        self.optimizer.load_state_dict(content["optimizer"])
        restore_strides(self.optimizer)
        if self.accelerator.scaler and content["scaler"]:
            self.accelerator.scaler.load_state_dict(content["scaler"])
        self.step = int(state["step"])
        return state

    def say(self, text: str) -> None:
        """Say something beside the progress line, once for all processes."""
        if self.main and self.progress is not None:
            self.progress.say(text)


def loss_terms(outputs: Mapping[str, Tensor]) -> dict[str, float]:
    """The scalars among a module's outputs, each the mean over all processes."""
    return {k: float(dist.mean(v.detach())) for k, v in outputs.items() if v.numel() == 1}
