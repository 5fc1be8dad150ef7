"""A study: arms and seeds, each trained once and measured, and what the numbers say of a claim."""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genseg.core.check import at_least
from genseg.core.files import write_text
from genseg.core.names import PLOT_NAME, STUDY_NAME, TABLE_NAME
from genseg.core.result import Result
from genseg.core.words import amount
from genseg.data.labels.word_vectors import dimension
from genseg.runs.folder import write_environment
from genseg.runs.grid import run_all
from genseg.runs.metrics import ProgressLine
from genseg.show.page import svg_file
from genseg.train.watch import Watcher
from genseg.workflows.study.cells import Cell, plan_cells, refuse_other, share, unique
from genseg.workflows.study.config import StudyConfig
from genseg.workflows.study.content import content_of
from genseg.workflows.study.data import StudyData, study_data
from genseg.workflows.study.make import Task, make, with_threads
from genseg.workflows.study.measures import Subject, settings_of
from genseg.workflows.study.words import as_table, sentence, study_plot

LISTS = "lists"  # folder of the lists of images


@dataclass(frozen=True)
class Studied(Result, Mapping[str, Any]):
    """The content of study.json: claim, verdict, statements, arms, cells, differences; and the
    folder where it lies, with table.txt and plot.svg."""

    out: Path
    content: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.content[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.content)

    def __len__(self) -> int:
        return len(self.content)

    @property
    def verdict(self) -> str:
        """supported, against or open."""
        return str(self.content["verdict"])

    @property
    def sentence(self) -> str:
        """The verdict, and the numbers that it follows from."""
        return sentence(self.content)

    def text(self) -> str:
        return as_table(self.content)


@dataclass(frozen=True)
class StudyOptions:
    """Which cells are made, and by whom."""

    only: tuple[str, ...] = ()  # arms; none: all
    jobs: int = 1  # cells at a time
    shard: int = 0
    shards: int = 1

    def __post_init__(self) -> None:
        at_least(1, jobs=self.jobs)
        if self.shards < 1:
            raise ValueError(f"--num-shards {self.shards}: use 1 or more")
        if not 0 <= self.shard < self.shards:
            raise ValueError(
                f"--shard-index {self.shard} of --num-shards {self.shards}: use 0 to "
                f"{self.shards - 1}"
            )


def run_study(
    name: str,
    study: StudyConfig,
    out: Path,
    options: StudyOptions,
    *,
    watch: Watcher | None = None,
) -> Studied:
    """Make what is missing of all cells, in `out/cells`, and write study.json, table.txt and
    plot.svg into `out/NAME`, and what `watch` makes of them.

    Several shards share `out`; whoever comes last writes the numbers of all. Raises ValueError for
    what a user can mend.
    """
    folder = out / name
    _check(study, out)
    data = study_data(study.data, out / LISTS)
    cells = plan_cells(study, data, out)
    for cell in cells:
        refuse_other(cell)
    settings = {m: settings_of(m, study, data.content) for m in study.measures}
    tasks = [_task(cell, study, data, settings) for cell in _wanted(cells, study, options)]
    missing = [t for t in tasks if not t.done]
    line = ProgressLine(every=60)
    line.say(
        f"{name}: {amount(len(unique(cells)), 'cell')}, {len(tasks) - len(missing)} of "
        f"{len(tasks)} here are done; {options.jobs} at a time, in {folder}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    write_environment(folder, device=device, facts={"folder": data.train})
    live = watch(folder, line.say) if watch else None
    keep = functools.partial(_keep, name, study, cells, settings, folder)

    def say(text: str) -> None:
        line.say(text)
        keep()
        if live is not None:
            live.update()

    try:
        for depth in sorted({t.cell.depth for t in missing}):  # what others start from comes first
            level = [t for t in missing if t.cell.depth == depth]
            run_all(level, make, jobs=options.jobs, line=line, say=say, shared=with_threads)
    except KeyboardInterrupt:
        line.say("interrupted; the same command goes on with the cells that are missing")
        raise
    return Studied(folder, keep())


def planned(name: str, study: StudyConfig, out: Path) -> str:
    """What a study would do: its cells, and which of them are done. Nothing is trained."""
    _check(study, out)
    data = study_data(study.data, out / LISTS)
    cells = plan_cells(study, data, out)
    settings = {m: settings_of(m, study, data.content) for m in study.measures}
    done = {c.folder: _task(c, study, data, settings).done for c in cells}
    lines = [f"{name}: {study.claim.strip()}"]
    for cell in cells:
        seen = f"{cell.config.images:,.0f} images" if cell.kind == "pretrain" else cell.kind
        state = "done" if done[cell.folder] else "missing"
        lines.append(f"  {cell.title}: {seen}, {state} ({cell.folder.name})")
    left = [c for c in unique(cells) if not done[c.folder] and c.kind == "pretrain"]
    images = sum(c.config.images or 0 for c in left)
    return "\n".join([*lines, f"{amount(len(left), 'training')} left, {images:,.0f} images seen"])


def _check(study: StudyConfig, out: Path) -> None:
    """Raise ValueError for a file in the place of the folder, and for no word vectors where words
    names them: before the first training, and not at the first arm that wants them."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; name a folder")
    if study.words:
        dimension(study.words)


def _wanted(cells: Sequence[Cell], study: StudyConfig, options: StudyOptions) -> list[Cell]:
    """The cells that this command makes. Raises ValueError for an arm that there is not."""
    if unknown := [a for a in options.only if a not in study.arms]:
        raise ValueError(
            f"--only {unknown[0]}: there is no such arm; they are {', '.join(study.arms)}"
        )
    arms = {a for last in options.only or study.arms for a in study.chain(last)}
    return unique(share([c for c in cells if c.arm in arms], options.shard, options.shards))


def _task(
    cell: Cell, study: StudyConfig, data: StudyData, settings: dict[str, dict[str, Any]]
) -> Task:
    subject = Subject(
        run=cell.run,
        train=data.train,
        test=data.test,
        cache=cell.config.data.cache,
        limit=study.limit,
        reads_names=cell.reads_names,
        transfer=study.transfer,
    )
    return Task(cell, subject, settings, study.cka)


def _keep(
    name: str,
    study: StudyConfig,
    cells: Sequence[Cell],
    settings: dict[str, dict[str, Any]],
    folder: Path,
) -> dict[str, Any]:
    """Write what the cells say that are done."""
    content = content_of(name, study, cells, settings)
    write_text(folder / STUDY_NAME, json.dumps(content, indent=1) + "\n")
    write_text(folder / TABLE_NAME, as_table(content) + "\n")
    if plot := study_plot(content, folder / STUDY_NAME):  # there is none of nothing
        title = f"{study.metric}: each seed, mean and standard deviation"
        write_text(folder / PLOT_NAME, svg_file(plot, title))
    return content
