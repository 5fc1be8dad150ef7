"""Tables of the benchmark, and the machine it ran on."""

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

STAGES = ("wait", "prepare", "forward", "backward", "optimizer")


def speed_table(summary: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Images/s and memory of every method."""
    titles = ("method", "genseg", "floor", "ratio", "lightly", "ratio", "genseg MiB", "lightly MiB")
    rows = []
    for method, by in summary.items():
        own, floor = (by[who]["images_per_second"] for who in ("genseg", "floor"))
        row = [method, f"{own:.1f} images/s", f"{floor:.1f}", f"{own / floor:.2f}"]
        if "lightly" in by:
            peer = by["lightly"]["images_per_second"]
            row += [f"{peer:.1f}", f"{own / peer:.2f}"]
            row += [f"{by[who]['peak_mib']:.0f}" for who in ("genseg", "lightly")]
        else:
            row += ["", "", f"{by['genseg']['peak_mib']:.0f}", ""]
        rows.append(row)
    return table(titles, rows)


def stage_table(summary: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Milliseconds of a step in each stage; the teacher, the queue and the logs count as
    optimizer."""
    rows = [
        [method, who, *(f"{1000 * found['stages'][name]:.0f}" for name in STAGES)]
        for method, by in summary.items()
        for who, found in by.items()
    ]
    return table(["method", "ms a step", *STAGES], rows)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned."""
    lines = [list(titles), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    lines.insert(1, ["-" * w for w in widths])
    padded = ([cell.ljust(w) for cell, w in zip(line, widths, strict=True)] for line in lines)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in padded)


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    cpus = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": cpus[0] if cpus else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def memory(process: psutil.Process) -> int:
    """Bytes of a process and its descendants; on Linux, pages that they share count once."""
    total = 0
    try:
        for p in (process, *process.children(recursive=True)):
            facts = p.memory_full_info()
            total += getattr(facts, "pss", facts.rss)
    except psutil.Error:  # one of them has just ended: the next look counts
        return 0
    return total


def summarised(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds."""
    return {
        "images_per_second": statistics.median(r["images_per_second"] for r in rounds),
        "lowest": min(r["images_per_second"] for r in rounds),
        "highest": max(r["images_per_second"] for r in rounds),
        "peak_mib": statistics.median(r["peak_mib"] for r in rounds),
        "stages": {name: statistics.median(r["stages"][name] for r in rounds) for name in STAGES},
    }
