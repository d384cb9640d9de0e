"""What a job knew of the log when it ran: conversions that came later are not there yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def known_at(log: pa.Table, moment_ms: int) -> pa.Table:
    """The rows of `log` until `moment_ms` (Unix time), with the conversions known by then.

    A conversion that comes later is 0, and its time null: exactly what a log shows that joins
    conversions to clicks as they come.
    """
    log = log.filter(pa.array(log.column("event_time_ms").to_numpy() <= moment_ms))
    times = log.column("conversion_time_ms")
    # Null, which is never, becomes a time that has always been known.
    is_later = times.fill_null(0).to_numpy() > moment_ms
    conversion = log.column("conversion").combine_chunks()
    hidden = np.where(is_later, 0, conversion.fill_null(0).to_numpy()).astype(np.int8)
    is_null = conversion.is_null().to_numpy(zero_copy_only=False)
    return _with(
        _with(log, "conversion", pa.array(hidden, mask=is_null)),
        "conversion_time_ms",
        pa.array(
            times.fill_null(0).to_numpy(),
            mask=is_later | times.is_null().to_numpy(),
        ),
    )


def write_known_at(log: Path, days: list[str], moment_ms: int, folder: Path) -> None:
    """Those days (YYYY-MM-DD) of the log in folder `log` into `folder`, as known at `moment_ms`."""
    for day in days:
        target = folder / f"dt={day}"
        target.mkdir(parents=True)
        for file in sorted((log / f"dt={day}").glob("*.parquet")):
            parquet = pq.ParquetFile(file)
            pq.write_table(
                known_at(parquet.read(), moment_ms),
                target / file.name,
                row_group_size=parquet.metadata.row_group(0).num_rows,
                compression="zstd",
                write_page_checksum=True,
            )


def _with(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)
