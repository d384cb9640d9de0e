"""Which rows each rank reads, and in what order: pure functions of numbers, no files, no clock.

Rows (not row groups) are cut into equal intervals, so that every rank takes the same number of
steps whatever the files look like. All state of an epoch's order is (seed, epoch, rank, world
size); a position in it is one integer. What other numbers of ranks leave of an epoch is shared out
in rest.py.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np

from marigold_rec.errors import DataError

_FILE_ORDER_BLOCK_ROWS = 65_536
_GROUPS_PER_INTERVAL = 2


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows [start, stop) of one row group; `group` counts the row groups of all files in order."""

    group: int
    start: int
    stop: int

    @property
    def num_rows(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Block:
    """Pieces that are decoded and shuffled together, or a part of their rows."""

    index: int
    first_row: int
    """Position of the block's first row in the rank's order."""
    num_rows: int
    pieces: tuple[Piece, ...]
    stream: tuple[int, ...]
    """Names the random stream of its permutation: no two blocks of a run have the same."""
    start: int = 0
    """Of the permuted rows it holds `num_rows` from this one on: others have read the rest."""


@dataclass(frozen=True)
class RankOrder:
    """The order in which one rank reads its rows in one epoch."""

    seed: int
    is_shuffled: bool
    most_rows: int
    """Rows of the rank that has the most: it says how many steps all ranks take."""
    blocks: tuple[Block, ...]

    @property
    def num_rows(self) -> int:
        return self.blocks[-1].first_row + self.blocks[-1].num_rows if self.blocks else 0

    def permutation(self, block: Block) -> np.ndarray | None:
        """int64 [rows of the block]: which row of the joined pieces comes next; None: as is."""
        joined_rows = sum(piece.num_rows for piece in block.pieces)
        if self.is_shuffled:
            rows = _stream(self.seed, *block.stream).permutation(joined_rows)
        elif block.num_rows == joined_rows:
            return None
        else:
            rows = np.arange(joined_rows)
        return rows[block.start : block.start + block.num_rows]

    def block_at(self, position: int) -> int:
        """Index of the block that holds the row at `position`; len(blocks) at the very end."""
        if not 0 <= position <= self.num_rows:
            raise ValueError(f"position {position} is outside [0, {self.num_rows}]")
        if position == self.num_rows:
            return len(self.blocks)
        return bisect_right(self.blocks, position, key=lambda block: block.first_row) - 1


def rank_interval(num_rows: int, rank: int, world_size: int) -> tuple[int, int]:
    """[start, stop) of the split's rows that `rank` reads; sizes differ by at most one."""
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} is outside [0, {world_size})")
    return rank * num_rows // world_size, (rank + 1) * num_rows // world_size


def steps(num_rows: int, world_size: int, batch_size: int) -> int:
    """Batches that every rank takes per epoch: enough for the rank with the most rows."""
    most_rows = -(-num_rows // world_size)
    return -(-most_rows // batch_size)


def require_one_step(num_rows: int, world_size: int, batch_size: int) -> None:
    """Raises DataError when the rows do not fill one batch on every rank."""
    if num_rows < world_size * batch_size:
        raise DataError(
            f"{num_rows:,} rows are fewer than one step takes: {world_size} ranks x batch_size "
            f"{batch_size:,} = {world_size * batch_size:,}; lower data.batch_size, use fewer ranks "
            "or give more data"
        )


def epoch_windows(
    rows_per_group: Sequence[int], world_size: int, shuffle_rows: int, first: int = 0
) -> list[tuple[int, int]]:
    """[start, stop) of the windows of all rows from row `first` on.

    All but the last hold a multiple of the ranks, so that the ranks' totals differ by one row at
    most, as if there were one window.
    """
    group_rows = _usual_group_rows(rows_per_group)
    windows = _windows(sum(rows_per_group) - first, world_size, shuffle_rows, group_rows)
    return [(first + start, first + stop) for start, stop in windows]


def window_blocks(
    rows_per_group: Sequence[int],
    windows: Iterable[tuple[int, int]],
    *,
    world_size: int,
    rank: int,
    shuffle_rows: int,
    stream: tuple[int, ...],
) -> list[Block]:
    """What `rank` reads of the windows; `stream` begins the names of the blocks' streams.

    The blocks have no place in an order yet, see `in_order`.
    """
    ends = list(accumulate(rows_per_group))
    group_rows = _usual_group_rows(rows_per_group)
    parts: list[tuple[Piece, ...]] = []
    for start, stop in windows:
        low, high = rank_interval(stop - start, rank, world_size)
        count = 1
        if 0 < shuffle_rows < group_rows:
            # Of the window and not of the rank's own rows: all ranks then cut alike.
            count = max(1, round((stop - start) // world_size / shuffle_rows))
        edges = [start + low + i * (high - low) // count for i in range(count + 1)]
        for first, last in pairwise(edges):
            pieces = _pieces(ends, first, last)
            if pieces:  # fewer rows than ranks leave some rank's part of a window empty
                parts += [tuple(pieces)] if shuffle_rows > 0 else _file_order_parts(pieces)
    return [
        Block(0, 0, sum(piece.num_rows for piece in part), part, (*stream, index))
        for index, part in enumerate(parts)
    ]


def in_order(blocks: Iterable[Block]) -> tuple[Block, ...]:
    """The blocks, each told its place."""
    placed: list[Block] = []
    first_row = 0
    for index, block in enumerate(blocks):
        placed.append(replace(block, index=index, first_row=first_row))
        first_row += block.num_rows
    return tuple(placed)


def _stream(seed: int, *key: int) -> np.random.Generator:
    # spawn_key and not one list of numbers: SeedSequence([1]) and SeedSequence([1, 0]) are alike.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def _usual_group_rows(rows_per_group: Sequence[int]) -> int:
    """Nine rows of ten lie in row groups of at most this size.

    Not the largest: one huge group in a long log must not coarsen the order of all the others.
    """
    sizes = sorted(rows_per_group)
    ends = list(accumulate(sizes))
    return sizes[bisect_left(ends, ends[-1] * 9 / 10)] if sizes else 0


def _windows(
    num_rows: int, world_size: int, shuffle_rows: int, group_rows: int
) -> list[tuple[int, int]]:
    per_rank = num_rows // world_size
    if shuffle_rows == 0:
        edges = [0]
    elif group_rows <= shuffle_rows:
        count = max(1, round(per_rank / shuffle_rows))
        edges = [index * per_rank // count * world_size for index in range(count)]
    else:
        # Whole groups: where all are equal, no edge of a rank's interval falls inside of one.
        rows = _GROUPS_PER_INTERVAL * group_rows
        edges = [index * rows * world_size for index in range(max(1, per_rank // rows))]
    return [(start, stop) for start, stop in pairwise([*edges, num_rows]) if start < stop]


def _pieces(ends: Sequence[int], start: int, stop: int) -> list[Piece]:
    """The part of each row group that lies in rows [start, stop) of all groups laid end to end."""
    pieces: list[Piece] = []
    group = bisect_right(ends, start)
    while start < stop:
        first = ends[group - 1] if group else 0
        high = min(stop, ends[group])
        if start < high:
            pieces.append(Piece(group, start - first, high - first))
        start, group = high, group + 1
    return pieces


def _file_order_parts(pieces: list[Piece]) -> list[tuple[Piece, ...]]:
    """The pieces in blocks of a bounded number of rows."""
    parts: list[tuple[Piece, ...]] = []
    for piece in pieces:
        count = -(-piece.num_rows // _FILE_ORDER_BLOCK_ROWS)
        edges = [piece.start + i * piece.num_rows // count for i in range(count + 1)]
        parts += [(Piece(piece.group, low, high),) for low, high in pairwise(edges)]
    return parts
