"""Checks a Parquet schema against the features, before any row is read."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.types as pat

from marigold_rec.config.features import FeatureSettings
from marigold_rec.config.nearest import did_you_mean
from marigold_rec.transforms.arrow_types import is_list, plain_type
from marigold_rec.transforms.kinds import Input, kind_of


def feature_type_problems(features: Iterable[FeatureSettings], schema: pa.Schema) -> list[str]:
    """One line per column that is missing or of a type that a feature's kind cannot take."""
    return [line for feature in features for line in _problems(feature, schema)]


def _problems(feature: FeatureSettings, schema: pa.Schema) -> list[str]:
    kind, lines = kind_of(feature), list[str]()
    for read in kind.inputs(feature):
        if read.column not in schema.names:
            lines.append(
                f"features.{feature.name}: there is no column {read.column!r}; "
                f"{did_you_mean(read.column, schema.names)}"
            )
            continue
        found = plain_type(schema.field(read.column).type)
        # Null: no value was written, which fits every type.
        if not (pat.is_null(found) or read.accepts(found)):
            lines.append(
                f"features.{feature.name}: column {read.column!r} is {found}; "
                f"{_article(feature.kind)} {feature.kind} feature needs "
                f"{read.wants}{_hint(read, found)}"
            )
    if lines:
        return list(dict.fromkeys(lines))
    types = {name: plain_type(schema.field(name).type) for name in feature.columns}
    return [f"features.{feature.name}.{line}" for line in kind.type_problems(feature, types)]


def _hint(read: Input, found: pa.DataType) -> str:
    """What to do about integers that were written as floats, the commonest of wrong types."""
    if is_list(found):
        found = found.value_type
    if not (pat.is_floating(found) and read.accepts(pa.int64())):
        return ""
    return (
        "; floats lose ids beyond 2**53 and differ from integers: write the column as a nullable "
        'integer (pandas makes floats of integers with gaps: .astype("Int64") before it writes)'
    )


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
