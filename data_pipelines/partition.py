"""Which rows each rank reads, and in what order: pure functions of numbers, no files, no clock.

Rows (not row groups) are cut into equal intervals, so that every rank takes the same number of
steps whatever the files look like. All state of an epoch's order is (seed, epoch, rank, world
size); a position in it is one integer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from marigold_rec.errors import DataError

_FILE_ORDER_BLOCK_ROWS = 65_536
# A row group is cut into pieces of at most this share of a block, so that a block passes its size
# by less than this share.
_PIECES_PER_BLOCK = 4

# First word of the random streams that follow (seed, epoch, rank).
_GROUP_STREAM, _PIECE_STREAM, _ROW_STREAM = 0, 1, 2


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
    """Pieces that are decoded and shuffled together."""

    index: int
    first_row: int
    """Position of the block's first row in the rank's order."""
    num_rows: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class RankOrder:
    """The order in which one rank reads its rows in one epoch."""

    seed: int
    epoch: int
    rank: int
    is_shuffled: bool
    num_rows: int
    blocks: tuple[Block, ...]

    def permutation(self, block: Block) -> np.ndarray | None:
        """int64 [rows of the block]: which row of the joined pieces comes next; None: as is."""
        if not self.is_shuffled:
            return None
        stream = _stream(self.seed, self.epoch, self.rank, _ROW_STREAM, block.index)
        return stream.permutation(block.num_rows)

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


def plan_epoch(
    rows_per_group: Sequence[int],
    *,
    seed: int,
    epoch: int,
    world_size: int,
    rank: int,
    shuffle_rows: int,
) -> RankOrder:
    """The order of rank `rank` in epoch `epoch` over row groups of `rows_per_group` rows.

    With `shuffle_rows` > 0 the row groups of the rank's interval are permuted, large ones cut into
    pieces, the pieces gathered into blocks of `shuffle_rows` to 1.5 `shuffle_rows` rows, and each
    block's rows permuted. A large group's pieces stay together (in random order), so that each
    group is decoded about once; rows of groups larger than a block therefore mix little with
    others'. With `shuffle_rows` == 0: file order.
    """
    ranges = _ranges(rows_per_group, *rank_interval(sum(rows_per_group), rank, world_size))
    is_shuffled = shuffle_rows > 0
    block_rows = shuffle_rows if is_shuffled else _FILE_ORDER_BLOCK_ROWS
    if is_shuffled:
        shuffled = _stream(seed, epoch, rank, _GROUP_STREAM).permutation(len(ranges))
        ranges = [ranges[index] for index in shuffled]
    pieces: list[Piece] = []
    for group_range in ranges:
        cut = _cut(group_range, -(-block_rows // _PIECES_PER_BLOCK))
        if is_shuffled and len(cut) > 1:
            stream = _stream(seed, epoch, rank, _PIECE_STREAM, group_range.group)
            cut = [cut[index] for index in stream.permutation(len(cut))]
        pieces += cut
    blocks = _gather(pieces, block_rows)
    num_rows = sum(block.num_rows for block in blocks)
    return RankOrder(seed, epoch, rank, is_shuffled, num_rows, blocks)


def _stream(seed: int, *key: int) -> np.random.Generator:
    # spawn_key and not one list of numbers: SeedSequence([1]) and SeedSequence([1, 0]) are alike.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def _ranges(rows_per_group: Sequence[int], start: int, stop: int) -> list[Piece]:
    """The part of each row group that lies in rows [start, stop) of all groups laid end to end."""
    ranges: list[Piece] = []
    first = 0
    for group, rows in enumerate(rows_per_group):
        low, high = max(start, first), min(stop, first + rows)
        if low < high:
            ranges.append(Piece(group, low - first, high - first))
        first += rows
    return ranges


def _cut(whole: Piece, most_rows: int) -> list[Piece]:
    """`whole` in as few nearly equal pieces of at most `most_rows` rows as possible."""
    count = -(-whole.num_rows // most_rows)
    edges = [whole.start + index * whole.num_rows // count for index in range(count + 1)]
    return [Piece(whole.group, low, high) for low, high in pairwise(edges)]


def _gather(pieces: list[Piece], block_rows: int) -> tuple[Block, ...]:
    """Consecutive pieces in blocks of at least `block_rows` rows (the only block may be less)."""
    gathered: list[list[Piece]] = []
    rows = block_rows
    for piece in pieces:
        if rows >= block_rows:
            gathered.append([])
            rows = 0
        gathered[-1].append(piece)
        rows += piece.num_rows
    # A small last block would be shuffled on its own and cost a round of decoding: join it.
    if len(gathered) > 1 and rows * _PIECES_PER_BLOCK <= block_rows:
        last = gathered.pop()
        gathered[-1] += last
    blocks: list[Block] = []
    first_row = 0
    for index, group in enumerate(gathered):
        num_rows = sum(piece.num_rows for piece in group)
        blocks.append(Block(index, first_row, num_rows, tuple(group)))
        first_row += num_rows
    return tuple(blocks)
