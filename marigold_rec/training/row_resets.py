"""Rows of tables that begin anew: initial values, no optimizer state. On local shards alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from marigold_rec.config.tables import Table
from marigold_rec.sharding.initialize import table_rows
from marigold_rec.training.row_sums import sum_shards
from marigold_rec.transforms.row_bits import RowBits

_ROWS_AT_ONCE = 1 << 18


@torch.no_grad()
def reset_rows(tensors: Mapping[str, Tensor], table: Table, seed: int, evicted: RowBits) -> None:
    """The `evicted` rows of `table`, as a new model has them under `seed`.

    `tensors`: the live ones, by their names in a checkpoint. Each rank its own shards, however the
    table is cut: a value depends on its row and column alone.
    """
    name = table.state_key
    weight = cast(DTensor, tensors[f"model/{name}"])
    local = cast(Any, weight.to_local())
    for shard, (row, column) in zip(local.local_shards(), local.local_offsets(), strict=False):
        for first in range(0, len(shard), _ROWS_AT_ONCE):
            part = shard[first : first + _ROWS_AT_ONCE]
            start = row + first
            found = _places(evicted, start, len(part))
            if len(found):
                values = table_rows(table, seed, start, start + len(part))
                values = values[found, column : column + part.shape[1]]
                part[found.to(part.device)] = values.to(part)
    for key, sums in tensors.items():
        if key.startswith(f"optimizer/sparse.{name}/"):
            for state, _, row, _ in sum_shards(weight, cast(DTensor, sums)):
                state[_places(evicted, row, len(state)).to(state.device)] = 0


def _places(evicted: RowBits, start: int, num_rows: int) -> Tensor:
    """int64: the evicted ones of rows [start, start + num_rows), counted from `start`."""
    return torch.from_numpy(np.flatnonzero(evicted.span(start, start + num_rows)))
