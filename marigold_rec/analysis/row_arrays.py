"""Arrays with a value for each row: walked in chunks; in memory or, beyond what it holds, on disk.

Within `on_disk` an array of many rows is a file that is mapped into memory: the kernel keeps of it
what there is room for and writes the rest away, so that the same program goes on, more slowly. It
asks of the program to go through such arrays from one end to the other. A sort does; a look-up row
by row does not, and is done by blocks (`looked_up`).

The files have no name: whatever ends the process frees them.

Shapes: N rows, n of them in a chunk or chosen.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from marigold_rec.errors import ConfigError

_CHUNK = 1 << 16
"""Rows that are looked at together: their temporaries fit into the processor's cache."""

_SHARE_OF_ARRAY = 1 / 32
"""Of the memory: what a smaller array than that takes stays in it."""

_SHARE_OF_BLOCK = 1 / 8
"""Of the memory: how much is looked up in at a time."""


@dataclass
class Scratch:
    """Where and from which size on arrays are files."""

    folder: Path
    memory: float
    """Bytes."""
    num_bytes: int = 0
    """Of all files so far."""

    def holds(self, num_bytes: int) -> bool:
        return num_bytes > 0 and num_bytes >= self.memory * _SHARE_OF_ARRAY

    def mapped(self, write: Callable[[Any], object]) -> mmap.mmap:
        """A file without a name that `write` fills. Raises ConfigError where there is no space."""
        try:
            with tempfile.TemporaryFile(dir=self.folder) as file:
                write(file)
                file.flush()
                found = mmap.mmap(file.fileno(), 0)
        except OSError as error:
            raise ConfigError(
                f"--out: no room in {self.folder} for the arrays that do not fit into memory, "
                f"{self.num_bytes / 2**30:.1f} GiB so far ({error.strerror or error}); choose a "
                "folder with more space, raise evaluation.memory_gib if there is more memory, or "
                "judge on fewer days"
            ) from error
        self.num_bytes += len(found)
        return found


_scratch: Scratch | None = None


@contextmanager
def on_disk(folder: Path, memory: float) -> Iterator[Scratch]:
    """Within it, arrays that are large beside `memory` (bytes) are files in `folder`; process-wide.

    What was made within may be used after it.
    """
    global _scratch
    before, _scratch = _scratch, Scratch(folder, memory)
    try:
        yield _scratch
    finally:
        _scratch = before


def is_on_disk() -> bool:
    return _scratch is not None


def empty(num_rows: int, dtype: DTypeLike) -> NDArray[Any]:
    """As `np.empty`; raises ConfigError where the disk is full."""
    num_bytes = num_rows * np.dtype(dtype).itemsize
    if _scratch is None or not _scratch.holds(num_bytes):
        return np.empty(num_rows, dtype)
    # All of it reserved now: a write to a mapped page that finds the disk full kills the process.
    mapped = _scratch.mapped(lambda file: os.posix_fallocate(file.fileno(), 0, num_bytes))
    return np.frombuffer(mapped, dtype)


def kept_column(chunks_of: Iterable[pa.Array], kind: pa.DataType) -> pa.ChunkedArray:
    """The chunks as one column, in memory or on disk (where they may be made one by one)."""
    if _scratch is None:
        return pa.chunked_array(list(chunks_of), kind)
    schema = pa.schema([("column", kind)])

    def write(file: Any) -> None:
        with pa.ipc.new_file(pa.PythonFile(file, "w"), schema) as writer:
            for chunk in chunks_of:
                writer.write_batch(pa.record_batch([chunk], schema=schema))

    mapped = _scratch.mapped(write)
    return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped))).read_all().column(0)


def chunks(num_rows: int) -> Iterator[slice]:
    """All rows in their order, in pieces that fit into the cache."""
    for start in range(0, num_rows, _CHUNK):
        yield slice(start, min(start + _CHUNK, num_rows))


def all_rows(num_rows: int, condition: Callable[[slice], NDArray[np.bool_]]) -> bool:
    """Is it met by every row? `condition`: of a chunk's rows."""
    return all(bool(condition(part).all()) for part in chunks(num_rows))


def without_ones(weight_N: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """None where all rows weigh 1, as most often."""
    return None if all_rows(len(weight_N), lambda part: weight_N[part] == 1) else weight_N


def rows_where(num_rows: int, condition: Callable[[slice], NDArray[np.bool_]]) -> NDArray[np.intp]:
    """As `np.flatnonzero` of what is found for all chunks."""
    count = sum(int(np.count_nonzero(condition(part))) for part in chunks(num_rows))
    found, first = empty(count, np.intp), 0
    for part in chunks(num_rows):
        own = np.flatnonzero(condition(part))
        found[first : first + len(own)] = own + part.start
        first += len(own)
    return found


def taken(values_N: NDArray[Any], which_n: NDArray[np.intp] | slice) -> NDArray[Any]:
    """values_N[which_n], on disk for ascending rows only; a slice without a copy."""
    if isinstance(which_n, slice):
        return values_N[which_n]
    found = empty(len(which_n), values_N.dtype)
    for part in chunks(len(which_n)):
        found[part] = values_N[which_n[part]]
    return found


def looked_up(values_N: NDArray[Any], keys_n: NDArray[np.uint64]) -> NDArray[Any]:
    """values_N[low 32 bits of each key], for rows in any order.

    On disk as often through the keys as `values_N` has blocks, so that what is looked up in stays
    in memory.
    """
    found = empty(len(keys_n), values_N.dtype)
    size = max(len(values_N), 1)
    if _scratch is not None:
        size = max(int(_scratch.memory * _SHARE_OF_BLOCK) // values_N.itemsize, 1)
    for start in range(0, len(values_N), size):
        block = values_N[start : start + size]
        for part in chunks(len(keys_n)):
            row_n = keys_n[part].astype(np.uint32).astype(np.intp)
            if len(block) == len(values_N):
                found[part] = block[row_n]
                continue
            row_n -= start
            inside = np.flatnonzero((row_n >= 0) & (row_n < len(block)))
            found[part][inside] = block[row_n[inside]]
    return found
