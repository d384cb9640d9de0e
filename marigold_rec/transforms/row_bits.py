"""A yes or no for every row of a table: an eighth of a byte each, in memory and as .npz.

The stage `rows` of a night writes two such files: `evicted.npz` for the training's start, and
`admitted.npz`, which goes with the checkpoint and the artefact wherever they go.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marigold_rec.config.tables import Table
from marigold_rec.errors import CheckpointError
from marigold_rec.transforms.file_list import require_listed
from marigold_rec.transforms.npz import read_npz

ADMITTED_NAME = "admitted.npz"
EVICTED_NAME = "evicted.npz"
_AGAIN = "do the night again with --from rows"


@dataclass(frozen=True, eq=False)
class RowBits:
    """Of a table with `num_rows` rows."""

    packed: np.ndarray
    """uint8; row r is bit r % 8 of byte r // 8."""
    num_rows: int

    @classmethod
    def of(cls, bits_N: np.ndarray) -> RowBits:
        """`bits_N`: bool."""
        return cls(np.packbits(bits_N, bitorder="little"), len(bits_N))

    def at(self, rows_V: np.ndarray) -> np.ndarray:
        """bool [V]."""
        return (self.packed[rows_V >> 3] >> (rows_V & 7).astype(np.uint8) & 1).astype(bool)

    def span(self, first: int, stop: int) -> np.ndarray:
        """bool [stop - first]: rows [first, stop)."""
        bits = np.unpackbits(self.packed[first // 8 : -(-stop // 8)], bitorder="little")
        return bits[first % 8 : first % 8 + stop - first].astype(bool)

    @property
    def count(self) -> int:
        """How many rows say yes."""
        return int(np.bitwise_count(self.packed).sum())


def row_bits_bytes(bits: Mapping[str, RowBits]) -> bytes:
    """A .npz file, by table; the same bits give the same bytes."""
    arrays: dict[str, np.ndarray] = {}
    for name, each in bits.items():
        arrays |= {f"{name}.bits": each.packed, f"{name}.rows": np.int64(each.num_rows)}  # pyright: ignore[reportAssignmentType]
    file = io.BytesIO()
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def read_night_bits(
    folder: Path, name: str, tables: Iterable[Table], needed: Iterable[str]
) -> dict[str, RowBits]:
    """The file `name` of a night's `life_cycle.rows`, for which that folder vouches. Raises
    CheckpointError as `read_row_bits` does, or where it does not."""
    require_listed(folder / name, _AGAIN)
    return read_row_bits(folder / name, tables, needed)


def read_row_bits(
    file: Path, tables: Iterable[Table], needed: Iterable[str] = ()
) -> dict[str, RowBits]:
    """By table. Raises CheckpointError: no such file, its tables are not among `tables`, or some of
    the `needed` ones are not there.
    """
    sizes = {table.name: table.rows for table in tables}
    arrays = read_npz(file, "bits of rows", _AGAIN)
    names = [name.removesuffix(".bits") for name in arrays if name.endswith(".bits")]
    if missing := {f"{name}.rows" for name in names} - set(arrays):
        raise CheckpointError(f"{file}: is not one of ours: it lacks {', '.join(sorted(missing))}")
    found = {n: RowBits(arrays[f"{n}.bits"], int(arrays[f"{n}.rows"])) for n in names}
    if missing := set(needed) - set(found):
        raise CheckpointError(
            f"{file}: has nothing of table {', '.join(sorted(missing))}; do the night again with "
            "--from rows"
        )
    for name, bits in found.items():
        if sizes.get(name) != bits.num_rows or bits.packed.shape != (-(-bits.num_rows // 8),):
            raise CheckpointError(
                f"{file}: table {name!r} has {bits.num_rows:,} rows there and "
                f"{sizes.get(name, 0):,} in the config; do the night again with --from rows"
            )
    return found
