"""Frequency admission: rows that were seen too rarely to be learned alone share one row.

The shared row is row 0. It stays the row of the ids that hash to it (one in `rows` of all), which
costs them little: a row of its own behind the others would change the table's size, so that no
table could be switched to admission, or grow to a multiple, with its ids where they are.
"""

from __future__ import annotations

import numpy as np

from marigold_rec.transforms.row_bits import RowBits
from marigold_rec.transforms.rows import Rows

SHARED_ROW = 0


def admit(rows: Rows, admitted: RowBits) -> Rows:
    """`rows` where they are admitted; the shared row for the others."""
    is_rare_V = ~admitted.at(rows.rows_V) & (rows.rows_V != SHARED_ROW)
    num_rare = int(np.count_nonzero(is_rare_V))
    if num_rare == 0:
        return rows
    shared_V = np.where(is_rare_V, SHARED_ROW, rows.rows_V)
    return Rows(shared_V, rows.keep_V, {**rows.counts, "rare": num_rare})
