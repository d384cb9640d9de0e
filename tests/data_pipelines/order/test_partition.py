"""The order of rows as a pure function: nothing lost, nothing twice, equal steps everywhere."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.order.partition import (
    RankOrder,
    rank_interval,
    require_one_step,
    steps,
)
from data_pipelines.order.rest import plan_rest
from marigold_rec.errors import DataError

FILES = st.lists(st.lists(st.integers(0, 23), max_size=5), min_size=1, max_size=7)
WORLDS = st.integers(1, 17)
SHUFFLES = st.sampled_from([0, 1, 3, 10, 64])


def plan(groups: list[int], world: int, rank: int, shuffle: int, epoch: int = 0) -> RankOrder:
    return plan_rest(
        groups, (), seed=5, epoch=epoch, world_size=world, rank=rank, shuffle_rows=shuffle
    )


def order_of(order: RankOrder, groups: list[int]) -> list[int]:
    """Numbers of the rows (counted over all groups) in the rank's order."""
    firsts = np.concatenate([[0], np.cumsum(groups)])
    rows: list[int] = []
    for block in order.blocks:
        assert block.pieces
        joined = np.concatenate(
            [np.arange(firsts[p.group] + p.start, firsts[p.group] + p.stop) for p in block.pieces]
        )
        permutation = order.permutation(block)
        rows += (joined if permutation is None else joined[permutation]).tolist()
    return rows


@given(FILES, WORLDS, SHUFFLES)
def test_ranks_read_every_row_once(files: list[list[int]], world: int, shuffle: int):
    groups = [rows for file in files for rows in file]
    orders = [plan(groups, world, rank, shuffle) for rank in range(world)]
    parts = [order_of(order, groups) for order in orders]
    assert sorted(row for part in parts for row in part) == list(range(sum(groups)))
    for rank, (order, part) in enumerate(zip(orders, parts, strict=True)):
        start, stop = rank_interval(sum(groups), rank, world)
        assert order.num_rows == len(part) == stop - start
        if shuffle == 0:
            assert part == list(range(start, stop))


@given(FILES, WORLDS, st.integers(1, 9))
def test_every_rank_takes_the_same_steps(files: list[list[int]], world: int, batch: int):
    groups = [rows for file in files for rows in file]
    sizes = [plan(groups, world, rank, 0).num_rows for rank in range(world)]
    assert max(sizes) - min(sizes) <= 1
    # Enough for the largest rank, and not one more.
    assert -(-max(sizes) // batch) == steps(sum(groups), world, batch)


@given(FILES, WORLDS, SHUFFLES, st.integers(0, 3))
def test_the_order_is_a_function_of_its_arguments(
    files: list[list[int]], world: int, shuffle: int, epoch: int
):
    groups = [rows for file in files for rows in file]
    first = plan(groups, world, world - 1, shuffle, epoch)
    again = plan(groups, world, world - 1, shuffle, epoch)
    assert first == again
    assert order_of(first, groups) == order_of(again, groups)


@given(FILES, st.integers(1, 5), st.integers(1, 40))
def test_blocks_are_of_about_the_size_asked_for(files: list[list[int]], world: int, shuffle: int):
    groups = [rows for file in files for rows in file]
    for rank in range(world):
        order = plan(groups, world, rank, shuffle)
        assert all(block.num_rows <= 1.5 * shuffle + 2 for block in order.blocks)
        if order.num_rows >= shuffle:
            assert all(block.num_rows >= shuffle / 1.5 - 2 for block in order.blocks)
        firsts = np.cumsum([0, *(block.num_rows for block in order.blocks)])
        assert [block.first_row for block in order.blocks] == firsts[:-1].tolist()
        assert [block.index for block in order.blocks] == list(range(len(order.blocks)))


@given(FILES, st.integers(1, 5), st.integers(23, 60))
def test_the_ranks_go_through_the_days_together(files: list[list[int]], world: int, shuffle: int):
    """Row groups within shuffle_rows: the n-th blocks of all ranks lie before every (n+1)-th."""
    groups = [rows for file in files for rows in file]
    firsts = np.concatenate([[0], np.cumsum(groups)])
    orders = [plan(groups, world, rank, shuffle) for rank in range(world)]
    assert len({len(order.blocks) for order in orders if order.num_rows}) <= 1
    reached = -1
    for blocks in zip(*(order.blocks for order in orders), strict=False):
        rows = [
            (firsts[p.group] + p.start, firsts[p.group] + p.stop) for b in blocks for p in b.pieces
        ]
        assert min(start for start, _ in rows) > reached
        reached = max(stop for _, stop in rows) - 1


def spans(order: RankOrder, groups: list[int]) -> list[tuple[int, int]]:
    """First and last row (counted over all groups) of each block."""
    firsts = np.concatenate([[0], np.cumsum(groups)])
    return [
        (
            int(firsts[block.pieces[0].group] + block.pieces[0].start),
            int(firsts[block.pieces[-1].group] + block.pieces[-1].stop) - 1,
        )
        for block in order.blocks
    ]


@given(st.lists(st.integers(1, 23), max_size=30), st.integers(1, 5), st.integers(1, 23))
def test_with_large_row_groups_too_no_rank_runs_ahead(groups: list[int], world: int, shuffle: int):
    """Ranks are at most one window apart: 4 of the largest groups per rank (the last window)."""
    all_spans = [spans(plan(groups, world, rank, shuffle), groups) for rank in range(world)]
    for mine in all_spans:
        assert all(a[1] < b[0] for a, b in pairwise(mine))
    window = world * (max(4 * max(groups, default=0), 2 * shuffle) + 1)
    for blocks in zip(*all_spans, strict=False):
        assert max(last for _, last in blocks) - min(first for first, _ in blocks) < window


def decoded_rows(order: RankOrder, groups: list[int]) -> int:
    """Rows decoded where only the row group read last is kept."""
    read = [piece.group for block in order.blocks for piece in block.pieces]
    return sum(groups[b] for a, b in pairwise([-1, *read]) if a != b)


SIZES = st.integers(1, 23)


@given(SIZES, st.lists(SIZES, max_size=40), st.integers(1, 8), st.integers(1, 22))
def test_a_rank_decodes_little_that_it_does_not_use(
    size: int, rests: list[int], world: int, shuffle: int
):
    """Files of groups of `size` rows, each with a shorter last group: 1.5 times what is used.

    That is one more decoding of a group for every edge between two ranks' intervals.
    """
    groups = [rows for rest in rests for rows in (*[size] * 9, min(rest, size))]
    num_rows = sum(groups)
    orders = [plan(groups, world, rank, shuffle) for rank in range(world)]
    decoded = sum(decoded_rows(order, groups) for order in orders)
    if size > shuffle:
        # The last term: all ranks have too few rows to read whole groups.
        assert decoded <= max(1.5 * num_rows, num_rows + (world - 1) * size)
    else:
        assert decoded <= num_rows * (1 + 1.5 * size / shuffle) + world * size


@pytest.mark.parametrize(("world", "size"), [(2, 200_000), (8, 1_000_000)])
def test_equal_large_row_groups_are_decoded_once(world: int, size: int):
    groups = [size] * (6 * world)
    for rank in range(world):
        order = plan(groups, world, rank, 65_536)
        assert decoded_rows(order, groups) == order.num_rows == 6 * size
        assert max(block.num_rows for block in order.blocks) <= 1.5 * 65_536


def test_one_huge_row_group_does_not_coarsen_the_order_of_all():
    groups = [50] * 400 + [2000] + [50] * 400
    assert {len(plan(groups, 2, rank, 50).blocks) for rank in (0, 1)} == {420}
    assert len(spans(plan(groups, 2, 0, 50), groups)) == 420


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), WORLDS)
def test_row_groups_within_shuffle_rows_leave_the_windows_alone(groups: list[int], world: int):
    """The order with which quality was measured: windows of world x about 50 rows, one block each.

    The edges are spelled out here as they were then.
    """
    per_rank = sum(groups) // world
    count = max(1, round(per_rank / 50))
    edges = [*(index * per_rank // count * world for index in range(count)), sum(groups)]
    for rank in range(world):
        expected: list[tuple[int, int]] = []
        for start, stop in pairwise(edges):
            low, high = rank_interval(stop - start, rank, world)
            if low < high:
                expected.append((start + low, start + high - 1))
        assert spans(plan(groups, world, rank, 50), groups) == expected


def test_shuffling_everything_is_one_block():
    groups = [30, 0, 25]
    assert len(plan(groups, 2, 0, 1000).blocks) == 1


def test_without_shuffle_the_order_is_that_of_the_files():
    groups = [100_000, 3, 0, 70_000]
    order = plan(groups, 1, 0, 0)
    assert order_of(order, groups) == list(range(170_003))
    assert max(block.num_rows for block in order.blocks) < 100_000


def test_epochs_ranks_and_seeds_differ():
    groups = [50] * 10
    orders = {
        tuple(order_of(plan_rest(groups, (), seed=s, epoch=e, world_size=1, rank=0,
                                 shuffle_rows=100), groups))
        for s in (0, 1) for e in (0, 1, 2)
    }  # fmt: skip
    assert len(orders) == 6
    ranks = [order_of(plan(groups, 2, rank, 100), groups) for rank in (0, 1)]
    assert set(ranks[0]).isdisjoint(ranks[1])


def test_shuffling_mixes_row_groups():
    groups = [50] * 20
    first_block = order_of(plan(groups, 1, 0, 200), groups)[:200]
    assert len({row // 50 for row in first_block}) == 4
    assert first_block[:50] != sorted(first_block[:50])


@given(st.lists(st.integers(0, 40), max_size=8), st.integers(0, 30), st.data())
def test_block_at_finds_the_block_of_a_position(
    groups: list[int], shuffle: int, data: st.DataObject
):
    order = plan(groups, 1, 0, shuffle)
    position = data.draw(st.integers(0, order.num_rows))
    index = order.block_at(position)
    if position == order.num_rows:
        assert index == len(order.blocks)
    else:
        block = order.blocks[index]
        assert block.first_row <= position < block.first_row + block.num_rows
    with pytest.raises(ValueError, match="is outside"):
        order.block_at(order.num_rows + 1)


def test_too_few_rows_are_refused_with_the_figures():
    require_one_step(16, 2, 8)
    message = r"15 rows are fewer than one step takes: 2 ranks x batch_size 8 = 16; lower"
    with pytest.raises(DataError, match=message):
        require_one_step(15, 2, 8)
