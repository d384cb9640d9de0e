"""Any split of the rows over accumulators or ranks gives the same figures, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from marigold_rec.metrics import (
    BinaryScores,
    RegressionScores,
    gather_to_rank0,
    merge_on_first_rank,
    row_counts,
)
from marigold_rec.metrics.row_counts import RowCounts
from tests.metrics.nasty_rows import Rows, binary_rows, second_rows
from tests.support.ranks import run_ranks

Scores = Any  # type[BinaryScores] or type[RegressionScores]; the tests treat both alike


def make_rows(kind: Scores, scores: str, weights: str, num_rows: int, seed: int = 0) -> Rows:
    make = binary_rows if kind is BinaryScores else second_rows
    return make(scores, weights, num_rows, seed)


def whole(kind: Scores, rows: Rows) -> Any:
    scores = kind()
    scores.add(rows.predictions, rows.labels, rows.weights)
    return scores.compute()


@pytest.fixture(params=[1 << 20, 16], ids=["one_lot", "many_lots"])
def small_lots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_counts, "_MIN_PENDING_ROWS", request.param)


@pytest.mark.usefixtures("small_lots")
@pytest.mark.parametrize("kind", [BinaryScores, RegressionScores])
@pytest.mark.parametrize("weights", ["ones", "some_zero", "wide"])
def test_shards_in_any_order(kind: Scores, weights: str) -> None:
    @settings(max_examples=40)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        num_rows = data.draw(st.integers(2, 120))
        scores = data.draw(st.sampled_from(["distinct", "few"]))
        rows = make_rows(kind, scores, weights, num_rows, seed=data.draw(st.integers(0, 99)))
        num_shards = data.draw(st.integers(1, 5))
        shard_of_row = np.array(
            data.draw(
                st.lists(st.integers(0, num_shards - 1), min_size=num_rows, max_size=num_rows)
            )
        )
        order = np.array(data.draw(st.permutations(range(num_rows))))
        parts = []
        for shard in range(num_shards):
            part = kind()
            mine = order[shard_of_row[order] == shard]
            for piece in np.array_split(mine, data.draw(st.integers(1, 4))):
                taken = rows.take(piece)
                part.add(taken.predictions, taken.labels, taken.weights)
                if data.draw(st.booleans()):
                    part.compute()  # looking in between changes nothing
            parts.append(part)
        # Equality of the dataclasses is equality of every float, without tolerance.
        assert kind.merged(parts).compute() == whole(kind, rows)

    check()


@pytest.mark.parametrize("kind", [BinaryScores, RegressionScores])
def test_large_shards(kind: Scores) -> None:
    """Long enough for numpy's sums to be pairwise and in blocks."""
    rows = make_rows(kind, "distinct", "wide", 50_000)
    expected = whole(kind, rows)
    for num_shards in (2, 3, 7):
        parts = [kind() for _ in range(num_shards)]
        for i, part in enumerate(parts):
            taken = rows.take(slice(i, None, num_shards))
            part.add(taken.predictions, taken.labels, taken.weights)
        assert kind.merged(reversed(parts)).compute() == expected


def test_merging_keeps_the_counts_of_what_was_left_out() -> None:
    parts = [BinaryScores(), BinaryScores()]
    for part in parts:
        part.add(np.array([0.5, np.nan], np.float32), np.array([0, 1]))
        part.add(np.array([0.5], np.float32), np.array([1]), np.array([0]))
    found = BinaryScores.merged(parts).compute()
    assert (found.rows, found.invalid_scores, found.zero_weight_rows) == (2, 2, 2)


def test_merging_leaves_the_parts_alone() -> None:
    parts = [BinaryScores(), BinaryScores()]
    parts[0].add(np.array([0.5], np.float32), np.array([0]))
    parts[1].add(np.array([0.6], np.float32), np.array([1]))
    before = [part.compute() for part in parts]
    total = BinaryScores.merged(parts)
    total.add(np.array([0.7], np.float32), np.array([1]))
    assert [part.compute() for part in parts] == before


@pytest.mark.usefixtures("small_lots")
@pytest.mark.parametrize("num_columns", [1, 2, 3])
def test_row_counts_equal_numpy(num_columns: int) -> None:
    generator = np.random.default_rng(0)
    rows = generator.integers(0, 5, (200, num_columns)).astype(np.uint64)
    expected, expected_counts = np.unique(rows, axis=0, return_counts=True)
    counter = RowCounts(num_columns)
    for piece in np.array_split(rows, 9):
        counter.add(*piece.T)
    columns, counts = counter.sorted()
    assert np.array_equal(np.stack(columns, axis=1), expected)
    assert np.array_equal(counts, expected_counts)


def _merged_over_ranks(kind: Scores, weights: str) -> Any:
    rank, world_size = dist.get_rank(), dist.get_world_size()
    rows = make_rows(kind, "few", weights, 3000)
    # Uneven: the last of three ranks has nothing.
    bounds = [0, 3000] if world_size == 1 else [0, 1100, 3000, 3000][: world_size + 1]
    mine = rows.take(slice(bounds[rank], bounds[rank + 1]))
    scores = kind()
    scores.add(mine.predictions, mine.labels, mine.weights)
    merged = merge_on_first_rank(scores, dist.group.WORLD)
    return None if merged is None else merged.compute()


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("kind", [BinaryScores, RegressionScores])
def test_ranks_equal_one_process(kind: Scores, world_size: int) -> None:
    found = run_ranks(_merged_over_ranks, world_size, kind, "wide", timeout_s=25)
    assert found == [whole(kind, make_rows(kind, "few", "wide", 3000))] + [None] * (world_size - 1)


def _gathered() -> Any:
    return gather_to_rank0({"rank": dist.get_rank()}, dist.group.WORLD)


def test_gather_keeps_the_order_of_ranks() -> None:
    assert run_ranks(_gathered, 3, timeout_s=25) == [[{"rank": r} for r in range(3)], None, None]
    assert gather_to_rank0("alone", None) == ["alone"]
