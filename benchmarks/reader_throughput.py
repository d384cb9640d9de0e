"""Rows per second of the reader alone: Parquet pages -> finished batches, on one rank.

    python benchmarks/reader_throughput.py --data ../shared/data/globo --threads 1

Without --config, a globo config with all context columns, lists and dense counts is used.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_pipelines.catalog import check_data, needed_columns, scan
from data_pipelines.reader import ParquetReader
from marigold_rec.batch import Cursor
from marigold_rec.config import Config, load_config

_CONTEXT = ("env", "device", "os", "country", "region", "referrer", "pos", "hour", "weekday")
_DENSE = ("n_prev_clicks", "n_prev_sessions", "item_clicks_1h", "item_clicks_24h", "item_age_h")


def globo_config(threads: int) -> Config:
    features: list[dict[str, Any]] = [
        {"name": "user_id", "kind": "hash", "rows": 200_003, "dim": 16},
        {"name": "item_id", "kind": "hash", "rows": 60_013, "dim": 16, "table": "item"},
        {"name": "history", "kind": "hash", "table": "item", "pooling": "mean"},
    ]
    features += [{"name": name, "kind": "hash", "rows": 101, "dim": 16} for name in _CONTEXT]
    features += [{"name": name, "kind": "dense", "transform": "log1p"} for name in _DENSE]
    return Config.model_validate(
        {
            "data": {"batch_size": 2048, "reader_threads": threads},
            "features": features,
            "tasks": [
                {"name": "ctr", "kind": "binary", "label": "click"},
                {
                    "name": "cvr",
                    "kind": "binary",
                    "label": "conversion",
                    "observed_if": "click",
                },
                {
                    "name": "watch_time",
                    "kind": "watch_time",
                    "label": "watch_time_s",
                    "observed_if": "conversion",
                },
            ],
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--config", default=None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = globo_config(args.threads)
    if args.config is not None:
        config = load_config(args.config, [f"data.reader_threads={args.threads}"])
    catalog = scan(args.data, columns=needed_columns(config))
    problems = check_data(catalog, config)
    if problems:
        raise SystemExit("\n".join(problems))
    reader = ParquetReader(catalog, config, rank=0, world_size=1)
    for epoch in range(args.epochs):
        started, cpu = time.perf_counter(), time.process_time()
        rows = sum(batch.num_rows for batch in reader.batches(Cursor(epoch, 0)))
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
        print(
            f"epoch {epoch}: {rows:,} rows in {wall_s:.2f} s, {rows / wall_s:,.0f} rows/s; "
            f"{rows / cpu_s:,.0f} rows per CPU second, {args.threads} threads"
        )


if __name__ == "__main__":
    main()
