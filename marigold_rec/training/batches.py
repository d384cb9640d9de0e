"""The training batches of all epochs, fetched ahead of the step so that a failure can be agreed on.

TorchRec's pipeline pulls batches in the middle of a step, between collectives: a reader that raises
there leaves the other ranks hanging. Batches are therefore fetched before the ranks' agreement, and
the pipeline only takes what is already there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

from marigold_rec.batch import Batch

# What the pipeline pulls in its first step: one to run, one to exchange ids for, one to transfer.
_PIPELINE_DEPTH = 3


class FetchedBatches(Iterator[Batch]):
    """An iterator that never raises and never waits inside the step.

    `fetch()` before each agreement; then `error` or `is_exhausted` tell what this rank has met.
    """

    def __init__(self, batches: Iterator[Batch], prepare: Callable[[Batch], Batch]) -> None:
        self._batches = batches
        self._prepare = prepare
        self._ahead: deque[Batch] = deque()
        self._in_pipeline = 0
        self._ended = False
        self.error: BaseException | None = None
        self.wait_s = 0.0
        """Seconds spent waiting for the reader so far."""

    @property
    def is_exhausted(self) -> bool:
        """Whether this rank has no batch left to train on, in the pipeline or ahead of it."""
        return self._ended and not self._ahead and self._in_pipeline == 0

    def fetch(self) -> None:
        started = time.perf_counter()
        while not self._ended and len(self._ahead) + self._in_pipeline < _PIPELINE_DEPTH:
            try:
                self._ahead.append(self._prepare(next(self._batches)))
            except StopIteration:
                self._ended = True
            except Exception as error:
                self.error, self._ended = error, True
        self.wait_s += time.perf_counter() - started

    def close(self) -> None:
        """Ends the reader's background work; batches not yet trained on are dropped."""
        self._ahead.clear()
        self._ended = True
        close = getattr(self._batches, "close", None)
        if close is not None:
            close()

    def consumed(self) -> None:
        """A step has been taken: its batch has left the pipeline."""
        self._in_pipeline -= 1

    def __next__(self) -> Batch:
        if not self._ahead:
            raise StopIteration
        self._in_pipeline += 1
        return self._ahead.popleft()
