"""Which columns a config reads, and whether those of a split fit it."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.types as pat

from data_pipelines.catalog.catalog import Catalog
from data_pipelines.labels.due import label_time_columns, label_time_problems
from marigold_rec.config.nearest import did_you_mean
from marigold_rec.config.schema import Config
from marigold_rec.transforms.arrow_types import is_number, plain_type
from marigold_rec.transforms.feature_transforms import FeatureTransforms


def needed_columns(config: Config) -> tuple[str, ...]:
    """Every column that training on `config` reads, each once: give them to `scan`."""
    names = [column for feature in config.features for column in feature.columns]
    for task in config.tasks:
        names += [task.label] if task.observed_if is None else [task.label, task.observed_if]
    if config.data.weight is not None:
        names.append(config.data.weight)
    names += label_time_columns(config)
    return tuple(dict.fromkeys(names))


def check_data(catalog: Catalog, config: Config) -> list[str]:
    """One line per problem; [] if the split fits the config.

    A label that is null in every row is found only if `catalog` was scanned with its column and
    the files carry null counts.
    """
    transforms = FeatureTransforms(config.features, config.tables)
    problems = transforms.check_types(catalog.schema)
    for task in config.tasks:
        problems += _number_problems(f"tasks.{task.name}.label", task.label, catalog.schema)
        if task.observed_if is not None:
            key = f"tasks.{task.name}.observed_if"
            problems += _number_problems(key, task.observed_if, catalog.schema)
        if catalog.num_rows and task.label in catalog.all_null:
            problems.append(
                f"tasks.{task.name}.label: column {task.label!r} is null in all "
                f"{catalog.num_rows:,} rows; there is nothing to learn from or to be judged by"
            )
    if config.data.weight is not None:
        problems += _number_problems("data.weight", config.data.weight, catalog.schema)
    all_null = catalog.all_null if catalog.num_rows else ()
    return problems + label_time_problems(config, catalog.schema, all_null)


def _number_problems(key: str, column: str, schema: pa.Schema) -> list[str]:
    if column not in schema.names:
        return [f"{key}: there is no column {column!r}; {did_you_mean(column, schema.names)}"]
    kind = plain_type(schema.field(column).type)
    if is_number(kind) or pat.is_boolean(kind) or pat.is_null(kind):
        return []
    return [f"{key}: column {column!r} is {kind}; it must be a number or a boolean"]
