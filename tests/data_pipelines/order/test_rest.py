"""What other numbers of ranks have left of an epoch: nothing lost, nothing twice, equal steps.

Chains of legs, each with its own number of ranks and batch size, each cut after any number of its
steps, are played with the reader's rule of positions (a rank without rows counts whole batches).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.order.partition import RankOrder, steps
from data_pipelines.order.rest import plan_rest, rows_left
from marigold_rec.batch import Cursor, Leg, carried_on
from tests.data_pipelines.order.test_partition import decoded_rows, order_of

FILES = st.lists(st.lists(st.integers(0, 23), max_size=5), min_size=1, max_size=7)
SHUFFLES = st.sampled_from([0, 1, 3, 10, 64])
WORLDS = st.integers(1, 6)


@dataclass(frozen=True)
class Part:
    """Of a chain: so many ranks, with batches of so many rows, for about that part of its steps."""

    world: int
    batch: int
    share: float


PARTS = st.builds(Part, WORLDS, st.integers(1, 9), st.floats(0, 1))
CHAINS = st.lists(PARTS, min_size=1, max_size=4)


@dataclass(frozen=True)
class Played:
    """What became of one leg: per rank, the rows taken, and those it would have taken next."""

    orders: list[RankOrder]
    taken: list[list[int]]
    left: list[list[int]]
    cursors: list[Cursor]


def plan_all(groups: list[int], legs: tuple[Leg, ...], world: int, shuffle: int) -> list[RankOrder]:
    return [
        plan_rest(
            groups, legs, seed=5, epoch=2, world_size=world, rank=rank, shuffle_rows=shuffle
        )
        for rank in range(world)
    ]  # fmt: skip


def play(groups: list[int], chain: list[Part], shuffle: int) -> list[Played]:
    """The last part of the chain goes to the end of the epoch."""
    played: list[Played] = []
    legs: tuple[Leg, ...] = ()
    for number, part in enumerate(chain):
        orders = plan_all(groups, legs, part.world, shuffle)
        num_steps = -(-orders[0].most_rows // part.batch)
        if number < len(chain) - 1:
            num_steps = int(num_steps * part.share)
        cursors, taken, left = [], [], []
        for order in orders:
            position = num_steps * part.batch
            # The end of the rank's rows in the batch that holds the last of them; then whole ones.
            if order.num_rows > position - part.batch:
                position = min(position, order.num_rows)
            rows = order_of(order, groups)
            cursors.append(Cursor(2, position, legs))
            taken.append(rows[:position])
            left.append(rows[position:])
        played.append(Played(orders, taken, left, cursors))
        legs = carried_on(cursors).legs
    return played


@given(FILES, CHAINS, SHUFFLES)
def test_every_row_is_read_once(files: list[list[int]], chain: list[Part], shuffle: int):
    groups = [rows for file in files for rows in file]
    played = play(groups, chain, shuffle)
    rows = [row for leg in played for taken in leg.taken for row in taken]
    assert sorted(rows) == list(range(sum(groups)))


@given(FILES, CHAINS, SHUFFLES)
def test_every_rank_takes_the_same_steps(files: list[list[int]], chain: list[Part], shuffle: int):
    groups = [rows for file in files for rows in file]
    for leg, part in zip(play(groups, chain, shuffle), chain, strict=True):
        sizes = [order.num_rows for order in leg.orders]
        assert max(sizes) - min(sizes) <= 1
        assert {order.most_rows for order in leg.orders} == {max(sizes)}
        left = rows_left(sum(groups), leg.cursors[0].legs)
        assert sum(sizes) == left
        assert -(-max(sizes) // part.batch) == steps(left, part.world, part.batch)
        after = carried_on(leg.cursors)
        assert rows_left(sum(groups), after.legs) == sum(len(rows) for rows in leg.left)


@given(FILES, st.lists(st.tuples(WORLDS, st.floats(0, 1)), min_size=1, max_size=4), SHUFFLES)
def test_the_same_rows_per_step_take_the_same_steps(
    files: list[list[int]], parts: list[tuple[int, float]], shuffle: int
):
    groups = [rows for file in files for rows in file]
    chain = [Part(world, 60 // world, share) for world, share in parts]
    num_steps = 0
    for leg, part in zip(play(groups, chain, shuffle), chain, strict=True):
        num_steps += max(-(-len(rows) // part.batch) for rows in leg.taken)
    assert num_steps == -(-sum(groups) // 60)


def test_no_stream_is_used_twice_for_other_rows():
    """The permutations of a rest are no copies of those of the epoch, nor of another rest's."""
    groups = [40] * 50
    chain = [Part(3, 7, 0.2), Part(3, 7, 0.3), Part(2, 5, 0.4), Part(3, 7, 1)]
    pieces_of: dict[tuple[int, ...], set[object]] = {}
    for leg in play(groups, chain, shuffle=50):
        for order in leg.orders:
            for block in order.blocks:
                pieces_of.setdefault(block.stream, set()).add(block.pieces)
    assert all(len(pieces) == 1 for pieces in pieces_of.values())
    assert {len(stream) for stream in pieces_of} == {3, 4}


@given(FILES, st.lists(PARTS, min_size=2, max_size=4), st.integers(23, 60))
def test_the_ranks_go_on_through_the_days_together(
    files: list[list[int]], chain: list[Part], shuffle: int
):
    """What comes next lies, on every rank, within about two windows of the oldest row left."""
    groups = [rows for file in files for rows in file]
    for before, leg in pairwise(play(groups, chain, shuffle)):
        left = sorted(row for rows in before.left for row in rows)
        rows = [order_of(order, groups) for order in leg.orders]
        worlds = len(before.orders) + len(leg.orders)
        for step in range(0, leg.orders[0].most_rows, 5):
            ahead = [row for mine in rows for row in mine[step : step + 1]]
            number = np.searchsorted(left, ahead) - step * len(leg.orders)
            assert np.abs(number).max(initial=0) <= 2 * worlds * (1.5 * shuffle + 2)


@pytest.mark.parametrize(("size", "shuffle"), [(60, 100), (100, 100), (1000, 100), (37, 100)])
@pytest.mark.parametrize("worlds", [(2, 1, 3), (4, 6, 5), (8, 6, 8), (6, 1, 6)])
def test_a_rest_is_decoded_little_more_than_an_epoch(
    size: int, shuffle: int, worlds: tuple[int, ...]
):
    """Only the window in which the ranks stood costs more: its blocks are cut by the new ranks."""
    groups = [size] * (96_000 // size)
    chain = [Part(world, 24 // world or 1, 0.31) for world in worlds]
    # What a whole epoch may cost, see test_partition.py.
    usual = 1.5 if size > shuffle else 1 + 1.5 * size / shuffle
    for leg in play(groups, chain, shuffle):
        decoded = sum(decoded_rows(order, groups) for order in leg.orders)
        used = sum(order.num_rows for order in leg.orders)
        window = max(worlds) * max(2 * size, shuffle)
        assert decoded <= used * usual + 2 * window


def test_equal_large_groups_stay_whole():
    """Later windows begin where a group begins, so that no group is decoded by two ranks."""
    groups = [1000] * 96
    chain = [Part(2, 30, 0.3), Part(3, 20, 1)]
    rest = play(groups, chain, 100)[1]
    later = [b for order in rest.orders for b in order.blocks if len(b.stream) == 4]
    readers: dict[int, set[int]] = {}
    for block in later:
        for piece in block.pieces:
            readers.setdefault(piece.group, set()).add(block.stream[1])
    assert len(readers) > 60
    # The last window holds what is left, which may be no multiple of the ranks.
    assert all(len(ranks) == 1 for group, ranks in readers.items() if group < 96 - 12)


def test_many_changes_within_one_window_leave_no_crumbs():
    """Parts of a block that follow on each other are joined again."""
    groups = [50] * 200
    chain = [Part(world, 2, 0.01) for world in (4, 3, 5, 2, 6, 3, 4)]
    last = play(groups, chain, shuffle=1000)[-1]
    begun = [block for order in last.orders for block in order.blocks if len(block.stream) == 3]
    assert len(begun) <= 30


def test_a_leg_without_rows_is_none():
    assert carried_on([Cursor(1, 0), Cursor(1, 0)]) == Cursor(1, 0)
    assert carried_on([Cursor(1, 6), Cursor(1, 7)]) == Cursor(1, 0, (Leg(2, 7),))
    before = (Leg(3, 9),)
    assert carried_on([Cursor(1, 4, before)]) == Cursor(1, 0, (Leg(3, 9), Leg(1, 4)))


def test_at_the_end_of_an_epoch_nothing_is_left():
    # In batches of 62 rank 0 has nothing for the second step, and counts it whole.
    after = carried_on([Cursor(0, 124), Cursor(0, 63)])
    assert rows_left(125, after.legs) == 0
    assert [o.blocks for o in plan_all([125], after.legs, 3, 10)] == [(), (), ()]
