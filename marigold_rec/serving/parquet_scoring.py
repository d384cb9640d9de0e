"""Batch scoring: Parquet in, Parquet out, in pieces of bounded size."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from marigold_rec.config.nearest import did_you_mean
from marigold_rec.errors import ConfigError, DataError
from marigold_rec.serving.predictor import Predictor

_MARK = b"marigold_rec.scores"
"""Metadata key of our files: another Parquet file is never overwritten."""
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Scored:
    rows: int
    counts: dict[str, int]
    """What was dropped or replaced in the features."""


def score_parquet(
    predictor: Predictor, data: Path, out: Path, columns: Sequence[str] = ()
) -> Scored:
    """Predicts every row of `data` (a Parquet file, or a folder of them, in the order of names).

    Writes `columns` of the data and a `score.<output>` (float32) for each output to the file `out`,
    which appears whole or not at all. Memory: some 65,536 rows, whatever the row groups' size, and
    the pages that they lie in.

    Raises DataError (unreadable or unfit data) or ConfigError (`out` can't be written, or is there
    and no such file).
    """
    files = _files(data)
    _require_place(out, files)
    fields = _fields(predictor, files[0], columns)
    schema = pa.schema(fields, metadata={_MARK: str(predictor.artefact.step).encode()})
    partial = out.parent / f".{out.name}.partial"
    rows, counts = 0, Counter[str]()
    try:
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            for piece in _pieces(files, predictor, columns):
                found = predictor.predict_counted(piece)
                counts.update(found.counts)
                rows += piece.num_rows
                scores = [pa.array(found.values[name]) for name in predictor.outputs]
                arrays = [piece.column(name) for name in columns] + scores
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        _publish(partial, out)
    except OSError as error:
        raise ConfigError(
            f"--out: can't write to {out} ({error.strerror or error}); choose a folder with space"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return Scored(rows, dict(counts))


def _files(data: Path) -> list[Path]:
    if data.is_file():
        return [data]
    found = sorted(
        path
        for path in data.rglob("*.parquet")
        if not any(part.startswith((".", "_")) for part in path.relative_to(data).parts)
    )
    if not found:
        raise DataError(f"--data: {data}: no Parquet file there")
    return found


def _require_place(out: Path, files: Sequence[Path]) -> None:
    if any(out.resolve() == file.resolve() for file in files):
        raise ConfigError(f"--out: {out} is the data; name another file")
    if out.is_symlink() or (out.exists() and not _is_ours(out)):
        raise ConfigError(
            f"--out: {out} is there and holds no scores of ours; it is not overwritten"
        )


def _is_ours(out: Path) -> bool:
    try:
        return _MARK in (pq.read_schema(out).metadata or {})
    except (pa.ArrowException, OSError):
        return False


def _fields(predictor: Predictor, file: Path, columns: Sequence[str]) -> list[pa.Field]:
    """Raises DataError: a column is not there, or its name is taken."""
    schema = _open(file).schema_arrow
    problems = [
        f"--columns: {name!r} is not in {file}; {did_you_mean(name, schema.names)}"
        for name in columns
        if name not in schema.names
    ]
    scores = [pa.field(f"score.{name}", pa.float32()) for name in predictor.outputs]
    problems += [
        f"--columns: {name!r} is there twice" for name in set(columns) if columns.count(name) > 1
    ]
    problems += [f"--columns: {f.name!r} is a score's name" for f in scores if f.name in columns]
    if problems:
        raise DataError(problems)
    return [schema.field(name) for name in columns] + scores


def _pieces(
    files: Sequence[Path], predictor: Predictor, columns: Sequence[str]
) -> Iterator[pa.Table]:
    for file in files:
        opened = _open(file)
        names = list(dict.fromkeys([*predictor.columns, *columns]))
        schema = opened.schema_arrow
        missing = [name for name in columns if name not in schema.names]
        if missing:
            raise DataError(f"{file}: has no column {missing[0]!r}, which earlier files have")
        try:
            predictor.check(schema)
            wanted = [name for name in names if name in schema.names]
            for batch in opened.iter_batches(_ROWS_AT_ONCE, columns=wanted):
                yield pa.Table.from_batches([batch])
        except DataError as error:
            raise DataError([f"{file}: {problem}" for problem in error.problems]) from error
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file}: can't be read: {error}") from error


def _open(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: not a readable Parquet file: {error}") from error


def _publish(partial: Path, out: Path) -> None:
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(out)
