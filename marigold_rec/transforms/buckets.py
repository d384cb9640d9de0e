"""`bucketize`: a number -> the index of its interval between `boundaries`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from marigold_rec.config.features import BucketizeFeature
from marigold_rec.transforms.arrow_types import is_number
from marigold_rec.transforms.columns import float64_values
from marigold_rec.transforms.kinds import LookupKind
from marigold_rec.transforms.rows import RowLookup, Rows


@dataclass(frozen=True)
class BucketRows:
    """Row i holds boundaries[i-1] <= x < boundaries[i]; NaN has no row and counts as missing."""

    boundaries: tuple[float, ...]

    def __call__(self, values: pa.Array) -> Rows:
        numbers = float64_values(values)
        rows = np.searchsorted(np.asarray(self.boundaries), numbers, side="right").astype(np.int64)
        nan = np.isnan(numbers)
        num_nan = int(np.count_nonzero(nan))
        if num_nan == 0:
            return Rows(rows)
        return Rows(rows, ~nan, {"missing": num_nan})


class Bucketize(LookupKind):
    """`kind: bucketize`."""

    Settings = BucketizeFeature

    @staticmethod
    def wants(feature: BucketizeFeature) -> str:
        return "a number or a list of numbers"

    @staticmethod
    def accepts(feature: BucketizeFeature, value_type: pa.DataType) -> bool:
        return is_number(value_type)

    @staticmethod
    def usual_type(feature: BucketizeFeature) -> pa.DataType:
        return pa.float64()

    @staticmethod
    def lookup(feature: BucketizeFeature, rows: int) -> RowLookup:
        return BucketRows(feature.boundaries)
