"""The multi-rank harness itself: results, errors, deaths and hangs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from marigold_rec.errors import DataError
from tests.support.ranks import RankDiedError, RanksHungError, rank_outcomes, run_ranks


def _sum_of_ranks(offset: float) -> tuple[int, torch.Tensor]:
    total = torch.tensor([float(dist.get_rank()) + offset])
    dist.all_reduce(total)
    return dist.get_rank(), total


def _raise_on_one(rank: int) -> None:
    if dist.get_rank() == rank:
        raise DataError(["part-0.parquet: column 'click' is missing"])
    dist.barrier()


def _raise_on_all() -> None:
    raise DataError(f"seen by rank {dist.get_rank()}")


def _hang_on_one(rank: int) -> None:
    if dist.get_rank() == rank:
        _wait_for_nobody()


def _wait_for_nobody() -> None:
    time.sleep(600)


def _die(rank: int) -> None:
    if dist.get_rank() == rank:
        os._exit(17)
    dist.barrier()


def _surroundings() -> tuple[str, str, str, int, bool]:
    return (
        os.environ["MARIGOLD_PROBE"],
        os.getcwd(),
        os.environ["WORLD_SIZE"],
        torch.get_num_threads(),
        dist.is_initialized(),
    )


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_results_come_back_in_rank_order(world_size: int) -> None:
    results = run_ranks(_sum_of_ranks, world_size, 1.0)
    expected = torch.tensor([world_size * (world_size - 1) / 2 + world_size])
    assert [rank for rank, _ in results] == list(range(world_size))
    assert all(torch.equal(total, expected) for _, total in results)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_error_is_raised_with_its_type_and_its_rank(rank: int) -> None:
    with pytest.raises(DataError, match="column 'click' is missing") as caught:
        run_ranks(_raise_on_one, 2, rank)
    assert f"raised on rank {rank} of 2" in caught.value.__notes__[0]
    assert "_raise_on_one" in caught.value.__notes__[0]


def test_outcomes_hold_every_ranks_error() -> None:
    outcomes = rank_outcomes(_raise_on_all, 2)
    assert [str(outcome.error) for outcome in outcomes] == ["seen by rank 0", "seen by rank 1"]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_hang_is_a_failure_that_names_the_rank_and_its_place(rank: int) -> None:
    started = time.monotonic()
    with pytest.raises(RanksHungError, match=f"^rank {rank} of 2 did not finish in 4 s") as caught:
        run_ranks(_hang_on_one, 2, rank, timeout_s=4)
    assert time.monotonic() - started < 20
    assert "_wait_for_nobody" in str(caught.value)


def test_a_rank_that_dies_is_named() -> None:
    with pytest.raises(RankDiedError, match=r"rank 1 ended without a result \(exit code 17\)"):
        run_ranks(_die, 2, 1)


def test_ranks_see_the_callers_environment_and_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MARIGOLD_PROBE", "seen")
    monkeypatch.chdir(tmp_path)
    assert (
        run_ranks(_surroundings, 2, init_group=False)
        == [("seen", str(tmp_path), "2", 1, False)] * 2
    )
