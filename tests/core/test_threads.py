"""Threads: results in order, little begun ahead, torch's threads divided and given back."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from genseg.core.threads import AT_ONCE, in_order, several_at_once

CPU = torch.device("cpu")


def test_results_come_in_order_and_little_is_begun_ahead() -> None:
    begun = list[int]()

    def work(n: int) -> int:
        begun.append(n)
        time.sleep(0.02 if n % 2 == 0 else 0)  # every second one overtakes
        return n * n

    with ThreadPoolExecutor(3) as pool:
        made = in_order(pool, work, range(20), ahead=3)
        assert next(made) == 0
        time.sleep(0.1)
        assert len(begun) == 4  # the first, and three ahead
        assert list(made) == [n * n for n in range(1, 20)]
        assert list(in_order(pool, work, [], ahead=3)) == []


@pytest.mark.parametrize(("threads", "workers", "each"), [(1, 1, 1), (2, 2, 1), (9, AT_ONCE, 2)])
def test_torchs_threads_are_divided_among_several_images(
    threads: int, workers: int, each: int
) -> None:
    before = torch.get_num_threads()
    meet = threading.Barrier(workers)

    def work(_: int) -> int:
        meet.wait(30)  # so that every worker takes one
        return torch.get_num_threads()

    try:
        torch.set_num_threads(threads)
        with several_at_once(CPU) as pool:
            assert list(pool.map(work, range(workers))) == [each] * workers
        assert torch.get_num_threads() == threads
        with ThreadPoolExecutor(1) as pool:  # a new thread has as many again
            assert pool.submit(torch.get_num_threads).result() == threads
    finally:
        torch.set_num_threads(before)


def test_elsewhere_than_on_a_cpu_there_is_one_image_at_a_time() -> None:
    names = set[str]()
    with several_at_once(torch.device("meta")) as pool:
        list(pool.map(lambda _: names.add(threading.current_thread().name), range(10)))
        assert pool.submit(torch.get_num_threads).result() == torch.get_num_threads()
    assert len(names) == 1


def test_an_error_begins_nothing_more() -> None:
    done = list[int]()

    def work(n: int) -> None:
        time.sleep(0.05)
        done.append(n)

    with pytest.raises(KeyboardInterrupt), several_at_once(torch.device("meta")) as pool:
        for n in range(20):
            pool.submit(work, n)
        raise KeyboardInterrupt
    assert len(done) < 3
