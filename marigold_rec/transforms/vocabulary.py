"""`vocab`: known values -> rows 1, 2, ... in the order given; any other value -> row 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from marigold_rec.transforms.rows import Rows

_INT64_TOP = (1 << 63) - 1


@dataclass(frozen=True)
class VocabRows:
    values: tuple[str | int, ...]

    def __call__(self, values: pa.Array) -> Rows:
        known = pa.array(self.values)
        if pat.is_uint64(values.type):
            # What does not fit into int64 cannot be compared as int64; null is never found.
            fits = pc.call_function("less_equal", [values, pa.scalar(_INT64_TOP, pa.uint64())])
            values = pc.call_function("if_else", [fits, values, pa.scalar(None, pa.uint64())])
        if values.type != known.type:
            values = values.cast(known.type)
        options = pc.SetLookupOptions(value_set=known, skip_nulls=True)
        found = pc.call_function("index_in", [values], options)
        rows = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64) + 1
        num_unknown = found.null_count
        return Rows(rows, None, {"out_of_vocab": num_unknown} if num_unknown else {})
