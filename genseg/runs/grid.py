"""The cells of a grid, run one after the other or several at a time in processes of their own."""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import Protocol, TypeVar, runtime_checkable

from genseg.core import interrupts
from genseg.core.processes import end_with_parent, ignored, parent_lives
from genseg.runs.metrics import ProgressLine, duration


@runtime_checkable
class Task(Protocol):
    """A cell that has to be made."""

    @property
    def title(self) -> str:
        """What it is, in a few words."""


_T = TypeVar("_T", bound=Task)


def run_all(
    tasks: Sequence[_T],
    run: Callable[[_T, ProgressLine | None], str],
    *,
    jobs: int,
    line: ProgressLine,
    say: Callable[[str], None],
    shared: Callable[[_T, int], _T],
) -> None:
    """Run the tasks in order, `jobs` at a time; no more than these are begun before one ends. One
    after the other they show how far each is.

    run: a function of a module: makes a cell, and returns a word on what came out
    say: told that word, with the count and the time that is left
    shared: the task for a process that has so many threads
    """
    jobs, began = min(jobs, len(tasks)), time.monotonic()

    def told(done: int, text: str) -> None:
        left = (time.monotonic() - began) / done * (len(tasks) - done)
        say(
            f"{done}/{len(tasks)} {text}" + (f"; ETA {duration(left)}" if done < len(tasks) else "")
        )

    if jobs < 2:
        for done, task in enumerate(tasks, start=1):
            line.title = f"{done}/{len(tasks)} {task.title}: "
            told(done, run(task, line))
        return
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    waiting = [shared(task, threads) for task in reversed(tasks)]
    done = 0
    stop = context.Event()
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=end_with_parent, initargs=(stop,)
    ) as pool:
        # Ctrl-C goes to all processes of a terminal: the first one tells the others by `stop`
        with ignored():
            running = {pool.submit(_in_pool, run, waiting.pop()) for _ in range(jobs)}
        try:
            while running:
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    done += 1
                    told(done, future.result())
                    if waiting:
                        running.add(pool.submit(_in_pool, run, waiting.pop()))
        except BaseException:
            stop.set()
            raise


def _in_pool(run: Callable[[_T, ProgressLine | None], str], task: _T) -> str:
    """A task in a process of a pool, which would wait for its next one without end once its parent
    is gone."""
    try:
        return run(task, None)
    finally:
        if not parent_lives():
            os._exit(interrupts.exit_code())  # the cell has been saved
