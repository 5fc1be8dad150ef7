"""The machine that trains: its accelerator, its precision, its processes."""

import os
import warnings
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DynamoBackend,
    InitProcessGroupKwargs,
)
from torch import nn

from genseg.core import dist
from genseg.core.memory import keep_freed_memory
from genseg.core.paths import expand
from genseg.core.precision import Precision, fast_precision
from genseg.train.launched import check_precision, refuse_sharding
from genseg.train.tracker import TrackerName, check_tracker


def circumstances(precision: Precision) -> dict[str, Any]:
    """What is not in a config and changes the weights that come out."""
    return {"processes": dist.world(), "mixed_precision": choose_precision(precision)}


def make_accelerator(
    *, precision: Precision, run: str, tracker: TrackerName = "none"
) -> Accelerator:
    """Accelerate on CUDA if there is one, else on the CPU; every launched process takes part, or it
    is an error."""
    check_tracker(tracker)
    chosen = choose_precision(precision)
    refuse_sharding()
    check_precision(chosen)
    # Accelerate keeps the precision of a process's first run, and refuses another one
    if AcceleratorState._shared_state.get("_mixed_precision", chosen) != chosen:
        AcceleratorState._reset_state()
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=chosen,
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False),
            # one rank decodes or probes while the others wait
            InitProcessGroupKwargs(timeout=timedelta(hours=6)),
        ],
        log_with=None if tracker == "none" else tracker,
        project_dir=str(expand(run)),
    )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise ValueError(
            f"{launched} processes were launched but {accelerator.num_processes} take part; on "
            "CPU use torchrun --nproc_per_node N tools/pretrain.py, or ACCELERATE_USE_CPU=true "
            "accelerate launch --multi_gpu"
        )
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            "Accelerate is configured to accumulate gradients, by its configuration or "
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS: leave that out and say accumulate=N"
        )
    if accelerator.state.dynamo_plugin.backend != DynamoBackend.NO:
        raise ValueError(
            "Accelerate is configured to compile, by its configuration or "
            "ACCELERATE_DYNAMO_BACKEND: leave that out; genseg pretrain has compile=true for it"
        )
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    return accelerator


def prepare(
    accelerator: Accelerator, module: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A module and its optimiser as Accelerate wraps them."""
    with warnings.catch_warnings():  # Accelerate has no other word for it yet
        warnings.filterwarnings("ignore", "broadcast_buffers is deprecated", FutureWarning)
        wrapped, prepared = accelerator.prepare(module, optimizer)
    return wrapped, prepared


def choose_precision(precision: Precision) -> str:
    """`auto` becomes bf16 where the hardware computes it, else no. Raises ValueError for fp16
    without a GPU."""
    if precision == "fp16" and not torch.cuda.is_available():
        raise ValueError("precision=fp16 needs a GPU; use precision=bf16 or precision=no")
    if precision != "auto":
        return precision
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return "bf16" if fast_precision(device) == torch.bfloat16 else "no"
