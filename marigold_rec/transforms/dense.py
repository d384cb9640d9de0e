"""Kinds that make one number, and `dense`, whose number is its column's.

number -> filled, then log1p, then clipped, then standardized, then float32
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from marigold_rec.config.features import DenseFeature, NumberFeature
from marigold_rec.transforms.arrow_types import is_number
from marigold_rec.transforms.columns import float64_values, lone_array
from marigold_rec.transforms.kinds import ColumnKind, DenseKind

MAX_DENSE = 10.0
"""Of a value after its transform: beyond, it outweighs everything else that a layer sees."""
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def number_values(feature: NumberFeature, raw_N: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """float64 [N], all finite, and the counts of what was filled, of float64 numbers.

    NaN (and null, before) counts as `missing`; infinities and numbers beyond float32 count as
    `non_finite`. Both take the value `feature.missing`. Computed in float64, so that the result
    after rounding to float32 does not depend on the machine's vector library.
    """
    x_N = raw_N
    counts: dict[str, int] = {}
    good = np.abs(x_N) <= _FLOAT32_MAX
    num_bad = len(x_N) - int(np.count_nonzero(good))
    if num_bad:
        num_nan = int(np.count_nonzero(np.isnan(x_N)))
        counts = {"missing": num_nan, "non_finite": num_bad - num_nan}
        x_N = np.where(good, x_N, feature.missing)
    if feature.transform == "log1p":
        x_N = np.copysign(np.log1p(np.abs(x_N)), x_N)
    if feature.clip is not None:
        x_N = np.clip(x_N, *feature.clip)
    if feature.standardize is not None:
        x_N = (x_N - feature.standardize.mean) / feature.standardize.std
    return x_N, {name: count for name, count in counts.items() if count}


class NumberKind(DenseKind):
    """Makes one number of what it reads."""

    @staticmethod
    @abstractmethod
    def numbers(feature: Any, table: pa.Table) -> np.ndarray:
        """float64 [N], before the transforms; NaN where it is missing."""

    @classmethod
    def values(cls, feature: Any, table: pa.Table) -> tuple[np.ndarray, dict[str, int]]:
        return number_values(feature, cls.numbers(feature, table))


class Dense(ColumnKind, NumberKind):
    """`kind: dense`."""

    Settings = DenseFeature

    @staticmethod
    def wants(feature: DenseFeature) -> str:
        return "a number"

    @staticmethod
    def accepts(feature: DenseFeature, value_type: pa.DataType) -> bool:
        return is_number(value_type) or pat.is_boolean(value_type)

    @staticmethod
    def usual_type(feature: DenseFeature) -> pa.DataType:
        return pa.float64()

    @staticmethod
    def numbers(feature: DenseFeature, table: pa.Table) -> np.ndarray:
        return float64_values(lone_array(table.column(feature.source)))
