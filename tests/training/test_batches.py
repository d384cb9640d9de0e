"""A reader that fails or ends early on one rank ends all ranks, in seconds, with its own words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from marigold_rec.batch import Batch, Cursor
from marigold_rec.errors import DataError
from marigold_rec.training.batches import FetchedBatches
from tests.support.launches import (
    PATIENT,
    AtBatch,
    Raise,
    checkpoints,
    codes,
    end_early,
    launch_train,
    summary,
)
from tests.support.runs import default_setup

_STEPS = 32  # of default_setup on two ranks
_TORN = DataError("part-00000.parquet: row group 3 is torn")
_slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("batch", "rank"),
    [pytest.param(0, 1, marks=_slow), (9, 0), pytest.param(_STEPS - 1, 1, marks=_slow)],
)
def test_a_reader_that_raises_ends_all_ranks(tmp_path: Path, batch: int, rank: int) -> None:
    config = default_setup(tmp_path)
    ended = launch_train(config, PATIENT, faults=(AtBatch(batch, rank, Raise(_TORN)),))
    assert codes(ended) == [3, 3]
    assert f"DataError: {_TORN}" in ended[0].said
    found = summary(tmp_path / "runs/test")
    assert (found["status"], found["exit_code"], found["error"]) == ("failed", 3, str(_TORN))
    # Fetched three ahead, the error is known two steps early; what was trained until then is saved.
    trained = max(0, batch - 2)
    assert checkpoints(tmp_path / "runs/test") == [f"step-{trained:09d}"] * (trained > 0)


@pytest.mark.parametrize(
    ("batch", "rank"),
    [pytest.param(0, 1, marks=_slow), pytest.param(_STEPS - 2, 0, marks=_slow), (_STEPS - 1, 1)],
)
def test_a_reader_that_ends_early_ends_all_ranks(tmp_path: Path, batch: int, rank: int) -> None:
    config = default_setup(tmp_path)
    ended = launch_train(config, PATIENT, faults=(AtBatch(batch, rank, end_early),))
    assert codes(ended) == [1, 1]
    for one in ended:
        assert f"the reader ended after {batch} of {_STEPS} batches" in one.said


@pytest.mark.parametrize(
    ("action", "code"), [pytest.param(Raise(_TORN), 3, marks=_slow), (end_early, 1)]
)
def test_a_faulty_evaluation_reader_ends_all_ranks_after_the_save(
    tmp_path: Path, action: Callable[[Any], None], code: int
) -> None:
    config = default_setup(tmp_path, rows=1000)
    ended = launch_train(config, PATIENT, faults=(AtBatch(2, 1, action, pass_number=1),))
    assert codes(ended) == [code, code]
    assert checkpoints(tmp_path / "runs/test") == ["step-000000008"]


def _batch(number: int) -> Batch:
    empty = torch.zeros(0)
    sparse = KeyedJaggedTensor(["id"], empty, lengths=torch.zeros(1, dtype=torch.int32))
    return Batch(sparse, empty, empty, empty, empty, 0, Cursor(0, number))


def _numbers(stop: int, error: Exception | None = None) -> Iterator[Batch]:
    for number in range(stop):
        yield _batch(number)
    if error is not None:
        raise error


def _taken(batches: FetchedBatches, count: int) -> list[int]:
    """As the trainer does, with a pipeline that pulls two batches ahead of the one it runs."""
    pulled: list[int] = []
    for _ in range(count):
        batches.fetch()
        if batches.error is not None:
            break
        while len(pulled) < count and (one := next(batches, None)) is not None:
            pulled.append(one.cursor.rows)
        batches.consumed()
    return pulled


def test_it_gives_as_many_batches_as_were_asked_for() -> None:
    source = _numbers(100)
    batches = FetchedBatches(source, lambda batch: batch, limit=7)
    assert _taken(batches, 7) == list(range(7))
    batches.fetch()
    with pytest.raises(StopIteration):
        next(batches)
    assert batches.error is None
    assert next(source).cursor.rows == 7, "more was read than the run has steps"


def test_it_stays_three_batches_ahead() -> None:
    source = _numbers(100)
    batches = FetchedBatches(source, lambda batch: batch, limit=100)
    batches.fetch()
    batches.fetch()
    assert next(source).cursor.rows == 3


def test_an_error_is_known_before_the_batches_ahead_of_it_are_taken() -> None:
    batches = FetchedBatches(_numbers(5, _TORN), lambda batch: batch, limit=9)
    assert _taken(batches, 9) == [0, 1, 2, 3, 4]
    assert batches.error is _TORN


def test_an_early_end_is_an_error() -> None:
    batches = FetchedBatches(_numbers(2), lambda batch: batch, limit=3)
    batches.fetch()
    assert isinstance(batches.error, AssertionError)
    assert "ended after 2 of 3 batches" in str(batches.error)


def test_preparing_may_change_or_refuse_a_batch() -> None:
    def prepare(batch: Batch) -> Batch:
        if batch.cursor.rows == 1:
            raise _TORN
        return replace(batch, num_rows=11)

    batches = FetchedBatches(_numbers(5), prepare, limit=5)
    batches.fetch()
    assert batches.error is _TORN
    assert next(batches).num_rows == 11


def test_closing_ends_the_source_and_drops_what_was_ahead() -> None:
    was_closed = []

    def source() -> Iterator[Batch]:
        try:
            yield from _numbers(100)
        finally:
            was_closed.append(True)

    batches = FetchedBatches(source(), lambda batch: batch, limit=100)
    batches.fetch()
    batches.close()
    assert was_closed == [True]
    batches.fetch()
    assert batches.error is None
    with pytest.raises(StopIteration):
        next(batches)
