"""Embedding tables as they are served: on the disk and, mapped from there, in memory alike.

| precision | a row of width D takes | how |
|---|---|---|
| fp32 | 4 D bytes | the training's values |
| fp16 | 2 D bytes | rounded to nearest |
| int8 | D + 8 bytes | FBGEMM's row-wise 8 bits: q * scale + bias, both float32 behind the row |

So int8 takes 37.5 % of fp32 at D = 16, 50 % at D = 8, and 28 % at D = 64.

Shapes: N rows, D width, V ids, B rows of a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from marigold_rec.errors import CheckpointError, ConfigError
from marigold_rec.serving.artefact import Precision, TableEntry

_SCALE_BYTES = 8
_DTYPES = {"fp32": np.float32, "fp16": np.float16, "int8": np.uint8}

Quantize = Callable[[Tensor], Tensor]
"""float32 [N, D] -> uint8 [N, D + 8]: `torch.ops.fbgemm.FloatToFused8BitRowwiseQuantized`."""


def stored_shape(rows: int, dim: int, dtype: Precision) -> tuple[int, int]:
    """Of the array in a table's file."""
    return rows, dim + _SCALE_BYTES if dtype == "int8" else dim


def encode(name: str, weight_ND: Tensor, dtype: Precision, quantize: Quantize) -> np.ndarray:
    """The array for the file of table `name`. Raises ConfigError: a value beyond fp16."""
    if dtype == "fp32":
        return weight_ND.numpy()
    if dtype == "fp16":
        halves_ND = weight_ND.half()
        if not bool(halves_ND.isfinite().all()):
            raise ConfigError(
                f"--tables fp16: table {name!r} holds {float(weight_ND.abs().max()):g}, beyond "
                "fp16's 65504; use fp32 or int8"
            )
        return halves_ND.numpy()
    return quantize(weight_ND.contiguous()).numpy()


class Lookup(Protocol):
    """A table's rows as float32."""

    def rows(self, ids_V: Tensor) -> Tensor:
        """[V, D], also for no ids at all."""
        ...

    def sums(self, ids_V: Tensor, offsets_B: Tensor) -> Tensor:
        """[B, D]: the sum of each bag's rows, in their order; bag b begins at offsets_B[b]."""
        ...


def open_table(folder: Path, entry: TableEntry) -> Lookup:
    """Mapped and not read: processes that serve one artefact share its memory."""
    shape = stored_shape(entry.rows, entry.dim, entry.dtype)
    # "c": nothing here writes, but torch warns of arrays that can't be written.
    try:
        array = np.memmap(folder / entry.file, _DTYPES[entry.dtype], mode="c", shape=shape)
    except (OSError, ValueError) as error:  # it was whole just now
        raise CheckpointError(
            f"{folder / entry.file}: can't be read ({error}); was the artefact replaced or deleted "
            "meanwhile? open it again"
        ) from error
    stored = torch.from_numpy(array)
    if entry.dtype == "int8":
        return _Quantized(stored)
    return _Plain(stored) if entry.dtype == "fp32" else _Half(stored)


def pooled(table: Lookup, ids_V: Tensor, lengths_B: Tensor | None, *, is_mean: bool) -> Tensor:
    """z_BD of one feature; an empty bag gives zeros. `lengths_B` None: one id in each row."""
    if lengths_B is None:
        return table.rows(ids_V)
    if not len(ids_V):
        return torch.zeros(len(lengths_B), table.rows(ids_V).shape[1])
    sums_BD = table.sums(ids_V, lengths_B.cumsum(0) - lengths_B)
    # As models.embeddings does it: to the bit.
    return sums_BD / lengths_B.clamp(min=1)[:, None] if is_mean else sums_BD


class _Plain:
    def __init__(self, weight_ND: Tensor) -> None:
        self._weight_ND = weight_ND

    def rows(self, ids_V: Tensor) -> Tensor:
        return self._weight_ND.index_select(0, ids_V)

    def sums(self, ids_V: Tensor, offsets_B: Tensor) -> Tensor:
        return F.embedding_bag(ids_V, self._weight_ND, offsets_B, mode="sum")


class _Decoded(ABC):
    """Decodes the rows that are asked for, then sums them in float32."""

    @abstractmethod
    def rows(self, ids_V: Tensor) -> Tensor: ...

    def sums(self, ids_V: Tensor, offsets_B: Tensor) -> Tensor:
        each_V = torch.arange(len(ids_V))
        return F.embedding_bag(each_V, self.rows(ids_V), offsets_B, mode="sum")


class _Half(_Decoded):
    def __init__(self, weight_ND: Tensor) -> None:
        self._weight_ND = weight_ND

    def rows(self, ids_V: Tensor) -> Tensor:
        return self._weight_ND.index_select(0, ids_V).float()


class _Quantized(_Decoded):
    def __init__(self, stored: Tensor) -> None:
        self._q_ND = stored[:, :-_SCALE_BYTES]
        self._scale_bias_N2 = stored[:, -_SCALE_BYTES:].view(torch.float32)

    def rows(self, ids_V: Tensor) -> Tensor:
        scale_bias_V2 = self._scale_bias_N2.index_select(0, ids_V)
        # Two operations, each of which rounds exactly: a fused one may round a vector's tail
        # otherwise, and a row would not be the same in every batch.
        q_VD = self._q_ND.index_select(0, ids_V).float()
        return q_VD.mul_(scale_bias_V2[:, :1]).add_(scale_bias_V2[:, 1:])
