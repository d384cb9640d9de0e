"""Samples a split's rows, spread over its days: enough to see what is wrong with all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from data_pipelines.catalog.catalog import Catalog
from data_pipelines.inputs.checks import InputChecks, InputTally
from data_pipelines.order.partition import Piece
from data_pipelines.reading.row_groups import RowGroups
from marigold_rec.config.due import Due
from marigold_rec.config.schema import Config
from marigold_rec.errors import DataError

_SAMPLED_ROWS = 65_536
_DECODED_ROWS = 262_144
_LEAST_GROUPS, _MOST_GROUPS = 3, 16


def look_at_inputs(
    catalog: Catalog, config: Config, due: Due | None, world_size: int
) -> InputChecks:
    """Findings about a training split that has passed `check_data`, from a sample of its rows.

    Decodes some 262,144 rows, or three row groups where those are larger; holds one at a time. A
    row group that can't be read becomes a finding: training itself meets it, and knows its place.
    Raises DataError where there is nothing to learn from.
    """
    tally = InputTally(config, due)
    groups = RowGroups(
        catalog, tally.columns, verify_checksums=config.data.verify_checksums, keep=1
    )
    chosen = spread_groups(catalog.rows_per_group)
    unread: list[str] = []
    for group in chosen:
        piece = Piece(group, 0, catalog.rows_per_group[group])
        try:
            table = groups.read(piece)
        except DataError as error:
            unread.append(f"{error}; its rows were not looked at")
            continue
        tally.add(_every_nth(table, _SAMPLED_ROWS // len(chosen)))
    checks = tally.checks(catalog.num_rows, world_size, tuple(unread))
    if checks.problems:
        raise DataError(list(checks.problems))
    return checks


def spread_groups(rows_per_group: Sequence[int]) -> list[int]:
    """Numbers of row groups with rows, from the first to the last at equal distances."""
    filled = [group for group, rows in enumerate(rows_per_group) if rows]
    if not filled:
        return []
    mean_rows = sum(rows_per_group) / len(filled)
    wanted = min(max(int(_DECODED_ROWS // mean_rows), _LEAST_GROUPS), _MOST_GROUPS, len(filled))
    places = np.linspace(0, len(filled) - 1, wanted).round().astype(int)
    return [filled[place] for place in places]


def _every_nth(table: pa.Table, most: int) -> pa.Table:
    """Sorted rows are seen from the first to the last."""
    step = -(-table.num_rows // most)
    return table if step == 1 else table.take(pa.array(np.arange(0, table.num_rows, step)))
