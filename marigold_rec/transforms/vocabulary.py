"""`vocab`: known values -> rows 1, 2, ... in the order given; any other value -> row 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from marigold_rec.config.features import VocabFeature
from marigold_rec.transforms.arrow_types import is_integer, is_text
from marigold_rec.transforms.kinds import LookupKind
from marigold_rec.transforms.rows import RowLookup, Rows

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


class Vocab(LookupKind):
    """`kind: vocab`."""

    Settings = VocabFeature

    @staticmethod
    def wants(feature: VocabFeature) -> str:
        what = "a string" if _has_words(feature) else "an integer"
        return f"{what} or a list of them, as its values are"

    @staticmethod
    def accepts(feature: VocabFeature, value_type: pa.DataType) -> bool:
        return is_text(value_type) if _has_words(feature) else is_integer(value_type)

    @staticmethod
    def usual_type(feature: VocabFeature) -> pa.DataType:
        return pa.string() if _has_words(feature) else pa.int64()

    @staticmethod
    def lookup(feature: VocabFeature, rows: int) -> RowLookup:
        return VocabRows(feature.values)


def _has_words(feature: VocabFeature) -> bool:
    return isinstance(feature.values[0], str)
