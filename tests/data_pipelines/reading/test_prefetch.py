"""The background thread: order, bound, errors, and that it always ends."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Generator

import pytest

from data_pipelines.reading.prefetch import Prefetched

WAIT_S = 20.0


def numbers(produced: list[int], closed: threading.Event) -> Generator[int, None, None]:
    try:
        for number in range(1000):
            produced.append(number)
            yield number
    finally:
        closed.set()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch-test"]


def test_items_come_in_order_and_the_thread_ends():
    closed = threading.Event()
    assert list(Prefetched(numbers([], closed), 3, "prefetch-test")) == list(range(1000))
    assert closed.wait(WAIT_S)
    for thread in threads():
        thread.join(WAIT_S)
    assert threads() == []


def test_look_ahead_is_bounded_and_close_ends_it():
    produced, closed = [], threading.Event()
    items = Prefetched(numbers(produced, closed), 3, "prefetch-test")
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    items.close()
    # 5 taken, 3 in the queue, one held by the thread.
    assert len(produced) <= 9
    assert closed.is_set()
    assert threads() == []
    with pytest.raises(StopIteration):
        next(items)
    items.close()


def test_dropping_the_iterator_ends_it():
    closed = threading.Event()
    items = Prefetched(numbers([], closed), 3, "prefetch-test")
    assert next(items) == 0
    del items
    gc.collect()
    assert closed.is_set()
    assert threads() == []


def test_being_dropped_in_another_thread_does_not_wait():
    closed = threading.Event()
    holder = [Prefetched(numbers([], closed), 3, "prefetch-test")]
    dropper = threading.Thread(target=holder.clear)
    dropper.start()
    dropper.join(WAIT_S)
    assert not dropper.is_alive()
    assert closed.wait(WAIT_S)


def test_an_error_arrives_in_its_place():
    def failing() -> Generator[int, None, None]:
        yield 1
        yield 2
        raise KeyError("three")

    items = Prefetched(failing(), 10, "prefetch-test")
    assert (next(items), next(items)) == (1, 2)
    with pytest.raises(KeyError, match="three"):
        next(items)
    with pytest.raises(StopIteration):
        next(items)


def test_an_interpreter_exits_while_an_iterator_is_held():
    program = (
        "import itertools\n"
        "from data_pipelines.reading.prefetch import Prefetched\n"
        "held = Prefetched((n for n in itertools.count()), 2, 'x')\n"
        "assert next(held) == 0\n"
        "print('done')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("done\n", "")
