"""Checks a Parquet schema against the features, before any row is read."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.types as pat

from marigold_rec.config.features import DenseFeature, Feature, VocabFeature
from marigold_rec.config.nearest import did_you_mean
from marigold_rec.transforms.arrow_types import is_hashable, is_list, is_text, plain_type


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
                f"{_hint(feature, kind)}"
            )
    return problems


def _accepts(feature: Feature, kind: pa.DataType) -> bool:
    if pat.is_null(kind):  # no value was written: null fits every type
        return True
    if isinstance(feature, DenseFeature):
        return is_number(kind) or pat.is_boolean(kind)
    if is_list(kind):
        kind = kind.value_type
        if pat.is_null(kind):
            return True
    if feature.kind == "bucketize":
        return is_number(kind)
    if feature.kind == "id":
        return pat.is_integer(kind) or pat.is_boolean(kind)
    if isinstance(feature, VocabFeature):
        if isinstance(feature.values[0], str):
            return is_text(kind)
        return pat.is_integer(kind) or pat.is_boolean(kind)
    return is_hashable(kind)


def _hint(feature: Feature, kind: pa.DataType) -> str:
    """What to do about integers that were written as floats, the commonest of wrong types."""
    if is_list(kind):
        kind = kind.value_type
    wants_text = isinstance(feature, VocabFeature) and isinstance(feature.values[0], str)
    if wants_text or feature.kind == "bucketize" or not pat.is_floating(kind):
        return ""
    return (
        "; floats lose ids beyond 2**53 and differ from integers: write the column as a nullable "
        'integer (pandas makes floats of integers with gaps: .astype("Int64") before it writes)'
    )


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
