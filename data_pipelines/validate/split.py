"""Validates one split: training's own preflight, then a full read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from data_pipelines.catalog.catalog import Catalog, schema_hash
from data_pipelines.catalog.scan import scan
from data_pipelines.preflight.columns import check_data, needed_columns
from data_pipelines.preflight.evaluation_columns import told_before_training
from data_pipelines.preflight.split import look_at_split, rules_of
from data_pipelines.validate.duplicates import duplicated_files
from data_pipelines.validate.full_read import FullRead
from data_pipelines.validate.report import Report
from data_pipelines.validate.tallies import Tallies
from marigold_rec.config.data import SplitConfig
from marigold_rec.config.schema import Config
from marigold_rec.errors import DataError


def validate_split(
    config: Config,
    split: SplitConfig,
    *,
    all_columns: bool,
    progress: Callable[[int, int], None],
) -> tuple[Report, Catalog | None]:
    """The report, and the files that are whole (None: there is none).

    `progress` is told the rows read and the rows in all. Raises ConfigError as `rules_of`.
    """
    path = split.path
    assert path is not None, "the caller gives the path"
    report = Report(path)
    try:
        catalog, report.problems = look_at_split("train", config, split, path)
    except DataError as error:
        report.problems = list(error.problems)
        catalog = _whatever_is_whole(config, split, path)
    if catalog is None:
        return report, None
    report.files, report.rows = len(catalog.files), catalog.num_rows
    report.row_groups = len(catalog.rows_per_group)
    report.schema_hash = schema_hash(catalog)
    report.warnings += catalog.warnings
    if catalog.ignored:
        count = len(catalog.ignored)
        report.warnings.append(f"{count} other files are not read, e.g. {catalog.ignored[0]}")
    report.warnings += told_before_training(config.evaluation, catalog)
    empty = [file.path for file in catalog.files if not sum(file.rows_per_group)]
    if empty:
        report.warnings.append(f"{len(empty)} files hold no rows, e.g. {empty[0]}")
    if catalog.num_rows == 0:
        report.problems.append(f"{path}: no file holds a row")
    fits = not check_data(catalog, config) and catalog.num_rows > 0
    tallies = Tallies(config) if fits else None
    columns = [*needed_columns(config), *filter(None, [config.data.time])]
    columns = catalog.schema.names if all_columns else list(dict.fromkeys(columns))
    FullRead(catalog, columns, tallies, report).run(lambda rows: progress(rows, catalog.num_rows))
    if tallies is not None:
        report.tasks, report.features = tallies.tasks, tallies.features
        report.problems += tallies.problems()
        report.inputs = tallies.inputs.checks(catalog.num_rows, world_size=1)
        report.problems += report.inputs.problems
    without = report.checksums.files_without
    if without:
        report.warnings.append(
            f"{len(without)} files carry no page checksums, e.g. {without[0]}: damage to their "
            "rows can't be noticed; write them with page checksums"
        )
    report.duplicates = duplicated_files(catalog)
    report.problems += [
        f"{' and '.join(same)} hold the same bytes: their rows would be learned {len(same)} times"
        for same in report.duplicates
    ]
    return report, catalog


def _whatever_is_whole(config: Config, split: SplitConfig, path: str) -> Catalog | None:
    try:
        rules = replace(rules_of(config), on_bad_file="collect")
        return scan(path, split.dates, needed_columns(config), rules)
    except DataError:
        return None  # what is wrong is known already
