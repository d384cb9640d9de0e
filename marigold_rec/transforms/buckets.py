"""`bucketize`: a number -> the index of its interval between `boundaries`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from marigold_rec.transforms.columns import float64_values
from marigold_rec.transforms.rows import Rows


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
