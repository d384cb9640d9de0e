"""The dense part's inputs: pooled embeddings, dense features and sequences, and how they lie.

Shapes: B rows, R width of the pooled embeddings, D dense features, W width of a sequence's
vectors, N ids of a sequence over all B rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Slot:
    """The columns [start, start + width) that hold one feature."""

    name: str
    start: int
    width: int

    @property
    def stop(self) -> int:
        return self.start + self.width


def slots_of(widths: Sequence[tuple[str, int]]) -> tuple[Slot, ...]:
    """Slots side by side, in the order of `widths` (name, width)."""
    slots: list[Slot] = []
    for name, width in widths:
        slots.append(Slot(name, slots[-1].stop if slots else 0, width))
    return tuple(slots)


def width_of(slots: Sequence[Slot]) -> int:
    return slots[-1].stop if slots else 0


@dataclass(frozen=True)
class SequenceSlot:
    """One sequence: a list feature whose vectors reach the network unpooled."""

    name: str
    feature: str
    width: int
    query: tuple[str, ...] = ()
    """Pooled features that the encoder attends with: the item shown, say."""


@dataclass(frozen=True)
class InputLayout:
    """What a network is built from: the names and widths of everything that it reads."""

    pooled: tuple[Slot, ...]
    """Columns of `Inputs.pooled_BR`."""
    dense: tuple[Slot, ...]
    """Columns of `Inputs.dense_BD`."""
    sequences: tuple[SequenceSlot, ...] = ()

    @property
    def pooled_width(self) -> int:
        return width_of(self.pooled)

    @property
    def num_dense(self) -> int:
        return width_of(self.dense)

    def pooled_slot(self, feature: str) -> Slot:
        return next(slot for slot in self.pooled if slot.name == feature)


@dataclass(frozen=True)
class Jagged:
    """Sequences of B rows without padding: row b's vectors are values_NW[offsets[b]:offsets[b+1]].

    Oldest or newest first, as the log has them.
    """

    values_NW: Tensor
    offsets: Tensor
    """int64 [B + 1]."""

    @property
    def num_rows(self) -> int:
        return self.offsets.shape[0] - 1  # len() would fix the size in an exported program

    @property
    def lengths_B(self) -> Tensor:
        return self.offsets.diff()

    def rows(self, num_rows: int) -> Jagged:
        """The first `num_rows` rows."""
        if num_rows == self.num_rows:
            return self
        return Jagged(self.values_NW[: int(self.offsets[num_rows])], self.offsets[: num_rows + 1])

    def row_of_value(self) -> Tensor:
        """int64 [N]: the row that each vector belongs to."""
        rows = torch.arange(self.num_rows, device=self.offsets.device)
        return torch.repeat_interleave(rows, self.lengths_B, output_size=self.values_NW.shape[0])

    def sum(self) -> Tensor:
        """[B, W]: the sum of each row's vectors; zeros where a row has none."""
        values_NW = self.values_NW
        zeros_BW = values_NW.new_zeros(self.num_rows, values_NW.shape[1])
        return zeros_BW.index_add(0, self.row_of_value(), values_NW)


@dataclass(frozen=True)
class Inputs:
    """What the dense part reads of B rows."""

    pooled_BR: Tensor
    dense_BD: Tensor
    """float32."""
    sequences: Mapping[str, Jagged] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        return self.pooled_BR.shape[0]

    @property
    def device(self) -> torch.device:
        return self.pooled_BR.device

    @property
    def embedded(self) -> tuple[Tensor, ...]:
        """The leaves that come from tables: pooled embeddings, then each sequence's vectors.

        A probe of the representation moves these; dense features are data.
        """
        return (self.pooled_BR, *(s.values_NW for s in self.sequences.values()))

    def with_embedded(self, embedded: Sequence[Tensor]) -> Inputs:
        """The same inputs with other values in place of `embedded`."""
        pooled_BR, *values = embedded
        sequences = {
            name: Jagged(values_NW, sequence.offsets)
            for (name, sequence), values_NW in zip(self.sequences.items(), values, strict=True)
        }
        return Inputs(pooled_BR, self.dense_BD, sequences)

    def detach(self) -> Inputs:
        return self.with_embedded([leaf.detach() for leaf in self.embedded])

    def rows(self, num_rows: int) -> Inputs:
        """The first `num_rows` rows."""
        if num_rows == self.num_rows:
            return self
        return Inputs(
            self.pooled_BR[:num_rows],
            self.dense_BD[:num_rows],
            {name: sequence.rows(num_rows) for name, sequence in self.sequences.items()},
        )

    def flat(self) -> tuple[Tensor, ...]:
        """All tensors in a fixed order: the signature of an exported program."""
        jagged = (t for s in self.sequences.values() for t in (s.values_NW, s.offsets))
        return (self.pooled_BR, self.dense_BD, *jagged)

    @classmethod
    def from_flat(cls, tensors: Sequence[Any], sequences: Sequence[str]) -> Inputs:
        """Undoes `flat`; `sequences` are their names in order."""
        pooled_BR, dense_BD, *rest = tensors
        pairs = zip(rest[::2], rest[1::2], strict=True)
        jagged = (Jagged(values_NW, offsets) for values_NW, offsets in pairs)
        return cls(pooled_BR, dense_BD, dict(zip(sequences, jagged, strict=True)))
