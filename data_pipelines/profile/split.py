"""The profile of some days: one pass over the columns that the config reads."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from data_pipelines.catalog.catalog import Catalog, DataFile
from data_pipelines.catalog.listing import Dates
from data_pipelines.catalog.scan import scan
from data_pipelines.preflight.columns import needed_columns
from data_pipelines.preflight.split import rules_of
from data_pipelines.profile.columns import ColumnTally
from data_pipelines.profile.content import ContentTally
from data_pipelines.profile.event_hours import EventHoursTally, event_hours_tally
from data_pipelines.profile.labels import LabelTally, label_tallies
from marigold_rec.config.schema import Config
from marigold_rec.errors import DataError
from marigold_rec.parquet.path_columns import complete
from marigold_rec.profile import Profile, Role
from marigold_rec.transforms.arrow_types import plain_type
from marigold_rec.transforms.kinds import kind_of

_PIECE_ROWS = 65_536
_BUFFER = 1024**2


def profile_split(config: Config, path: str, dates: Dates | None = None) -> Profile:
    """Of the files at `path` (a file, a folder, any fsspec URL of one), of the days `dates`.

    Columns that are missing, or of types that the config can't take, are part of the profile and no
    error. Bad files and the pinned schema follow `data`, as in training. Memory: a piece of rows
    and the samples, however many rows there are.

    Raises DataError as `scan` does, or when a file can't be read; ConfigError as `rules_of`.
    """
    roles = column_roles(config)
    catalog = scan(path, dates, needed_columns(config), rules_of(config))
    present = [name for name in roles if name in catalog.schema.names]
    kinds = {name: plain_type(catalog.schema.field(name).type) for name in present}
    columns = {name: ColumnTally(kind) for name, kind in kinds.items()}
    tallies = _Tallies(
        kinds=kinds,
        columns=columns,
        # A copied day may have its own times, and weights are no content.
        content_of=[name for name in sorted(kinds) if not set(roles[name]) <= {"time", "weight"}],
        labels=label_tallies(config.tasks, catalog.schema),
        content=ContentTally(),
        hours=event_hours_tally(config.data.time, config.data.time_unit, dates, pa.schema(kinds)),
    )
    for file in catalog.files:
        _read_file(catalog, file, tallies, config.data.verify_checksums)
    return Profile(
        path=path,
        dates=dates,
        files=len(catalog.files),
        rows=catalog.num_rows,
        fingerprint=catalog.fingerprint,
        columns={name: columns[name].profile(roles[name]) for name in sorted(columns)},
        missing=tuple(name for name in roles if name not in columns),
        labels={name: tally.profile() for name, tally in tallies.labels.items()},
        content=tallies.content.content() if tallies.content_of else None,
        event_hours=None if tallies.hours is None else tallies.hours.event_hours(),
    )


def column_roles(config: Config) -> dict[str, tuple[Role, ...]]:
    """Every column that the config reads, each with what it is read as, in config order."""
    found: dict[str, list[Role]] = {}

    def note(column: str | None, role: Role) -> None:
        if column is not None and role not in found.setdefault(column, []):
            found[column].append(role)

    for feature in config.features:
        for read in kind_of(feature).inputs(feature):
            is_number = pa.types.is_floating(read.usual_type)
            note(read.column, "number" if is_number else "category")
    for task in config.tasks:
        note(task.label, "label")
        note(task.observed_if, "label")
    note(config.data.weight, "weight")
    note(config.data.time, "time")
    for name in needed_columns(config):
        if name not in found:
            note(name, "time")  # when a label came true, say
    return {name: tuple(roles) for name, roles in found.items()}


@dataclass(frozen=True)
class _Tallies:
    """All that is gathered in the pass."""

    kinds: dict[str, pa.DataType]
    columns: dict[str, ColumnTally]
    content_of: list[str]
    labels: dict[str, LabelTally]
    content: ContentTally
    hours: EventHoursTally | None

    def add(self, table: pa.Table) -> None:
        hashes = {name: tally.add(table.column(name)) for name, tally in self.columns.items()}
        for tally in self.labels.values():
            tally.add(table)
        if self.content_of:
            self.content.add([hashes[name] for name in self.content_of])
        if self.hours is not None:
            self.hours.add(table)


def _read_file(
    catalog: Catalog,
    file: DataFile,
    tallies: _Tallies,
    verify_checksums: bool,
) -> None:
    names = [name for name in tallies.kinds if name not in file.path_values]
    schema = pa.schema(list(tallies.kinds.items()))
    try:
        plan = catalog.storage.plan_reading(file.path, names)
        with catalog.storage.open_parquet(
            file.path, verify_checksums=verify_checksums, plan=plan, buffer_size=_BUFFER
        ) as parquet:
            for piece in parquet.iter_batches(_PIECE_ROWS, columns=names, use_threads=False):
                table = pa.Table.from_batches([piece])
                plan.texts.require(table, "its rows")
                tallies.add(complete(table, file.path_values, schema))
    except DataError as error:
        raise DataError([f"{file.path}: {problem}" for problem in error.problems]) from error
    # A storage library may raise anything of its own.
    except Exception as error:
        raise DataError(
            f"{file.path}: can't be profiled ({type(error).__name__}: {error}); validate the data "
            "(python -m data_pipelines.validate) and write the file again if it is damaged"
        ) from error
