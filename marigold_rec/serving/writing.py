"""Writes an artefact: complete under its name, or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from torch import Tensor
from torch.export import ExportedProgram

from marigold_rec.atomic_io import fsync
from marigold_rec.config.tables import Table
from marigold_rec.errors import ConfigError
from marigold_rec.serving.artefact import (
    ARTEFACT_NAME,
    DENSE_NAME,
    Artefact,
    Precision,
    TableEntry,
    artefact_bytes,
    file_entry,
    is_artefact,
    read_artefact,
)
from marigold_rec.serving.program import save_program
from marigold_rec.serving.tables import Quantize, encode
from marigold_rec.transforms.row_bits import ADMITTED_NAME, RowBits, row_bits_bytes

Result = TypeVar("Result")


def write_artefact(
    out: Path,
    artefact: Artefact,
    program: ExportedProgram,
    tables: Mapping[Table, Callable[[], Tensor]],
    *,
    precision: Precision,
    quantize: Quantize,
    admitted: Mapping[str, RowBits] | None = None,
) -> Artefact:
    """Writes the artefact to `out`; `artefact` lacks tables and files, which are added here.

    `tables`: how to get the values of each, which happens one after the other, so that one table at
    a time is in memory. `admitted`: by table, the rows that training admitted (FeatureTransforms).
    An artefact that is there already is replaced. Raises ConfigError: `out` is
    something else, or can't be written to. Whatever is raised, `out` is as it was.
    """
    require_place(out)
    with _folder_beside(out) as partial:
        written = _plainly(
            out,
            lambda: _write(partial, artefact, program, tables, precision, quantize, admitted or {}),
        )
        read_artefact(partial)  # what is published has been read back whole
        _plainly(out, lambda: _publish(partial, out))
    return written


def require_place(out: Path) -> None:
    """Raises ConfigError unless `out` is free, empty or an artefact."""
    if out.is_symlink():
        raise ConfigError(f"--out: {out} is a symbolic link; name the folder itself")
    if out.exists() and not (out.is_dir() and (is_artefact(out) or not any(out.iterdir()))):
        raise ConfigError(
            f"--out: {out} is there and is not an artefact; it is not overwritten, name another"
        )


def _write(
    partial: Path,
    artefact: Artefact,
    program: ExportedProgram,
    tables: Mapping[Table, Callable[[], Tensor]],
    precision: Precision,
    quantize: Quantize,
    admitted: Mapping[str, RowBits],
) -> Artefact:
    (partial / "tables").mkdir()
    entries: dict[str, TableEntry] = {}
    for table, values in tables.items():
        name = f"tables/{table.name}.bin"
        encode(table.name, values(), precision, quantize).tofile(partial / name)
        entries[table.name] = TableEntry(rows=table.rows, dim=table.dim, dtype=precision, file=name)
    save_program(program, partial / DENSE_NAME)
    names = [DENSE_NAME, *(entry.file for entry in entries.values())]
    if admitted:
        (partial / ADMITTED_NAME).write_bytes(row_bits_bytes(admitted))
        names.append(ADMITTED_NAME)
    files = {name: file_entry(partial / name) for name in names}
    whole = artefact.model_copy(update={"tables": entries, "files": files})
    (partial / ARTEFACT_NAME).write_bytes(artefact_bytes(whole))
    for name in [*names, ARTEFACT_NAME, "tables", "."]:
        fsync(partial / name)
    return whole


def _publish(partial: Path, out: Path) -> None:
    """One rename; an older artefact steps aside first, and is gone afterwards."""
    old = out.parent / f".{out.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    try:
        partial.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    fsync(out.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _folder_beside(out: Path) -> Iterator[Path]:
    """An empty folder beside `out`, this process's alone; gone at the end unless it was renamed.

    What a killed export has left there is deleted: its lock went with it.
    """
    partial = out.parent / f".{out.name}.partial"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        lock = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise _cant_write(out, error) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"--out: another process is exporting to {out}; wait for it"
            ) from error
        # Between the two calls another process may have published the folder under its name.
        if not partial.exists() or not os.path.samestat(os.fstat(lock), partial.stat()):
            raise ConfigError(f"--out: another process has just exported to {out}; run again")
        _plainly(out, lambda: _empty(partial))
        yield partial
    finally:
        if partial.exists() and os.path.samestat(os.fstat(lock), partial.stat()):
            shutil.rmtree(partial, ignore_errors=True)
        os.close(lock)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _plainly(out: Path, work: Callable[[], Result]) -> Result:
    """What `work` returns; raises ConfigError for its OSError, a full disk say."""
    try:
        return work()
    except OSError as error:
        raise _cant_write(out, error) from error


def _cant_write(out: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"--out: can't write to {out} ({error.strerror or error}); choose a folder with space"
    )
