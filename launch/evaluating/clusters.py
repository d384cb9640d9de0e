"""Users, slates and slices from the columns that travelled with the scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipelines.catalog import Catalog
from data_pipelines.occurrences import count_ids
from marigold_rec.analysis.codes import Codes, num_codes, user_codes
from marigold_rec.analysis.score_files import ScoreFiles
from marigold_rec.analysis.slicing import Slicing, by_training, new_or_known, slicing
from marigold_rec.config.schema import EvaluationConfig
from marigold_rec.errors import DataError


def columns_of(config: EvaluationConfig, catalog: Catalog) -> tuple[list[str], list[str]]:
    """(columns that travel with the scores, warnings about those that are not there).

    Raises DataError for a slice's column that is not there: it was asked for by name.
    """
    known = set(catalog.schema.names)
    if absent := [name for name in config.slices if name not in known]:
        raise DataError(
            f"evaluation.slices: {catalog.storage.url} has no column {', '.join(absent)}; "
            f"its columns are {', '.join(sorted(known))}"
        )
    warnings: list[str] = []
    found = list(config.slices)
    without = {
        "user": "rows count as independent, and there are no figures by user",
        "item": "there are no slices by how often training saw the item",
        "group": "there are no NDCG and MRR",
    }
    for key, effect in without.items():
        name: str | None = getattr(config, key)
        if name is None:
            continue
        if name in known:
            found.append(name)
        else:
            warnings.append(f"evaluation.{key}: the log has no column {name}: {effect}")
    return list(dict.fromkeys(found)), warnings


def cluster_codes(files: ScoreFiles, name: str | None, columns: Sequence[str]) -> Codes | None:
    """A number for each user or slate; a row where it is null is one of its own."""
    if name is None or name not in columns:
        return None
    column = files.column(f"column.{name}")
    try:
        if not column.null_count:
            return user_codes(column)
        is_null = column.is_null().to_numpy()
        code_N = np.empty(len(column), np.int32)
        code_N[~is_null] = user_codes(column.drop_null())
        first = num_codes(code_N[~is_null])
        code_N[is_null] = np.arange(first, first + int(is_null.sum()), dtype=np.int32)
        return code_N
    except TypeError as error:
        raise DataError(f"column {name!r}: {error}; it can't tell users or slates apart") from error


def slicings_of(
    files: ScoreFiles, config: EvaluationConfig, columns: Sequence[str], train: Catalog | None
) -> tuple[Slicing, ...]:
    """The configured ones, then by what training has seen, where `train` is at hand."""
    found: list[Slicing] = []
    for name in config.slices:
        try:
            found.append(slicing(name, files.column(f"column.{name}")))
        except ValueError as error:
            raise DataError(f"evaluation.slices: {error}") from error
    if train is None:
        return tuple(found)
    if config.user in columns and config.user in train.schema.names:
        found.append(new_or_known("user in training", _seen(files, train, config.user)))
    if config.item in columns and config.item in train.schema.names:
        found.append(by_training("item in training", _seen(files, train, config.item)))
    return tuple(found)


def _seen(files: ScoreFiles, train: Catalog, name: Any) -> NDArray[np.int64]:
    """For each row, how many of the training rows hold its value; 0 for a null."""
    encoded = files.column(f"column.{name}").dictionary_encode().unify_dictionaries()
    ids = encoded.chunk(0).dictionary if encoded.num_chunks else pa.array([], pa.int64())
    counts = np.append(count_ids(train, name, ids), 0)
    code_N = np.concatenate(
        [np.empty(0, np.int64)]
        + [
            chunk.indices.cast(pa.int64()).fill_null(len(ids)).to_numpy(zero_copy_only=False)
            for chunk in encoded.chunks
        ]
    )
    return counts[code_N]
