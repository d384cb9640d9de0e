"""One training batch: what the reader yields, the pipeline moves and the model takes.

Shapes: B rows of this rank (always the configured batch size: a last batch that is too short is
filled up with empty rows, see `num_rows`), D dense features, T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor
from torchrec.streamable import Pipelineable


@dataclass(frozen=True)
class Leg:
    """A part of an epoch that one number of ranks trained on, each in its own order.

    Every rank took the first `rows` rows of its order, or all where it had fewer.
    """

    world_size: int
    rows: int


@dataclass(frozen=True)
class Cursor:
    """Where a rank stands in its order of rows.

    The first `rows` rows of this rank's order of epoch `epoch` precede the end of the batch that
    carries the cursor. The order is a pure function of (seed, epoch, world size, legs), so this is
    all that a resume needs.
    """

    epoch: int
    rows: int
    legs: tuple[Leg, ...] = ()
    """What other numbers of ranks have read of the epoch before: `rows` counts from there on."""


def carried_on(cursors: Sequence[Cursor]) -> Cursor:
    """Where each rank of another number of ranks begins, when the old ranks stood at `cursors`.

    They stood at the same step, so that they differ only where one has no rows left: it stands at
    its end, or counts batches of filling beyond it.
    """
    first = cursors[0]
    rows = max(cursor.rows for cursor in cursors)
    leg = (Leg(len(cursors), rows),) if rows else ()
    return Cursor(first.epoch, 0, first.legs + leg)


@dataclass
class Batch(Pipelineable):
    """B rows of one rank.

    Rows from `num_rows` on are filling: no ids, zero dense values, nothing observed, weight 0.
    They keep every batch of every rank of one shape, contribute exactly zero to every loss and
    gradient, and are dropped from predictions.
    """

    sparse: KeyedJaggedTensor
    """Features of tables that are looked up pooled, in the config's order; stride B."""
    dense_BD: Tensor
    """float32."""
    labels_BT: Tensor
    """float32; 0 where not observed."""
    observed_BT: Tensor
    """float32, 1 where the label counts, else 0."""
    weights_B: Tensor
    """float32 row weights, >= 0."""
    num_rows: int
    cursor: Cursor
    step: int = 0
    """The training step that takes this batch, from 0; the trainer stamps it."""
    is_first: bool = False
    """The model has been trained on no batch before this one; the trainer stamps it."""
    unpooled: KeyedJaggedTensor | None = None
    """Features of tables that a sequence reads, if there are any; stride B."""
    sources: tuple[str, ...] = ()
    """The files and row groups that the rows come from, for error messages."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Extra columns asked of the reader (name -> pyarrow array of `num_rows`); never moved."""

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        return self._map(lambda t: t.to(device=device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        return self._map(lambda t: t.pin_memory())

    def record_stream(self, stream: torch.Stream) -> None:
        self.sparse.record_stream(stream)  # pyright: ignore[reportArgumentType]
        if self.unpooled is not None:
            self.unpooled.record_stream(stream)  # pyright: ignore[reportArgumentType]
        for tensor in (self.dense_BD, self.labels_BT, self.observed_BT, self.weights_B):
            tensor.record_stream(stream)

    def _map(self, move: Any) -> Batch:
        return replace(
            self,
            sparse=move(self.sparse),
            dense_BD=move(self.dense_BD),
            labels_BT=move(self.labels_BT),
            observed_BT=move(self.observed_BT),
            weights_B=move(self.weights_B),
            unpooled=None if self.unpooled is None else move(self.unpooled),
        )
