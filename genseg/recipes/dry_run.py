"""Two steps of a run without leaving anything in its run directory."""

import contextlib
import dataclasses
import resource
import tempfile
import time
from pathlib import Path

import torch

from genseg.recipes.assemble import PretrainConfig, assemble
from genseg.recipes.pretrain import Session
from genseg.train.log import duration
from genseg.train.loop import train

STEPS = 2


def dry_run(config: PretrainConfig) -> str:
    """What `pretrain` would do: data, model, memory and time, from two real steps."""
    parts = assemble(config)
    total = parts.plan.total
    parameters = sum(p.numel() for p in parts.module.parameters() if p.requires_grad)
    quiet = dataclasses.replace(config, probe=dataclasses.replace(config.probe, every="0 steps"), tensorboard=False)
    short = dataclasses.replace(parts.plan, total=min(STEPS, total))
    with tempfile.TemporaryDirectory() as folder:
        session = Session(dataclasses.replace(parts, config=quiet), Path(folder), None)
        session.save_every = 0
        with contextlib.closing(session):
            began = time.perf_counter()
            train(parts.wrapped, parts.optimizer, session.batches(), parts.accelerator, session, plan=short, start=0,
                  passes=config.accumulate, clip=config.optimizer.clip, seed=config.seed)  # fmt: skip
            seconds = (time.perf_counter() - began) / short.total
    views = [f"{v.count} x {v.size} px ({name})" for name, v in config.views.items() if v.count]
    if config.alpha.name != "none":
        views.append(
            f"composites of {config.alpha.compose.size} px over {100 * config.alpha.share:.0f} % of the images"
        )
    length = parts.plan
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if parts.accelerator.device.type == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**20
    return "\n".join(
        (
            f"data      {len(parts.images)} images in {config.data.path}; broken so far: {len(session.broken)}"
            + (f"; {len(parts.images.classes)} classes, seen by the probe alone" if parts.images.classes else ""),
            f"views     {', '.join(views)}",
            f"model     {session.task}, {config.encoder.name}: {parameters / 1e6:.1f} M parameters are trained",
            f"length    {total} steps of {length.batch} images = {total / length.steps_per_epoch:.1f} epochs",
            f"memory    {memory:.0f} MiB at the peak of this process",
            f"time      {seconds:.2f} s a step over the first two, so about {duration(seconds * total)} "
            "(the first steps are the slowest)",
        )
    )
