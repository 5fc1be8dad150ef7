"""Processes that a command starts: they end with it, however it ends."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event

LOOK = 0.5  # seconds between two looks at the parent


def parent_lives() -> bool:
    """Whether the process that started this one is still there."""
    parent = multiprocessing.parent_process()
    return parent is None or parent.is_alive()


def end_with_parent(stop: Event) -> None:
    """In a process of a pool: once `stop` is set, or the parent is gone, it gets SIGTERM, on which
    a training saves.

    A parent that SIGKILL ends can tell its children nothing, and a pool's process waits for its
    next task for ever.
    """

    def watch() -> None:
        while parent_lives() and not stop.is_set():
            time.sleep(LOOK)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    """SIGINT is ignored, also by the processes that are started meanwhile, which would print
    tracebacks."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
