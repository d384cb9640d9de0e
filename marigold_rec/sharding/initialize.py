"""Initial values of embedding tables that do not depend on the sharding plan.

TorchRec initialises each shard from its rank's own random stream, so the same seed gives another
model at another number of ranks or under another plan. Here a value is a function of (seed, table,
row, column): rows are drawn in blocks, each from a counter-based generator of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from marigold_rec.config.tables import Table

_BLOCK_ROWS = 4096
_ROWS_AT_ONCE = 64 * _BLOCK_ROWS


def table_rows(table: Table, seed: int, first: int, stop: int) -> Tensor:
    """Initial values of rows [first, stop) of a table, float32, uniform in +-1/sqrt(dim) / 4.

    Small against the unit scale of the dense part, and independent of the number of rows: row-wise
    Adagrad moves an element by about the learning rate (0.05) at a row's first update, so that a
    start of that size is soon forgotten and an id never trained adds little noise. TorchRec's
    default, +-sqrt(1/rows), gives a table of three rows values of 0.58.
    """
    name = int.from_bytes(hashlib.blake2b(table.name.encode(), digest_size=8).digest(), "little")
    key = np.array([seed, name], np.uint64)
    blocks = []
    for block in range(first // _BLOCK_ROWS, -(-stop // _BLOCK_ROWS)):
        start = block * _BLOCK_ROWS
        generator = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, block]))
        values = generator.random((_BLOCK_ROWS, table.dim), dtype=np.float32)
        blocks.append(values[max(first - start, 0) : stop - start])
    drawn = np.concatenate(blocks) if blocks else np.empty((0, table.dim), np.float32)
    return torch.from_numpy((drawn * 2 - 1) * np.float32(0.25 / table.dim**0.5))


@torch.no_grad()
def initialize_tables(
    weights: Iterable[tuple[str, Tensor]], tables: tuple[Table, ...], seed: int
) -> None:
    """Fills this rank's shards in place, a bounded number of rows at a time.

    `weights` yields (table name, weight) where a weight is what a sharded module's state_dict
    holds: a DTensor whose local shards know their offsets.
    """
    by_name = {table.name: table for table in tables}
    for name, weight in weights:
        table = by_name[name]
        local = weight.to_local()  # pyright: ignore[reportAttributeAccessIssue]
        # Not strict: a rank without a shard of the table has no shards, but an offset.
        for shard, (row, column) in zip(local.local_shards(), local.local_offsets(), strict=False):
            for first in range(0, len(shard), _ROWS_AT_ONCE):
                part = shard[first : first + _ROWS_AT_ONCE]
                values = table_rows(table, seed, row + first, row + first + len(part))
                part.copy_(values[:, column : column + shard.shape[1]])
