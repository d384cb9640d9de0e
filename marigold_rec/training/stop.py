"""SIGTERM and SIGINT ask for a stop at the end of the step; a second one ends it at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from marigold_rec.errors import EXIT_PREEMPTED


class StopRequest:
    """Set by a signal; the ranks' agreement carries it to all."""

    def __init__(self) -> None:
        self.is_set = False

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self.is_set:
            os._exit(EXIT_PREEMPTED)
        self.is_set = True


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    request = StopRequest()
    before = {
        number: signal.signal(number, request._on_signal)
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
