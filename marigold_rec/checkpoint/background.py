"""Work beside the training, in a thread of its own."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")

_NICENESS = 10
"""Where the steps take every core, hashing and writing yield to them."""


class InBackground(Generic[Result]):
    """Starts `work` at once, and keeps what becomes of it until somebody asks."""

    def __init__(self, work: Callable[[], Result], name: str) -> None:
        self._work = work
        self._result: Result | None = None
        self._error: BaseException | None = None
        # A daemon: a rank that must end at once (a second signal) doesn't wait for the disk.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Returns when the work is over, however it ended."""
        self._thread.join()

    def result(self) -> Result:
        """Waits, and returns what the work returned or raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result  # pyright: ignore[reportReturnType]

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # on Linux a thread's own, and its children's
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        try:
            self._result = self._work()
        except BaseException as error:  # kept for result(): nobody else would see it
            self._error = error
