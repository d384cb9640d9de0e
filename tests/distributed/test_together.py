"""What one rank meets, all ranks do: errors, results, and the step's agreement."""

from __future__ import annotations

from typing import Any

import pytest
import torch.distributed as dist

from marigold_rec.distributed import (
    Agreement,
    Decision,
    on_every_rank,
    on_first_rank,
    raise_together,
)
from marigold_rec.errors import ConfigError, DataError, MarigoldError
from tests.support.ranks import rank_outcomes, run_ranks


def _control() -> dist.ProcessGroup:
    group = dist.group.WORLD
    assert group is not None
    return group


class _Unpicklable(Exception):
    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


def _fail(bad_ranks: tuple[int, ...], error: BaseException) -> int:
    rank = dist.get_rank()
    if rank in bad_ranks:
        raise error
    return 10 * rank


def _fail_on_every(bad_ranks: tuple[int, ...], error: BaseException) -> int:
    return on_every_rank(lambda: _fail(bad_ranks, error), _control())


def _fail_on_first(bad_ranks: tuple[int, ...], error: BaseException) -> int:
    return on_first_rank(lambda: _fail(bad_ranks, error), _control())


_TWO = DataError(["part-1: torn", "part-2: empty"])


def test_work_that_succeeds_gives_each_rank_its_own_result_or_the_first_ones() -> None:
    assert run_ranks(_fail_on_every, 3, (), _TWO, timeout_s=20) == [0, 10, 20]
    assert run_ranks(_fail_on_first, 3, (1, 2), _TWO, timeout_s=20) == [0, 0, 0]


@pytest.mark.parametrize("bad_ranks", [(0,), (2,), (1, 2)])
def test_an_error_of_any_rank_is_raised_on_all(bad_ranks: tuple[int, ...]) -> None:
    for outcome in rank_outcomes(_fail_on_every, 3, bad_ranks, _TWO, timeout_s=20):
        assert isinstance(outcome.error, DataError)
        assert outcome.error.problems == _TWO.problems


def test_the_first_ranks_error_is_raised_on_all() -> None:
    error = ConfigError("run.dir: is a file")
    for outcome in rank_outcomes(_fail_on_first, 3, (0,), error, timeout_s=20):
        assert isinstance(outcome.error, ConfigError)
        assert str(outcome.error) == "run.dir: is a file"


def _fail_with_what_cannot_be_sent(on_first: bool) -> int:
    error = _Unpicklable("this", "that")
    return (_fail_on_first if on_first else _fail_on_every)((0,), error)


@pytest.mark.parametrize("on_first", [False, True])
def test_an_error_that_cannot_be_sent_is_told_in_its_words(on_first: bool) -> None:
    for outcome in rank_outcomes(_fail_with_what_cannot_be_sent, 2, on_first, timeout_s=20):
        assert isinstance(outcome.error, MarigoldError)
        assert str(outcome.error) == "_Unpicklable: this and that"


def _raise_own() -> None:
    rank = dist.get_rank()
    raise_together(DataError(f"of rank {rank}") if rank > 0 else None, _control())


def test_of_several_errors_all_raise_the_lowest_ranks() -> None:
    assert [str(o.error) for o in rank_outcomes(_raise_own, 3, timeout_s=20)] == ["of rank 1"] * 3


def _agree(flags: list[dict[str, bool]]) -> list[Decision]:
    agreement = Agreement(_control())
    none = {"failed": False, "stop": False, "save": False}
    rank = dist.get_rank()
    found = [agreement.reach(**{**none, **flags[rank]})]
    return [*found, agreement.reach(**none)]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_a_wish_of_one_rank_is_decided_for_all_and_for_one_step(world_size: int) -> None:
    flags: list[dict[str, bool]] = [{"save": True}, {"stop": True}, {"failed": True}][:world_size]
    expected: dict[str, Any] = {"failed": False, "stop": False, "save": False}
    nothing = Decision(**expected)
    for wishes in flags:
        expected |= wishes
    for found in run_ranks(_agree, world_size, flags, timeout_s=20):
        assert found == [Decision(**expected), nothing]
