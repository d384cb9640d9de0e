"""Errors that every rank raises: a rank that raises alone leaves the others hanging."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

from marigold_rec.errors import MarigoldError

Result = TypeVar("Result")


def raise_together(error: BaseException | None, control: dist.ProcessGroup) -> None:
    """Raises the first rank's error on every rank, or returns on every rank. Collective."""
    found: list[BaseException | None] = [None] * control.size()
    dist.all_gather_object(found, None if error is None else _portable(error), group=control)
    first = next((e for e in found if e is not None), None)
    if first is not None:
        raise first from (error if first is not error else None)


def on_every_rank(work: Callable[[], Result], control: dist.ProcessGroup) -> Result:
    """Runs `work` on every rank; if it raises on any, every rank raises that error. Collective."""
    result, error = _attempt(work)
    raise_together(error, control)
    return result  # pyright: ignore[reportReturnType]


def on_first_rank(work: Callable[[], Result], control: dist.ProcessGroup) -> Result:
    """Runs `work` on rank 0 only and gives its result, or its error, to every rank. Collective."""
    outcome: list[tuple[Result | None, BaseException | None]] = [(None, None)]
    cause: BaseException | None = None
    if control.rank() == 0:
        result, cause = _attempt(work)
        outcome = [(result, None if cause is None else _portable(cause))]
    dist.broadcast_object_list(outcome, src=0, group=control)
    result, error = outcome[0]
    if error is not None:
        raise error from cause
    return result  # pyright: ignore[reportReturnType]


def _attempt(work: Callable[[], Result]) -> tuple[Result | None, BaseException | None]:
    try:
        return work(), None
    except Exception as error:  # carried to the other ranks and raised there
        return None, error


def _portable(error: BaseException) -> BaseException:
    """The error itself if it can cross a process border, else one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return MarigoldError(f"{type(error).__name__}: {error}")
