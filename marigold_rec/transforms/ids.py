"""`id`: integers that are table rows already, with an explicit policy for those that are not.

An id outside its table must never reach the embedding kernel: FBGEMM would set it to row 0 with a
warning, plain torch may crash in the backward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from marigold_rec.config.features import IdFeature
from marigold_rec.errors import DataError
from marigold_rec.transforms.arrow_types import is_integer
from marigold_rec.transforms.columns import int64_bits
from marigold_rec.transforms.hashing import value_codes
from marigold_rec.transforms.kinds import LookupKind
from marigold_rec.transforms.rows import RowLookup, Rows


@dataclass(frozen=True)
class IdRows:
    """Ids in [0, rows) as they are; others by `policy` (clamp: the last row, also below 0)."""

    feature: str
    column: str
    rows: int
    policy: Literal["error", "drop", "clamp"]

    def __call__(self, values: pa.Array) -> Rows:
        ids = int64_bits(values)
        # Unsigned, one comparison finds both ends: negative ids are huge, and so is uint64's top.
        outside = ids.view(np.uint64) >= np.uint64(self.rows)
        num_outside = int(np.count_nonzero(outside))
        if num_outside == 0:
            return Rows(ids)
        counts = {"out_of_range": num_outside}
        if self.policy == "drop":
            return Rows(ids, ~outside, counts)
        if self.policy == "clamp":
            return Rows(np.where(outside, self.rows - 1, ids), None, counts)
        example = values[int(np.argmax(outside))].as_py()
        raise DataError(
            f"features.{self.feature}: {num_outside:,} of {len(ids):,} ids in column "
            f"{self.column!r} are outside [0, {self.rows}), the first is {example}; give the table "
            "more rows, use kind: hash, or choose out_of_range: drop or clamp"
        )


class Id(LookupKind):
    """`kind: id`."""

    Settings = IdFeature

    @staticmethod
    def wants(feature: IdFeature) -> str:
        return "an integer or a list of integers"

    @staticmethod
    def accepts(feature: IdFeature, value_type: pa.DataType) -> bool:
        return is_integer(value_type)

    @staticmethod
    def usual_type(feature: IdFeature) -> pa.DataType:
        return pa.int64()

    @staticmethod
    def lookup(feature: IdFeature, rows: int) -> RowLookup:
        return IdRows(feature.name, feature.source, rows, feature.out_of_range)

    @classmethod
    def codes(cls, feature: IdFeature) -> RowLookup:
        return value_codes
