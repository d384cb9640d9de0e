"""What a run asks of its data before it starts: the same for training, dry runs and validation."""

from __future__ import annotations

from dataclasses import replace

from data_pipelines.catalog.catalog import Catalog
from data_pipelines.catalog.pinned_schema import read_schema
from data_pipelines.catalog.scan import ScanRules, scan
from data_pipelines.catalog.schema_drift import column_types, schema_drift
from data_pipelines.labels.due import needs_time
from data_pipelines.labels.event_time import is_time, time_problems
from data_pipelines.order.due_files import due_files, due_problems, due_warnings
from data_pipelines.preflight.columns import check_data, needed_columns
from marigold_rec.config.data import SplitConfig
from marigold_rec.config.due import Due
from marigold_rec.config.nearest import did_you_mean
from marigold_rec.config.schema import Config
from marigold_rec.transforms.arrow_types import is_text
from marigold_rec.transforms.kinds import kind_of


def rules_of(config: Config) -> ScanRules:
    """Raises ConfigError when data.schema_file can't be read."""
    data, asked = config.data, config.evaluation
    return ScanRules(
        on_bad_file=data.on_bad_file,
        max_skipped_files=data.max_skipped_files,
        pinned=None if data.schema_file is None else read_schema(data.schema_file),
        time=data.time,
        path_columns=frozenset(filter(None, [asked.user, asked.item, asked.group, *asked.slices])),
        path_texts=frozenset(
            read.column
            for feature in config.features
            for read in kind_of(feature).inputs(feature)
            if is_text(read.usual_type)
        ),
    )


def look_at_split(
    name: str, config: Config, split: SplitConfig, root: str
) -> tuple[Catalog, list[str]]:
    """The split's files, and a line per problem that the config has with them.

    Of a training split with `due`, files without a due label are left out, and the row groups come
    in the order of their due times. (An evaluation's rows are its files' rows, whatever the task.)

    Raises DataError as `scan` does; ConfigError as `rules_of`.
    """
    catalog = scan(split.path or root, split.dates, needed_columns(config), rules_of(config))
    days = f", {split.dates[0]} to {split.dates[1]}" if split.dates is not None else ""
    where = f"data.{name} ({catalog.storage.url}{days})"
    problems = [*check_data(catalog, config), *_time_column_problems(catalog, config)]
    if split.due is not None and not problems:
        problems += due_problems(catalog, config, split.due)
        if name == "train":
            catalog = due_files(catalog, config, split.due)
        warnings = due_warnings(name, split, catalog, config)
        catalog = replace(catalog, warnings=(*catalog.warnings, *warnings))
    return catalog, [f"{where}: {problem}" for problem in problems]


def split_problems(
    train: Catalog, held_out: Catalog, config: Config
) -> tuple[list[str], list[str]]:
    """(errors, warnings) between the two splits: shared files, other types, times that overlap."""
    shared = sorted({f.path for f in train.files} & {f.path for f in held_out.files})
    # Both take their labels from windows of due times, and those of evaluation come later (held by
    # the config's checks): a row may be in both, a label never is.
    are_apart = config.data.train.due is not None and _eval_due(config) is not None
    if shared and not are_apart:
        return [
            f"data.eval: {len(shared)} of its {len(held_out.files)} files are training files too, "
            f"e.g. {shared[0]}; evaluation must not see training rows: give each split its own "
            "days or folder"
        ], []
    # Text and integers may both be hashed, but never into the same rows: a column has one type.
    errors, _ = schema_drift(
        held_out.files[0].path,
        column_types(held_out.schema),
        train.files[0].path,
        column_types(train.schema),
        {*needed_columns(config), *filter(None, [config.data.time])},
    )
    if errors:
        return [*errors, "write the evaluation data again with the columns of training"], []
    if config.data.time is None or are_apart:
        return [], []
    overlaps, warnings = time_problems(
        ((f.path, f.time) for f in train.files),
        ((f.path, f.time) for f in held_out.files),
        config.data.time,
    )
    if config.data.allow_time_overlap:
        return [], [*warnings, *overlaps]
    return [f"{o}; mend the splits, or set data.allow_time_overlap" for o in overlaps], warnings


def _eval_due(config: Config) -> Due | None:
    return None if config.data.eval is None else config.data.eval.due


def _time_column_problems(catalog: Catalog, config: Config) -> list[str]:
    column = config.data.time
    if column is None or needs_time(config):  # then check_data has looked at it
        return []
    if column not in catalog.schema.names:
        return [
            f"data.time: there is no column {column!r}; "
            f"{did_you_mean(column, catalog.schema.names)}"
        ]
    kind = catalog.schema.field(column).type
    if is_time(kind):
        return []
    return [f"data.time: column {column!r} is {kind}; it must be an integer or a timestamp"]
