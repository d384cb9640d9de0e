"""Runs a generator in a background thread, a bounded number of items ahead of its consumer."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetched(Iterator[Item]):
    """The items of `items`, in order; an exception of the generator is raised in their place.

    The thread ends when the generator does, on `close()`, when this object is dropped and at
    interpreter exit; the generator is then closed, in the background thread.
    """

    def __init__(self, items: Generator[Item, None, None], depth: int, name: str) -> None:
        self._channel: _Channel[Item] = _Channel(depth)
        # A daemon, for else the interpreter waits at exit for a thread that waits for a consumer.
        # It must not refer to self: being dropped is what ends it.
        self._thread = threading.Thread(
            target=_pump, args=(items, self._channel), name=name, daemon=True
        )
        self._end = weakref.finalize(self, _end, self._channel, self._thread)
        self._thread.start()

    def __next__(self) -> Item:
        return self._channel.get()

    def close(self) -> None:
        """Ends the thread and waits for it: for one block's decoding at most."""
        self._end()
        self._thread.join()


class _Channel(Generic[Item]):
    """A bounded queue whose either end can be closed."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._is_finished = False
        self._error: BaseException | None = None

    def put(self, item: Item) -> bool:
        """Waits for room; False when the consumer has closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or len(self._items) < self._depth)
            if self._is_closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def finish(self, error: BaseException | None) -> None:
        with self._changed:
            self._is_finished, self._error = True, error
            self._changed.notify_all()

    def get(self) -> Item:
        """Waits for an item. Raises StopIteration at the end, or the producer's exception."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._is_finished or self._is_closed)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            raise StopIteration

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._items.clear()
            self._changed.notify_all()


def _pump(items: Generator[Item, None, None], channel: _Channel[Item]) -> None:
    error = None
    try:
        for item in items:
            if not channel.put(item):
                break
    except BaseException as raised:
        # Whatever it is, it belongs to the consumer: a thread's own exceptions go unseen.
        error = raised
    finally:
        items.close()
        channel.finish(error)


def _end(channel: _Channel[Item], thread: threading.Thread) -> None:
    channel.close()
    # The garbage collector may call this in any thread, the producer's own workers included: only
    # the main thread, on which no worker waits, may wait here. At exit it must: a daemon thread
    # inside native code while the interpreter goes down can crash the process.
    if threading.current_thread() is threading.main_thread():
        thread.join()
