"""Users, slates and slices from the columns that travelled with the scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.types as pat
from numpy.typing import NDArray

from data_pipelines.catalog import Catalog
from data_pipelines.occurrences import count_ids
from marigold_rec.analysis.codes import Codes, num_codes, user_codes
from marigold_rec.analysis.row_arrays import empty
from marigold_rec.analysis.score_files import ScoreFiles
from marigold_rec.analysis.slicing import (
    Slicing,
    by_training,
    can_slice,
    new_or_known,
    slicing,
    value_codes,
)
from marigold_rec.config.schema import EvaluationConfig
from marigold_rec.errors import DataError
from marigold_rec.transforms import is_hashable, plain_type


def columns_of(config: EvaluationConfig, catalog: Catalog) -> tuple[list[str], list[str]]:
    """(columns that travel with the scores, warnings about those named that are not there).

    Raises DataError for a slice's column that is not there (it was asked for by name), or columns
    of a type that is no use.
    """
    known = set(catalog.schema.names)
    if absent := [name for name in config.slices if name not in known]:
        raise DataError(
            f"evaluation.slices: {catalog.storage.url} has no column {', '.join(absent)}; "
            f"its columns are {', '.join(sorted(known))}"
        )
    # Held against the types now: the columns are looked at when all rows have been scored.
    kinds = {name: plain_type(catalog.schema.field(name).type) for name in known}
    problems = [
        f"evaluation.slices: column {name!r} is {kinds[name]}; rows are sliced by a number, text "
        "or boolean"
        for name in config.slices
        if not can_slice(kinds[name])
    ]
    for key in ("user", "item", "group"):
        name = getattr(config, key)
        if name in known and not _is_id(kinds[name]):
            problems.append(
                f"evaluation.{key}: column {name!r} is {kinds[name]}; ids must be integers, "
                f"strings or bytes: name another column, or none with evaluation.{key}=null"
            )
    if problems:
        raise DataError(problems)
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
        # A default that the log does not have is nobody's mistake: the report says what its
        # intervals are made of, and which figures have no such column.
        elif name != EvaluationConfig.model_fields[key].default:
            warnings.append(f"evaluation.{key}: the log has no column {name}: {effect}")
    return list(dict.fromkeys(found)), warnings


def told_before_training(config: EvaluationConfig, catalog: Catalog | None) -> list[str]:
    """Why launch/evaluate.py will refuse the evaluation days `catalog`, as the config stands."""
    try:
        if catalog is not None:
            columns_of(config, catalog)
    except DataError as error:
        return [f"launch/evaluate.py will refuse this: {problem}" for problem in error.problems]
    return []


def _is_id(kind: pa.DataType) -> bool:
    """What can be hashed can be grouped."""
    return is_hashable(kind) or pat.is_null(kind)


def cluster_codes(files: ScoreFiles, name: str | None, columns: Sequence[str]) -> Codes | None:
    """A number for each user or slate; a row where it is null is one of its own."""
    if name is None or name not in columns:
        return None
    column = files.column(f"column.{name}")
    if not column.null_count:
        return user_codes(column)
    known = user_codes(column.drop_null())
    code_N = empty(len(column), np.int32)
    row, num_known, alone = 0, 0, num_codes(known)
    for chunk in column.chunks:
        is_null = chunk.is_null().to_numpy(zero_copy_only=False)
        num_null = chunk.null_count
        own = code_N[row : row + len(chunk)]
        own[~is_null] = known[num_known : num_known + len(chunk) - num_null]
        own[is_null] = np.arange(alone, alone + num_null, dtype=np.int32)
        row += len(chunk)
        num_known += len(chunk) - num_null
        alone += num_null
    return code_N


def null_warnings(files: ScoreFiles, config: EvaluationConfig, columns: Sequence[str]) -> list[str]:
    """Of `cluster_codes`: figures by user or slate are then partly those of single rows."""
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
    """The configured ones, then by what training has seen, where `train` is at hand; and warnings.

    Training files that can't be read cost their slices, and not the report.
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
    """For each row, how many of the training rows hold its value; 0 for a null."""
    code_N, ids = value_codes(files.column(f"column.{name}"))
    return np.append(count_ids(train, name, ids), 0)[code_N]
