"""How many values a list column was written with: a second witness of what was decoded.

A page's header says how many values the page holds, and no checksum covers the header: with one bit
of it flipped the last ids of a list are gone without a word. The footer says how many there were.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from marigold_rec.transforms.arrow_types import is_list


def num_slots(column: pa.ChunkedArray) -> int | None:
    """What Parquet counts as this column's values: a null or empty list is one, too.

    None for a column that is no list of plain values.
    """
    if not is_list(column.type) or pa.types.is_nested(column.type.value_type):
        return None
    lengths = pc.call_function("list_value_length", [column]).fill_null(0)
    filled = pc.call_function("max_element_wise", [lengths, pa.scalar(1, lengths.type)])
    return int(pc.call_function("sum", [filled]).as_py() or 0)
