"""The label-efficiency experiment: the same fine-tuning from several encoders, with few labels and
with many.

A cell is one fine-tuning: an arm, a number of labelled images, a seed. The seed draws which images
those are and
everything random of the training, for all arms alike, so arms are compared in pairs: which few
images are labelled changes more than the arm does. A finished cell is kept and never made again.
"""

import functools
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from genseg import config as configs
from genseg.core.check import at_least
from genseg.core.files import write_text
from genseg.core.names import CELL_NAME, COMPARED_NAME, PLOT_NAME, SCORES_NAME, TABLE_NAME
from genseg.core.paths import expand
from genseg.core.reading import Reading, current, reading
from genseg.core.result import Result
from genseg.data.labels.categories import Categories
from genseg.data.labels.findings import Findings
from genseg.data.labels.labelled_set import LabelledSet
from genseg.data.labels.read import is_semantic, read_labels
from genseg.runs.folder import RunError, write_environment
from genseg.runs.grid import run_all
from genseg.runs.metrics import ProgressLine
from genseg.schema import defaults_of, without_new
from genseg.show.page import svg_file
from genseg.train.watch import Watcher
from genseg.workflows.evaluate.detector import MAIN, read_scores
from genseg.workflows.finetune.cells import Arm, Cell, chosen_labels, drawn_labels, parse_labels
from genseg.workflows.finetune.comparison import as_table, by_seed, contrasts, transfer_plot
from genseg.workflows.finetune.config import CHOICES, FinetuneConfig
from genseg.workflows.finetune.finetune import finetune, images_of
from genseg.workflows.finetune.session import Within
from genseg.workflows.finetune.start import fingerprint_of, reading_of, start_of

MOVABLE = ("data.train", "data.val", "encoder")  # the fingerprint knows these wherever they lie


# looking through a large set takes minutes: once a process
@functools.lru_cache(maxsize=8)
def _labels_read(
    path: str, model: str, categories: Categories | None, words: Reading
) -> tuple[LabelledSet, Findings]:
    return read_labels(path, model, categories=categories)


def kept_labels(
    path: str, model: str, *, categories: Categories | None = None
) -> tuple[LabelledSet, Findings]:
    """`read_labels`, once for each way to read images: arms may have each their own."""
    return _labels_read(path, model, categories, current())


@dataclass(frozen=True)
class Compared(Result, Mapping[str, Any]):
    """The content of compare.json: metric, arms, labels, cells, differences, train, val; and where
    it lies, with table.txt and plot.svg."""

    out: Path
    content: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.content[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.content)

    def __len__(self) -> int:
        return len(self.content)

    def text(self) -> str:
        return as_table(self.content)


def compare(
    arms: Sequence[Arm],
    *,
    labels: str,
    seeds: int,
    out: Path,
    file: Path | None,
    overrides: Sequence[str],
    jobs: int,
    watch: Watcher | None = None,
) -> Compared:
    """Run what is missing of all cells, and write compare.json, table.txt and plot.svg in `out`,
    and what `watch` makes of them.

    Raises ValueError for what a user can mend, RunError when `out` holds cells of other settings.
    """
    at_least(1, seeds=seeds, jobs=jobs)
    base = load_finetune(file, overrides, run=str(out), encoder="random")
    if base.data.val is None:
        raise ValueError(
            "data.val: give the labelled images that the arms are scored on, as in "
            "data.val=val.json"
        )
    _labels_read.cache_clear()
    with reading(reading_of(base)):
        return _compare(base, arms, labels, seeds, out, file, overrides, jobs, watch)


def _compare(
    base: FinetuneConfig,
    arms: Sequence[Arm],
    labels: str,
    seeds: int,
    out: Path,
    file: Path | None,
    overrides: Sequence[str],
    jobs: int,
    watch: Watcher | None,
) -> Compared:
    assert base.data.val is not None
    labelled, _ = kept_labels(base.data.train, base.model.name)
    scored, _ = kept_labels(base.data.val, base.model.name, categories=labelled.categories)
    counts = parse_labels(labels, len(labelled.images))
    cells = [Cell(a.name, n, s) for n in counts for s in range(seeds) for a in arms]
    configs_of = {
        a.name: load_finetune(a.config or file, overrides, run="unused", encoder=a.encoder)
        for a in arms
    }
    _refuse_apart({a: c.model.name for a, c in configs_of.items()})
    lists = {a.name: a.chosen for a in arms}
    tasks = list[Task]()
    for cell in cells:
        config = replace(configs_of[cell.arm], run=str(cell.folder(out) / "run"), seed=cell.seed)
        task = _task(cell, config, labelled, scored, lists[cell.arm], out)
        if not is_done(cell.folder(out), task.settings, _usual_settings(config)):
            tasks.append(task)
    gathered(out, base, configs_of)  # refuses cells of other settings before hours are spent
    line = ProgressLine(every=60)
    line.say(
        f"{len(cells)} cells, {len(cells) - len(tasks)} of them are done; {jobs} at a time, in "
        f"{out}"
    )
    keep = functools.partial(_keep, out, base, configs_of, cells)
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    write_environment(out, device=device, facts={"folder": images_of(base)})
    live = watch(out, line.say) if watch else None

    def say(text: str) -> None:
        line.say(text)
        keep()
        if live is not None:
            live.update()

    try:
        run_all(tasks, run_cell, jobs=jobs, line=line, say=say, shared=_with_threads)
    except KeyboardInterrupt:
        line.say("interrupted; the same command goes on with the cells that are missing")
        raise
    result = keep()
    write_text(out / TABLE_NAME, as_table(result) + "\n")
    if plot := transfer_plot(result, out / COMPARED_NAME):  # there is none of nothing
        write_text(
            out / PLOT_NAME, svg_file(plot, f"{result['metric']}, mean and standard deviation")
        )
    return Compared(out, result)


def _keep(
    out: Path,
    base: FinetuneConfig,
    configs_of: Mapping[str, FinetuneConfig],
    cells: Sequence[Cell],
) -> dict[str, Any]:
    """Write what the cells say that are done."""
    result = gathered(out, base, configs_of)
    known = {Cell(c["arm"], c["labels"], c["seed"]) for c in result["cells"]}
    result["planned"] = len(known | set(cells))
    write_text(out / COMPARED_NAME, json.dumps(result, indent=1) + "\n")
    return result


def load_finetune(
    file: Path | None, overrides: Sequence[str], *, run: str, encoder: str
) -> FinetuneConfig:
    """A recipe with an arm's encoder, scored once, at its end."""
    given = {o.partition("=")[0] for o in overrides}
    if clash := given & {"run", "encoder", "seed", "data.subset"}:
        raise ValueError(f"{', '.join(sorted(clash))}: compare sets this itself, for each cell")
    more = [
        f"run={run}",
        f"encoder={encoder}",
        "validate.every=100 percent",
        "checkpoint.every=50 percent",
    ]
    more = [m for m in more if m.partition("=")[0] not in given]
    return configs.load(FinetuneConfig, file=file, overrides=[*overrides, *more], choices=CHOICES)


@dataclass(frozen=True)
class Task:
    """A cell that has to be made."""

    cell: Cell
    config: FinetuneConfig
    numbers: list[int]
    settings: dict[str, str]
    out: Path

    @property
    def title(self) -> str:
        return self.cell.title


def _task(
    cell: Cell,
    config: FinetuneConfig,
    labelled: LabelledSet,
    scored: LabelledSet,
    chosen: Path | None,
    out: Path,
) -> Task:
    """A cell with the labelled images that it trains on: drawn by its seed, or the first of a
    list."""
    numbers = (
        drawn_labels(labelled, cell.labels, cell.seed)
        if chosen is None
        else chosen_labels(labelled, cell.labels, chosen)
    )
    found = fingerprint_of(labelled.subset(numbers), start_of(config.encoder), scored)
    return Task(cell, config, numbers, settings_of(config) | {"fingerprint": found}, out)


def settings_of(config: FinetuneConfig) -> dict[str, str]:
    """What a cell's number depends on, besides its labels, its seed and the content of its
    encoder."""
    flat = configs.flatten(config)
    for name in ("run", "seed", "data.subset", "data.workers", "threads", "log_every", "tracker"):
        del flat[name]
    return {k: str(v) for k, v in flat.items() if not k.startswith("checkpoint.")}


def _usual_settings(config: FinetuneConfig) -> dict[str, str]:
    return {k: str(v) for k, v in defaults_of(config).items()}


def is_done(folder: Path, settings: Mapping[str, str], usual: Mapping[str, str]) -> bool:
    """Whether a cell is finished. Raises RunError when it was made with other settings, labels or
    weights. usual: the defaults of settings"""
    file = folder / CELL_NAME
    if not file.is_file():
        return False
    refuse(folder, json.loads(file.read_text())["settings"], settings, usual)
    shutil.rmtree(folder / "run", ignore_errors=True)  # a kill after the last word has left it
    return True


def refuse(
    folder: Path,
    before: Mapping[str, str],
    now: Mapping[str, str],
    usual: Mapping[str, str],
    free: Sequence[str] = MOVABLE,
) -> None:
    """Raise RunError when two settings differ in what is not free."""
    now = without_new(now, before, usual)
    if changed := configs.difference(
        *({k: v for k, v in s.items() if k not in free} for s in (before, now))
    ):
        lines = "\n  ".join(changed)
        raise RunError(
            f"{folder} was made with other settings (old -> new):\n  {lines}\n"
            "Give the same ones, another --out, or remove that folder to have it made again."
        )


def _refuse_apart(models: Mapping[str, str]) -> None:
    """Raise ValueError when arms, each with the name of its model, have no number in common."""
    measured = {
        a: set(MAIN[2:] if is_semantic(m) else MAIN[1:2] if m == "faster_rcnn" else MAIN[:2])
        for a, m in models.items()
    }
    if not set.intersection(*measured.values()):
        told = ", ".join(
            f"{a} ({m}): {' and '.join(sorted(measured[a]))}" for a, m in models.items()
        )
        raise ValueError(f"--arms: they have no number in common, {told}; compare them apart")


def _with_threads(task: Task, threads: int) -> Task:
    """The task for a process that has so many threads, where its recipe says nothing."""
    config = task.config
    return replace(task, config=replace(config, threads=config.threads or threads))


def run_cell(task: Task, progress: ProgressLine | None = None) -> str:
    """Fine-tune, keep the scores, remove the weights; a word on what came out."""
    cell, config = task.cell, task.config
    folder = cell.folder(task.out)
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / "labels.txt"
    write_text(listed, "".join(f"{n}\n" for n in task.numbers))
    run = expand(config.run)
    config = replace(config, data=replace(config.data, subset=str(listed)))
    if not finetune(config, within=Within(progress, kept_labels)).complete:
        raise KeyboardInterrupt
    content = json.loads((run / SCORES_NAME).read_text())
    content |= {
        "arm": cell.arm,
        "labels": cell.labels,
        "seed": cell.seed,
        "settings": task.settings,
    }
    content["subset"] = hashlib.blake2b(
        str(sorted(task.numbers)).encode(), digest_size=8
    ).hexdigest()
    write_text(folder / CELL_NAME, json.dumps(content, indent=1) + "\n")
    shutil.rmtree(run)
    scores = read_scores(content)
    return f"{cell.title}: {scores.line()}"


def gathered(out: Path, base: FinetuneConfig, arms: Mapping[str, FinetuneConfig]) -> dict[str, Any]:
    """All finished cells below `out`, also those of earlier commands, and what follows from them.

    Raises RunError for cells that were made with other settings than those that are compared now.
    """
    found = []
    for file in sorted(out.glob(f"cells/*/*/*/{CELL_NAME}")):
        content = json.loads(file.read_text())
        own = arms.get(content["arm"])
        wanted, made = settings_of(own or base), dict(content["settings"])
        made.pop("fingerprint", None)
        if own is None:  # of an earlier command: its encoder and its model are its own
            wanted, made = (
                {k: v for k, v in s.items() if k.startswith("data.")} for s in (wanted, made)
            )
        usual = _usual_settings(own or base)
        refuse(file.parent, made, wanted, usual, free=() if own is None else MOVABLE)
        found.append(content)
    metrics = [m for m in MAIN if all(m in f["values"] for f in found)]
    if not metrics:
        raise RunError(
            f"{out}: its arms have no number in common, as boxes beside pixels; compare them apart"
        )
    metric = metrics[0]
    cells = [
        {
            "arm": f["arm"],
            "labels": f["labels"],
            "seed": f["seed"],
            "subset": f["subset"],
            "value": f["values"][metric],
            "values": f["values"],
        }
        for f in found
    ]
    order = [*arms, *sorted({c["arm"] for c in cells} - arms.keys())]
    labels = sorted({c["labels"] for c in cells})
    differences = [c.as_json() for c in contrasts(order, labels, by_seed(cells))]
    return {
        "metric": metric,
        "arms": order,
        "labels": labels,
        "cells": cells,
        "differences": differences,
        "train": base.data.train,
        "val": base.data.val,
    }
