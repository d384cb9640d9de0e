"""Columns that an evaluation groups and slices rows by: which there are, and of which types.

The training needs none of them, and a bad one costs nothing but the evaluation: whoever looks at
the log before the training says so.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.types as pat

from data_pipelines.catalog.catalog import Catalog
from data_pipelines.catalog.listing import Dates
from data_pipelines.catalog.scan import scan
from data_pipelines.preflight.columns import needed_columns
from data_pipelines.preflight.split import rules_of
from marigold_rec.analysis.slicing import can_slice
from marigold_rec.config.schema import Config, EvaluationConfig
from marigold_rec.errors import DataError
from marigold_rec.transforms.arrow_types import is_hashable, plain_type


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


def require_evaluable(config: Config, path: str, dates: Dates) -> None:
    """Raises DataError where launch/evaluate.py will refuse these days; or as `scan` does."""
    columns_of(config.evaluation, scan(path, dates, needed_columns(config), rules_of(config)))


def _is_id(kind: pa.DataType) -> bool:
    """What can be hashed can be grouped."""
    return is_hashable(kind) or pat.is_null(kind)
