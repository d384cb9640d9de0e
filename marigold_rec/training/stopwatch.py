"""Adds up seconds: one object spends them, another one reports them."""

from __future__ import annotations

import time


class Stopwatch:
    """A context manager; `seconds` is the total time spent inside it so far."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_exception: object) -> None:
        self.seconds += time.perf_counter() - self._started
