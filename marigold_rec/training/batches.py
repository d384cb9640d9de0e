"""Fetches batches ahead of the step, so that a reader's failure can be agreed on.

TorchRec's pipeline pulls batches in the middle of a step, between collectives: a reader that raises
there leaves the other ranks hanging. Batches are therefore fetched before the ranks' agreement, and
the pipeline only takes what is already there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from marigold_rec.batch import Batch, Cursor
from marigold_rec.training.stopwatch import Stopwatch

# What the pipeline pulls in its first step: one to run, one to exchange ids for, one to transfer.
_PIPELINE_DEPTH = 3


class Reader(Protocol):
    """Is all that training and evaluation ask of a source of batches."""

    @property
    def steps_per_epoch(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def counts(self) -> Mapping[str, int]: ...

    def steps_left(self, start: Cursor) -> int: ...

    def batches(self, start: Cursor) -> Iterator[Batch]: ...


class FetchedBatches(Iterator[Batch]):
    """Is an iterator that never raises and never waits inside the step.

    Call `fetch()` before each agreement; then `error` tells whether this rank's reader has failed.
    To end before `limit` batches is a failure too, and it is known before any rank's pipeline pulls
    the batch that this rank does not have: its exchange of ids would wait for this rank.
    """

    def __init__(
        self,
        batches: Iterator[Batch],
        prepare: Callable[[Batch], Batch],
        limit: int,
        waiting: Stopwatch | None = None,
    ) -> None:
        """Gives `limit` batches, the same number on every rank, and asks for no more.

        `waiting` measures the time spent waiting for the reader.
        """
        self._batches = batches
        self._prepare = prepare
        self._limit = limit
        self._num_fetched = 0
        self._ahead: deque[Batch] = deque()
        self._in_pipeline = 0
        self._is_closed = False
        self._waiting = waiting or Stopwatch()
        self.error: BaseException | None = None

    def fetch(self) -> None:
        """Reads ahead as far as the pipeline will pull in the next step; keeps what is raised."""
        with self._waiting:
            while self._wants_more():
                try:
                    self._ahead.append(self._prepare(next(self._batches)))
                    self._num_fetched += 1
                except StopIteration:
                    self.error = AssertionError(
                        f"the reader ended after {self._num_fetched} of {self._limit} batches: the "
                        "row partition must give every rank the same number of steps"
                    )
                except Exception as error:
                    self.error = error

    def close(self) -> None:
        """Ends the reader's background work; batches not yet trained on are dropped."""
        self._ahead.clear()
        self._is_closed = True
        close = getattr(self._batches, "close", None)
        if close is not None:
            close()

    def consumed(self) -> None:
        """Notes that a step has been taken: its batch has left the pipeline."""
        self._in_pipeline -= 1

    def __next__(self) -> Batch:
        if not self._ahead:
            raise StopIteration
        self._in_pipeline += 1
        return self._ahead.popleft()

    def _wants_more(self) -> bool:
        return (
            not self._is_closed
            and self.error is None
            and self._num_fetched < self._limit
            and len(self._ahead) + self._in_pipeline < _PIPELINE_DEPTH
        )
