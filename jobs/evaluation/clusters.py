"""Makes users, slates and slices from the log's columns that were stored with the scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_pipelines.catalog.catalog import Catalog
from data_pipelines.id_counts.occurrences import count_ids
from marigold_rec.analysis.codes import Codes, user_codes, value_codes
from marigold_rec.analysis.score_files import ScoreFiles
from marigold_rec.analysis.slicing import (
    Slicing,
    by_training,
    new_or_known,
    slicing,
)
from marigold_rec.config.schema import EvaluationConfig
from marigold_rec.errors import DataError


def cluster_codes(files: ScoreFiles, name: str | None, columns: Sequence[str]) -> Codes | None:
    """Numbers the users or slates; a row with a null is one of its own."""
    if name is None or name not in columns:
        return None
    return user_codes(files.column(f"column.{name}"))


def null_warnings(files: ScoreFiles, config: EvaluationConfig, columns: Sequence[str]) -> list[str]:
    """Warns of nulls in user and slate: each such row counts as a user or slate of its own."""
    warnings: list[str] = []
    for what, name in (("user", config.user), ("slate", config.group)):
        if name is not None and name in columns:
            column = files.column(f"column.{name}")
            if column.null_count:
                warnings.append(
                    f"{column.null_count:,} of {len(column):,} rows have no {name}: each counts as "
                    f"a {what} of its own"
                )
    return warnings


def slicings_of(
    files: ScoreFiles, config: EvaluationConfig, columns: Sequence[str], train: Catalog | None
) -> tuple[tuple[Slicing, ...], list[str]]:
    """Returns the configured slices, then slices by training counts if `train` is given; and
    warnings.

    Training files that can't be read lose these slices, not the report.
    """
    found = [slicing(name, files.column(f"column.{name}")) for name in dict.fromkeys(config.slices)]
    warnings: list[str] = []
    for what, name, cut in (
        ("user", config.user, new_or_known),
        ("item", config.item, by_training),
    ):
        if train is None or name is None or name not in columns:
            continue
        if name not in train.schema.names:
            continue
        try:
            found.append(cut(f"{what} in training", _seen(files, train, name)))
        except DataError as error:
            warnings.append(f"no slices by {what} in training: {error}")
    return tuple(found), warnings


def _seen(files: ScoreFiles, train: Catalog, name: str) -> NDArray[np.int64]:
    """Counts, for each row, the training rows with the same value; 0 for a null."""
    code_N, ids = value_codes(files.column(f"column.{name}"))
    return np.append(count_ids(train, name, ids), 0)[code_N]
