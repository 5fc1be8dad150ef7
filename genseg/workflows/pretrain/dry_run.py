"""A few steps of a run without leaving anything in its run directory."""

import contextlib
import dataclasses
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genseg.core import dist
from genseg.core.paths import expand
from genseg.core.reading import reading
from genseg.core.result import Result
from genseg.core.schedule import Plan
from genseg.data.images.loader import EpochSampler
from genseg.data.images.uneven import notes_on
from genseg.runs.folder import RunError, refuse_foreign
from genseg.runs.metrics import ProgressLine, duration
from genseg.runs.resume import refuse_leftovers, reopen, usual_of
from genseg.train.loop import Timing, train
from genseg.workflows.pretrain.config import FREE_KEYS, PretrainConfig
from genseg.workflows.pretrain.online_probe import build_probe
from genseg.workflows.pretrain.parts import Parts, assemble, goes_on, reading_of
from genseg.workflows.pretrain.session import PretrainSession

if sys.platform != "win32":
    import resource

STEPS = 4  # the first is slower than all others: memory is taken, workers start


class TimedSession(PretrainSession):
    """A session that knows when each of its steps was over."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.over: list[float] = []

    def measured(
        self, step: int, outputs: dict[str, Tensor], timing: Timing, grad_norm: float
    ) -> None:
        self.over.append(time.perf_counter())
        super().measured(step, outputs, timing, grad_norm)


@dataclasses.dataclass(frozen=True)
class DryRun(Result):
    """What a few real steps say of a run.

    lines: data, views, model, length, memory, time: a name and words for each
    took: seconds of each step that was made; steps: of the whole run
    """

    lines: tuple[tuple[str, str], ...]
    took: tuple[float, ...]
    steps: int

    @property
    def seconds_per_step(self) -> float:
        """The median, without the first step, which starts slowly."""
        return statistics.median(self.took[1:] or self.took)

    def text(self) -> str:
        return "\n".join(f"{name:<9} {words}" for name, words in self.lines)


def dry_run(config: PretrainConfig, *, fresh: bool = False) -> DryRun | None:
    """What `pretrain` would do: data, model, memory and time, from a few real steps. None on all
    processes but the first.

    Raises what `pretrain` would raise, for its run directory too, unless another process is at work
    in it.
    """
    with reading(reading_of(config)):
        return _dry_run(config, fresh=fresh)


def _dry_run(config: PretrainConfig, *, fresh: bool) -> DryRun | None:
    run = expand(config.run)
    resumed = not fresh and goes_on(run, config)
    if fresh:
        refuse_foreign(run)
    elif not resumed:
        refuse_leftovers(run)
    _refuse_unwritable(run)
    parts = assemble(config, begun=resumed)
    if resumed:
        reopen(
            run,
            parts.described,
            usual=usual_of(parts.config),
            fingerprint=parts.fingerprint,
            source=f"the images of {config.data.path}",
            free=FREE_KEYS,
        )
    with dist.together():
        if parts.accelerator.is_main_process and parts.plan.steps(config.probe.every):
            build_probe(config.probe, parts.source)
    short = dataclasses.replace(parts.plan, total=min(STEPS, parts.plan.total))
    session, proposed = _tried(config, parts, short)
    if not session.main:
        return None
    took = [b - a for a, b in itertools.pairwise(session.over)]
    lines = {
        "data": _data(config, parts, short, broken=len(session.broken)),
        "note": notes_on(parts.images.paths),
        **_work(config, parts, session.task),
        "memory": f"{_peak(parts.accelerator.device)} at the peak of this process",
        "time": _time(took, parts.plan.total),
        "proposals": ""
        if config.alpha.name != "places"
        else f"{duration(proposed)}, kept for the run",
    }
    return DryRun(
        tuple((name, words) for name, words in lines.items() if words),
        tuple(took),
        parts.plan.total,
    )


def _tried(config: PretrainConfig, parts: Parts, short: Plan) -> tuple[TimedSession, float]:
    """The session after a few steps in a folder of its own, its times beginning with that of the
    start; and the seconds that the first proposals took."""
    unprobed = dataclasses.replace(config.probe, every="0 steps")
    quiet = dataclasses.replace(config, probe=unprobed, tensorboard=False, tracker="none")
    with tempfile.TemporaryDirectory() as own, open(os.devnull, "w") as nowhere:
        folder = dist.gather_objects(own)[0]  # the first process makes banks for all
        session = TimedSession(dataclasses.replace(parts, config=quiet), Path(folder), None)
        session.save_every = 0
        # it would name files that are gone when it is read
        session.progress = ProgressLine(nowhere)
        with contextlib.closing(session):
            began = time.perf_counter()
            batches = session.batches()  # makes the first proposals, once for all runs
            session.over.append(time.perf_counter())
            train(
                parts.wrapped,
                parts.optimizer,
                batches,
                parts.accelerator,
                session,
                plan=short,
                start=0,
                passes=config.accumulate,
                clip=config.optimizer.clip,
                seed=config.seed,
            )
    return session, session.over[0] - began


def _data(config: PretrainConfig, parts: Parts, short: Plan, *, broken: int) -> str:
    """Images, those that cannot be read, and classes."""
    drawn = EpochSampler(
        images=len(parts.images),
        batch=short.batch,
        start=0,
        total=short.total,
        passes=1,
        seed=config.seed,
        rank=0,
        world=1,
    )
    looked = len({i for keys in drawn for _, i in keys})
    among = (
        ""
        if parts.known_broken is not None
        else f" of the {looked} looked at; genseg scan looks at all"
    )
    data = f"{len(parts.images)} images in {config.data.path}; broken: {broken}{among}"
    seen = "training sees them" if config.supervised else "seen by the probe alone"
    classes = len(parts.images.classes)
    return data + (f"; {classes} classes, {seen}" if classes else "")


def _work(config: PretrainConfig, parts: Parts, task: str) -> dict[str, str]:
    """Views, model and length."""
    views = [f"{v.count} x {v.size} px ({name})" for name, v in config.views.items() if v.count]
    if config.alpha.name != "none":
        views.append(
            f"composites of {config.alpha.compose.size} px over {100 * config.alpha.share:.0f} % "
            "of the images"
        )
    parameters = sum(p.numel() for p in parts.module.parameters() if p.requires_grad)
    length = parts.plan
    epochs = length.total / length.steps_per_epoch
    return {
        "views": ", ".join(views),
        "model": f"{task}, {config.encoder.name}: {parameters / 1e6:.1f} M parameters are trained",
        "length": f"{length.total} steps of {length.batch} images = {epochs:.1f} epochs",
    }


def _refuse_unwritable(run: Path) -> None:
    """Raise RunError for a run directory that could not be made."""
    at = next(folder for folder in (run, *run.absolute().parents) if folder.exists())
    if not at.is_dir() or not os.access(at, os.W_OK):
        raise RunError(f"run={run}: cannot write in {at}; choose another folder")


def _time(took: Sequence[float], total: int) -> str:
    """Seconds of a step, and of all of them."""
    usual = statistics.median(took[1:] or took)
    over = (
        f" (median of steps 2 to {len(took)}; the first takes {took[0]:.2f} s)"
        if len(took) > 1
        else ""
    )
    return f"{usual:.2f} s a step, so about {duration(took[0] + usual * (total - 1))}{over}"


def _peak(device: torch.device) -> str:
    """The most memory that this process has held: of a GPU what is on it, else of the machine."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated() / 2**20:.0f} MiB"
    if sys.platform == "win32":
        return "not known on this system"
    per_mib = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, others KiB
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / per_mib:.0f} MiB"
