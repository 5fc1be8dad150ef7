"""Processes that tests start. They are forks of one that has imported what they need, which takes
seconds."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch.multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "torch.distributed",
        "genseg.cli",
        "genseg.workflows.pretrain.pretrain",
        "genseg.workflows.pretrain.dry_run",
        "genseg.workflows.finetune.finetune",
        "genseg.energies.strategies",
    ]
)


def forked(work: Callable[..., None], *given: Any, count: int) -> None:
    """`work(number, *given)` in so many processes at once. Raises what one of them raises."""
    torch.multiprocessing.start_processes(work, given, nprocs=count, start_method="forkserver")
