"""What a kind of feature is: which columns it reads, and what it makes of their values.

The kinds are listed in `marigold_rec.config.components.FEATURES`: a new one is a file with its
settings and a class like these, and one line there. Training, validation, evaluation and serving
all go through it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pyarrow as pa

from marigold_rec.config.components import FEATURES, component_class
from marigold_rec.config.features import FeatureSettings
from marigold_rec.transforms.rows import RowLookup


class FeatureKind(ABC):
    """The base of both kinds of kind; `Settings` is the kind's section of the config."""

    Settings: type[FeatureSettings]

    @staticmethod
    @abstractmethod
    def wants(feature: Any) -> str:
        """What the column must hold, for the message about one that does not: "an integer"."""

    @staticmethod
    @abstractmethod
    def accepts(feature: Any, value_type: pa.DataType) -> bool:
        """Whether it reads values of this plain type (of a list's values, for a sparse kind)."""

    @staticmethod
    @abstractmethod
    def usual_type(feature: Any) -> pa.DataType:
        """The type that a column without any value is taken for."""


class SparseKind(FeatureKind):
    """Values become rows of an embedding table."""

    @staticmethod
    @abstractmethod
    def lookup(feature: Any, rows: int) -> RowLookup:
        """Flat values -> rows of the feature's table, which has `rows` rows."""


class DenseKind(FeatureKind):
    """A value becomes a number of the dense part."""

    @staticmethod
    @abstractmethod
    def values(feature: Any, column: pa.ChunkedArray) -> tuple[np.ndarray, dict[str, int]]:
        """float64 [N], all finite, and the counts of what was filled or replaced, by name."""


def kind_of(feature: FeatureSettings) -> Any:
    """The SparseKind or DenseKind of a feature's settings."""
    return component_class(FEATURES, feature.kind)
