"""Writes the comparison's click log: 26 id columns, two binary labels, Hive-style Parquet.

    python benchmarks/peers/make_data.py --out /tmp/peers-data --rows 163840 --ids uniform

Ids are drawn independently per column. `uniform` is the strict case for a sparse optimizer: nearly
every id of a batch is a row of its own. `zipf` (exponent 1.05 over ranks, scattered over the table)
is what logs look like. The labels depend on three columns, so a loss can fall; throughput does not
depend on them. Deterministic by seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NUM_FEATURES = 26
TABLE_ROWS = 1_000_000
ZIPF_EXPONENT = 1.05
ROW_GROUP_ROWS = 65_536
SCATTER = 611_953  # prime, so that rank * SCATTER mod TABLE_ROWS visits every id once


def write_log(out: Path, rows: int, ids: str, seed: int) -> None:
    """Writes `rows` rows below `out`, in one day's folder."""
    rng = np.random.default_rng(seed)
    cdf = _zipf_cdf() if ids == "zipf" else None
    columns = {f"f{i}": _draw(rng, rows, cdf) for i in range(NUM_FEATURES)}
    taste = sum(np.sin(columns[f"f{i}"] * 0.37) for i in range(3))
    click = rng.random(rows) < 1.0 / (1.0 + np.exp(2.0 - taste))
    conversion = click & (rng.random(rows) < 1.0 / (1.0 + np.exp(1.0 - taste)))
    table = pa.table(
        {**columns, "click": click.astype(np.int8), "conversion": conversion.astype(np.int8)}
    )
    day = out / "dt=2024-01-01"
    day.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        table,
        day / "part-0.parquet",
        row_group_size=ROW_GROUP_ROWS,
        write_page_checksum=True,  # our reader verifies them: part of what it pays
    )


def _zipf_cdf() -> np.ndarray:
    mass = np.arange(1, TABLE_ROWS + 1, dtype=np.float64) ** -ZIPF_EXPONENT
    return np.cumsum(mass) / mass.sum()


def _draw(rng: np.random.Generator, rows: int, cdf: np.ndarray | None) -> np.ndarray:
    if cdf is None:
        return rng.integers(0, TABLE_ROWS, rows, dtype=np.int64)
    rank = np.minimum(np.searchsorted(cdf, rng.random(rows)), TABLE_ROWS - 1)
    return (rank.astype(np.int64) * SCATTER) % TABLE_ROWS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder that gets dt=2024-01-01/")
    parser.add_argument("--rows", type=int, default=4096 * 40)
    parser.add_argument("--ids", choices=("uniform", "zipf"), default="uniform")
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    write_log(arguments.out, arguments.rows, arguments.ids, arguments.seed)


if __name__ == "__main__":
    main()
