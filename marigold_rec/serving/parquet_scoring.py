"""Batch scoring: Parquet in, Parquet out, in pieces of bounded size."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from marigold_rec.atomic_io import fsync
from marigold_rec.config.nearest import did_you_mean
from marigold_rec.errors import ConfigError, DataError
from marigold_rec.parquet.limits import NO_KEYS
from marigold_rec.parquet.names import partition_values, sort_by_name
from marigold_rec.parquet.opening import ReadPlan, is_encrypted, plan_reading
from marigold_rec.parquet.path_columns import complete, only_in_path, type_of_path_values
from marigold_rec.parquet.table_formats import refuse_tables
from marigold_rec.parquet.walking import walk
from marigold_rec.serving.predictor import Predictor
from marigold_rec.transforms.arrow_types import common_type, plain_type
from marigold_rec.transforms.columns import cast_table

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
    log = _Log(files, predictor, columns)
    fields = _fields(predictor, log, files[0], columns)
    schema = pa.schema(fields, metadata={_MARK: str(predictor.artefact.step).encode()})
    partial = out.parent / f".{out.name}.partial"
    rows, counts = 0, Counter[str]()
    try:
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            for piece in _pieces(files, log, predictor, columns):
                found = predictor.predict_counted(piece)
                counts.update(found.counts)
                rows += piece.num_rows
                scores = [pa.array(found.values[name]) for name in predictor.outputs]
                kept = cast_table(piece, pa.schema(fields[: len(columns)]))
                arrays = [*kept.columns, *scores]
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
    try:
        found = walk(str(data))
    except OSError as error:
        raise DataError(f"--data: {data}: no Parquet file there ({error.strerror})") from error
    roots = [str(data.absolute()), os.path.realpath(data), *found.linked]
    refuse_tables(f"--data: {data}", roots, found.files, _Look())
    if found.broken:
        path, why = next(iter(found.broken.items()))
        raise DataError(f"--data: {path}: {why}; remove it or put back what it stood for")
    by_name = sort_by_name(str(data), found.files)
    if not by_name.data:
        raise DataError(f"--data: {data}: no Parquet file there")
    return [Path(path) for path in by_name.data]


class _Look:
    """At the local disk, for `refuse_tables`."""

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def ls(self, path: str) -> list[str]:
        return os.listdir(path)


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


class _Log:
    """The files, each with the columns that are asked of it: its own and those of its path."""

    def __init__(self, files: Sequence[Path], predictor: Predictor, columns: Sequence[str]) -> None:
        self._files = files
        self._names = tuple(dict.fromkeys([*predictor.columns, *columns]))
        trained_on = predictor.artefact.columns or {}
        found = [partition_values(str(file)) for file in files]
        self._path_types = {
            name: pa.string()
            if trained_on.get(name) == "text"
            else type_of_path_values(values[name] for values in found if name in values)
            for name in self._names
        }

    def asked(self, file: Path) -> _Asked:
        """Raises DataError: it can't be read."""
        with _open(file) as opened:
            schema = opened.schema_arrow
        values = only_in_path(str(file), schema.names, self._names)
        if doubled := [name for name in self._names if schema.names.count(name) > 1]:
            raise DataError(f"{file}: column {doubled[0]!r} is there more than once; write it once")
        fields = [
            pa.field(name, plain_type(schema.field(name).type))
            for name in self._names
            if name in schema.names
        ]
        fields += [pa.field(name, self._path_types[name]) for name in values]
        return _Asked(pa.schema(fields), values)

    def common_fields(self, columns: Sequence[str]) -> list[pa.Field]:
        """The columns that go through, of types that hold the values of all files. Raises DataError
        where there is no such type."""
        found: dict[str, pa.DataType] = {}
        for file in self._files if columns else ():
            schema = self.asked(file).schema
            for name in set(columns) & set(schema.names):
                kind = schema.field(name).type
                known = common_type(found.get(name, kind), kind)
                if known is None:
                    raise DataError(
                        f"{file}: column {name!r} is {kind}, and {found[name]} in files before it: "
                        "write it alike"
                    )
                found[name] = known
        return [pa.field(name, found[name]) for name in columns]


@dataclass(frozen=True)
class _Asked:
    """What one file has of the columns that are asked for."""

    schema: pa.Schema
    values: dict[str, str | None]
    """Of those that only its path tells."""

    def pieces(self, file: Path) -> Iterator[pa.Table]:
        names = [name for name in self.schema.names if name not in self.values]
        plan = plan_reading(str(file), names)
        with _open(file, plan) as opened:
            for batch in opened.iter_batches(_ROWS_AT_ONCE, columns=names):
                table = pa.Table.from_batches([batch])
                plan.texts.require(table, "its rows")
                yield complete(table, self.values, self.schema)


def _fields(predictor: Predictor, log: _Log, file: Path, columns: Sequence[str]) -> list[pa.Field]:
    """Raises DataError: a column is not there, or its name is taken."""
    schema = log.asked(file).schema
    with _open(file) as opened:
        known = opened.schema_arrow.names
    problems = [
        f"--columns: {name!r} is not in {file}; {did_you_mean(name, known)}"
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
    return log.common_fields(columns) + scores


def _pieces(
    files: Sequence[Path], log: _Log, predictor: Predictor, columns: Sequence[str]
) -> Iterator[pa.Table]:
    for file in files:
        asked = log.asked(file)
        missing = [name for name in columns if name not in asked.schema.names]
        if missing:
            raise DataError(f"{file}: has no column {missing[0]!r}, which earlier files have")
        try:
            predictor.check(asked.schema)
            yield from asked.pieces(file)
        except DataError as error:
            raise DataError([f"{file}: {problem}" for problem in error.problems]) from error
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{file}: can't be read: {error}") from error


def _open(file: Path, plan: ReadPlan | None = None) -> pq.ParquetFile:
    arguments = {} if plan is None else plan.arguments
    try:
        return pq.ParquetFile(file, page_checksum_verification=True, **arguments)
    except (pa.ArrowException, OSError) as error:
        with contextlib.suppress(OSError):
            if is_encrypted(file.read_bytes()[-8:]):
                raise DataError(f"{file}: is encrypted{NO_KEYS}") from error
        raise DataError(f"{file}: not a readable Parquet file: {error}") from error


def _publish(partial: Path, out: Path) -> None:
    fsync(partial)
    partial.replace(out)
