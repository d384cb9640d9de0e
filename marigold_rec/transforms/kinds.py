"""What a kind of feature is: which columns it reads, and what it makes of their values.

The kinds are listed in `marigold_rec.config.components.FEATURES`: a new one is a file with its
settings and a class like these, and one line there. Training, validation, evaluation and serving
all go through it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from marigold_rec.config.components import FEATURES, component_class
from marigold_rec.config.features import Cut, FeatureSettings, LookupFeature
from marigold_rec.transforms.arrow_types import is_list
from marigold_rec.transforms.jagged import flatten
from marigold_rec.transforms.rows import Bags, BagTransform, RowLookup


@dataclass(frozen=True)
class Input:
    """A column that a feature reads."""

    column: str
    wants: str
    """What it must hold, for the message about one that does not: "an integer"."""
    accepts: Callable[[pa.DataType], bool]
    """Whether it may be of this plain type. (One without any value may be of type null.)"""
    usual_type: pa.DataType
    """The type that a column without any value is taken for; of a list's values where single
    values are accepted, too."""


class FeatureKind(ABC):
    """The base of all kinds; `Settings` is the kind's section of the config."""

    Settings: type[FeatureSettings]

    @classmethod
    @abstractmethod
    def inputs(cls, feature: Any) -> tuple[Input, ...]:
        """One at least for each of `feature.columns`."""

    @classmethod
    def type_problems(cls, feature: Any, types: Mapping[str, pa.DataType]) -> list[str]:
        """What is wrong with columns (column -> plain type) that fit one by one: `<key>: ...`."""
        return []


class SparseKind(FeatureKind):
    """Values become rows of an embedding table."""

    @classmethod
    @abstractmethod
    def transform(cls, feature: Any, rows: int) -> BagTransform:
        """From the columns to rows of the feature's table, which has `rows` rows."""


class DenseKind(FeatureKind):
    """Values become a number of the dense part."""

    @classmethod
    @abstractmethod
    def values(cls, feature: Any, table: pa.Table) -> tuple[np.ndarray, dict[str, int]]:
        """float64 [N], all finite, and the counts of what was filled or replaced, by name."""


class ColumnKind(FeatureKind):
    """Reads one column."""

    @staticmethod
    @abstractmethod
    def wants(feature: Any) -> str:
        """See Input."""

    @staticmethod
    @abstractmethod
    def accepts(feature: Any, value_type: pa.DataType) -> bool:
        """See Input."""

    @staticmethod
    @abstractmethod
    def usual_type(feature: Any) -> pa.DataType:
        """See Input."""

    @classmethod
    def inputs(cls, feature: Any) -> tuple[Input, ...]:
        def accepts(kind: pa.DataType) -> bool:
            return cls.accepts(feature, kind)

        return (Input(feature.source, cls.wants(feature), accepts, cls.usual_type(feature)),)


class LookupKind(ColumnKind, SparseKind):
    """Makes a row of each value of one column, or of each in its lists: `accepts` is asked for the
    type of these values."""

    @staticmethod
    @abstractmethod
    def lookup(feature: Any, rows: int) -> RowLookup:
        """Flat values -> rows of the feature's table, which has `rows` rows."""

    @classmethod
    def inputs(cls, feature: Any) -> tuple[Input, ...]:
        def accepts(kind: pa.DataType) -> bool:
            value_type = kind.value_type if is_list(kind) else kind
            return pat.is_null(value_type) or cls.accepts(feature, value_type)

        return (Input(feature.source, cls.wants(feature), accepts, cls.usual_type(feature)),)

    @classmethod
    def codes(cls, feature: Any) -> RowLookup:
        """Flat values -> what stands for each in a cross with others (all 64 bits count): its row,
        unless the kind's rows mean less than the values."""
        return cls.lookup(feature, feature.table_rows or 0)

    @classmethod
    def transform(cls, feature: LookupFeature, rows: int) -> BagTransform:
        return ColumnLookup(feature.source, feature.cut, cls.lookup(feature, rows))


@dataclass(frozen=True)
class ColumnLookup:
    """The bags of one column's values."""

    column: str
    cut: Cut | None
    lookup: RowLookup

    def __call__(self, table: pa.Table) -> Bags:
        flat = flatten(table.column(self.column), self.cut)
        return Bags(self.lookup(flat.values), flat.lengths, flat.counts)


def kind_of(feature: FeatureSettings) -> Any:
    """The SparseKind or DenseKind of a feature's settings."""
    return component_class(FEATURES, feature.kind)
