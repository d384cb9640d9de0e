"""Checks a Parquet schema against the features, before any row is read."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.types as pat

from marigold_rec.config.features import DenseFeature, Feature, VocabFeature
from marigold_rec.config.nearest import did_you_mean
from marigold_rec.transforms.columns import is_list, plain_type


def is_number(kind: pa.DataType) -> bool:
    return pat.is_integer(kind) or pat.is_floating(kind) or pat.is_decimal(kind)


def feature_type_problems(features: tuple[Feature, ...], schema: pa.Schema) -> list[str]:
    """One line per feature whose column is missing or of a type that its kind cannot take."""
    problems: list[str] = []
    for feature in features:
        column = feature.source
        if column not in schema.names:
            problems.append(
                f"features.{feature.name}: there is no column {column!r}; "
                f"{did_you_mean(column, schema.names)}"
            )
            continue
        kind = plain_type(schema.field(column).type)
        if not _accepts(feature, kind):
            problems.append(
                f"features.{feature.name}: column {column!r} is {kind}; {_wanted(feature)}"
            )
    return problems


def _accepts(feature: Feature, kind: pa.DataType) -> bool:
    if isinstance(feature, DenseFeature):
        return is_number(kind) or pat.is_boolean(kind)
    if is_list(kind):
        kind = kind.value_type
    if feature.kind == "bucketize":
        return is_number(kind)
    if feature.kind == "id":
        return pat.is_integer(kind) or pat.is_boolean(kind)
    if isinstance(feature, VocabFeature):
        if isinstance(feature.values[0], str):
            return pat.is_string(kind) or pat.is_large_string(kind)
        return pat.is_integer(kind) or pat.is_boolean(kind)
    is_text = pat.is_string(kind) or pat.is_large_string(kind)
    is_bytes = pat.is_binary(kind) or pat.is_large_binary(kind)
    return pat.is_integer(kind) or pat.is_boolean(kind) or is_text or is_bytes


def _wanted(feature: Feature) -> str:
    if feature.kind == "dense":
        return "a dense feature needs a number"
    if feature.kind == "bucketize":
        return "a bucketize feature needs a number or a list of numbers"
    if feature.kind == "id":
        return "an id feature needs an integer or a list of integers"
    if isinstance(feature, VocabFeature):
        what = "a string" if isinstance(feature.values[0], str) else "an integer"
        return f"a vocab feature with such values needs {what} or a list of them"
    return "a hash feature needs an integer, a string or a list of them"
