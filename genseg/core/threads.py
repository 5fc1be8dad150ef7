"""Work on images in threads, with the results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")
AT_ONCE = 4  # images, at most: each has memory of its own


def in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[_Item], _Made],
    items: Iterable[_Item],
    *,
    ahead: int = AT_ONCE,
) -> Iterator[_Made]:
    """The results of all items, of which no more than `ahead` are begun before they are wanted."""
    begun = deque[Future[_Made]]()
    for item in items:
        begun.append(pool.submit(work, item))
        if len(begun) > ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


@contextmanager
def several_at_once(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Threads for a network that sees one image at a time: on a CPU several, among which torch's
    threads are divided, since two images with one thread each take less time than two in turn with
    two; elsewhere one."""
    threads = torch.get_num_threads()
    count = min(threads, AT_ONCE) if device.type == "cpu" else 1
    try:
        with ThreadPoolExecutor(
            count, initializer=torch.set_num_threads, initargs=(threads // count,)
        ) as pool:
            try:
                yield pool
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # what has begun comes to its end
                raise
    finally:
        torch.set_num_threads(threads)  # those of a new thread are what was set last, in any
