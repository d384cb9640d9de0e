"""Finds the table rows that some days' ids hash to, in one pass over the id columns alone."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterator

import numpy as np

from data_pipelines.catalog.listing import Dates
from data_pipelines.catalog.scan import scan
from data_pipelines.order.partition import Piece
from data_pipelines.preflight.split import rules_of
from data_pipelines.reading.row_groups import RowGroups
from marigold_rec.config.schema import Config
from marigold_rec.config.tables import resolve_tables
from marigold_rec.errors import DataError, StoppedError
from marigold_rec.transforms.feature_transforms import FeatureTransforms


def seen_rows(
    config: Config,
    tables: Collection[str],
    path: str,
    dates: Dates,
    *,
    is_stopped: Callable[[], bool],
) -> Iterator[tuple[datetime.date, str, np.ndarray]]:
    """Yields (day, table, rows) of every row group of `dates` and every feature of `tables`.

    The rows [V] are the ids after training's transforms, each as often as it occurs. Memory: the
    id columns of a row group. Raises DataError as training does for such files, and StoppedError
    between row groups.
    """
    features = tuple(f for f in config.sparse_features if f.table_name in tables)
    transforms = FeatureTransforms(features, resolve_tables(features))
    catalog = scan(path, dates, transforms.columns, rules_of(config))
    if problems := transforms.check_types(catalog.schema):
        raise DataError([f"{catalog.storage.url}: {problem}" for problem in problems])
    groups = RowGroups(
        catalog, transforms.columns, verify_checksums=config.data.verify_checksums, keep=1
    )
    for number, num_rows in enumerate(catalog.rows_per_group):
        if is_stopped():
            raise StoppedError("stopped by a signal; run the same command again to resume")
        file, _ = catalog.locate(number)
        assert file.day is not None, "the scan was asked for days"
        found = transforms(groups.read(Piece(number, 0, num_rows)))
        for feature, ids in zip(features, found.sparse, strict=True):
            yield file.day, feature.table_name, ids.values
