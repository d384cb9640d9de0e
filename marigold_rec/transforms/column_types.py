"""Checks a Parquet schema against the features, before any row is read."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.types as pat

from marigold_rec.config.features import FeatureSettings
from marigold_rec.config.nearest import did_you_mean
from marigold_rec.transforms.arrow_types import is_list, plain_type
from marigold_rec.transforms.kinds import SparseKind, kind_of


def feature_type_problems(features: Iterable[FeatureSettings], schema: pa.Schema) -> list[str]:
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
        found = plain_type(schema.field(column).type)
        if not _accepts(feature, found):
            problems.append(
                f"features.{feature.name}: column {column!r} is {found}; "
                f"{_article(feature.kind)} {feature.kind} feature needs "
                f"{kind_of(feature).wants(feature)}{_hint(feature, found)}"
            )
    return problems


def _accepts(feature: FeatureSettings, column_type: pa.DataType) -> bool:
    if pat.is_null(column_type):  # no value was written: null fits every type
        return True
    kind = kind_of(feature)
    if is_list(column_type) and issubclass(kind, SparseKind):
        column_type = column_type.value_type
        if pat.is_null(column_type):
            return True
    return kind.accepts(feature, column_type)


def _hint(feature: FeatureSettings, column_type: pa.DataType) -> str:
    """What to do about integers that were written as floats, the commonest of wrong types."""
    if is_list(column_type):
        column_type = column_type.value_type
    if not (pat.is_floating(column_type) and _accepts(feature, pa.int64())):
        return ""
    return (
        "; floats lose ids beyond 2**53 and differ from integers: write the column as a nullable "
        'integer (pandas makes floats of integers with gaps: .astype("Int64") before it writes)'
    )


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
