"""SIGTERM and SIGINT ask for a stop at the end of the step; a second one ends it at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from marigold_rec.errors import EXIT_PREEMPTED

# Ctrl-C reaches a rank twice within moments: from the terminal, and from torchrun, which passes it
# on. Only what comes later is a second wish.
_ONE_WISH_S = 1.0


class StopRequest:
    """Set by a signal; the ranks' agreement carries it to all."""

    def __init__(self) -> None:
        self._at: float | None = None

    @property
    def is_set(self) -> bool:
        return self._at is not None

    def on_signal(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._at is None:
            self._at = now
        elif now - self._at > _ONE_WISH_S:
            os._exit(EXIT_PREEMPTED)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Inside, SIGTERM and SIGINT set the request; afterwards they do what they did before."""
    request = StopRequest()
    before = {
        number: signal.signal(number, request.on_signal)
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
