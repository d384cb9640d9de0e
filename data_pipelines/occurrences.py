"""How often a split's rows hold each of some ids: what training has seen of users and items."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_pipelines.catalog import Catalog


def count_ids(catalog: Catalog, column: str, ids: pa.Array) -> NDArray[np.int64]:
    """Rows of `catalog` whose `column` holds each of `ids` (distinct, of the column's type).

    Reads this column only, row group by row group; memory for the ids alone. Raises what pyarrow
    raises for a file that can't be read.
    """
    counts = np.zeros(len(ids), np.int64)
    options = pc.SetLookupOptions(value_set=ids, skip_nulls=True)
    for file in catalog.files:
        with catalog.storage.open_parquet(file.path) as parquet:
            for group in range(parquet.num_row_groups):
                values = parquet.read_row_group(group, columns=[column]).column(0)
                found = pc.call_function("index_in", [values.cast(ids.type)], options)
                counts += np.bincount(found.drop_null().to_numpy(), minlength=len(ids))
    return counts
