"""Small nasty click logs as Parquet, and configs that read every kind of feature from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from marigold_rec.config import Config

_NAMES = ["ana", "bo", "", "çelik", "日本", "x" * 300]

FEATURES: list[dict[str, Any]] = [
    {"name": "user", "kind": "hash", "rows": 101, "table": "people"},
    {"name": "big", "kind": "hash", "rows": 97},
    {"name": "name", "kind": "hash", "rows": 89},
    {"name": "friends", "kind": "hash", "table": "people", "pooling": "mean", "max_length": 3},
    {"name": "tags", "kind": "hash", "rows": 61, "max_length": 2, "keep": "last"},
    {"name": "item", "kind": "id", "rows": 50, "table": "items"},
    {"name": "seen", "kind": "id", "table": "items", "out_of_range": "drop"},
    {"name": "shelf", "kind": "id", "rows": 10, "out_of_range": "clamp"},
    {"name": "age", "kind": "bucketize", "boundaries": [0.0, 18.0, 65.5]},
    {"name": "prices", "kind": "bucketize", "boundaries": [1.0, 2.0]},
    {"name": "country", "kind": "vocab", "values": ["br", "pt", "ao"]},
    {"name": "codes", "kind": "vocab", "values": [7, -3, 1000]},
    {
        "name": "pair",
        "kind": "cross",
        "of": ["country", "friends", {"column": "amount", "kind": "bucketize", "boundaries": [0]}],
        "rows": 53,
    },
    {"name": "plain", "column": "amount", "kind": "dense", "missing": -1.0},
    {
        "name": "cooked",
        "column": "amount",
        "kind": "dense",
        "transform": "log1p",
        "clip": [-2.0, 3.0],
        "standardize": {"mean": 0.5, "std": 2.0},
    },
    {"name": "count", "kind": "dense", "transform": "log1p"},
    {"name": "flag", "kind": "dense"},
    {"name": "again", "kind": "overlap", "item": "item", "list": "seen", "gives": "recency"},
]

TASKS: list[dict[str, Any]] = [
    {"name": "ctr", "kind": "binary", "label": "click"},
    {"name": "cvr", "kind": "binary", "label": "conversion", "given": "ctr"},
    {"name": "watch", "kind": "duration", "label": "watch_s", "observed_if": "conversion"},
]


def log_config(
    *,
    features: Sequence[dict[str, Any]] = FEATURES,
    tasks: Sequence[dict[str, Any]] = TASKS,
    **data: Any,
) -> Config:
    """A config over `click_log`; `data` are fields of its data section."""
    section = {"batch_size": 8, "shuffle_rows": 0, "weight": "weight", **data}
    return Config.model_validate({"features": features, "tasks": tasks, "data": section})


def click_log(num_rows: int, seed: int = 0, first_id: int = 0) -> pa.Table:
    """Rows with nulls, NaN, infinities, empty lists, huge ids; `row_id` counts from `first_id`."""
    rng = np.random.default_rng(seed)

    def some(values: list[Any], null_share: float = 0.1) -> list[Any]:
        return [None if rng.random() < null_share else value for value in values]

    def lists(draw: Any, inner_nulls: float = 0.1) -> list[Any]:
        bags = [some([draw() for _ in range(rng.integers(0, 5))], inner_nulls) for _ in rows]
        return some(bags)

    rows = range(num_rows)
    integer = rng.integers
    extremes = [np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38]
    amounts = rng.normal(0, 5, num_rows)
    odd = rng.random(num_rows) < 0.2
    amounts[odd] = rng.choice(extremes, int(odd.sum()))
    clicks = integer(0, 2, num_rows)
    conversions = [int(integer(0, 2)) if click else None for click in clicks]
    watch = [float(rng.exponential(60)) if c else -1.0 for c in conversions]
    return pa.table(
        {
            "row_id": pa.array(range(first_id, first_id + num_rows), pa.int64()),
            "user": pa.array(some([int(integer(-(2**63), 2**63 - 1)) for _ in rows]), pa.int64()),
            "big": pa.array([int(integer(2**64, dtype=np.uint64)) for _ in rows], pa.uint64()),
            "name": pa.array(some([_NAMES[integer(len(_NAMES))] for _ in rows]), pa.string()),
            "friends": pa.array(lists(lambda: int(integer(-5, 5))), pa.list_(pa.int32())),
            "tags": pa.array(lists(lambda: _NAMES[integer(len(_NAMES))]), pa.list_(pa.string())),
            "item": pa.array(integer(0, 50, num_rows), pa.int16()),
            "seen": pa.array(lists(lambda: int(integer(-2, 55))), pa.large_list(pa.int64())),
            "shelf": pa.array(some([int(integer(-3, 14)) for _ in rows]), pa.int8()),
            "age": pa.array(
                some([float(x) for x in rng.choice([*extremes, 18, 65.5], num_rows)]), pa.float64()
            ),
            "prices": pa.array(
                lists(lambda: float(rng.choice([0.5, 1.0, 1.5, 2.0, np.nan]))),
                pa.list_(pa.float32()),
            ),
            "country": pa.array(
                some(list(rng.choice(["br", "pt", "ao", "jp"], num_rows))), pa.string()
            ),
            "codes": pa.array(lists(lambda: int(rng.choice([7, -3, 5]))), pa.list_(pa.int8())),
            "amount": pa.array(some([float(x) for x in amounts]), pa.float32()),
            "count": pa.array(some([int(integer(0, 1000)) for _ in rows]), pa.int32()),
            "flag": pa.array(some([bool(integer(0, 2)) for _ in rows]), pa.bool_()),
            "click": pa.array(clicks, pa.int8()),
            "conversion": pa.array(conversions, pa.int8()),
            "watch_s": pa.array(watch, pa.float32()),
            "weight": pa.array(rng.random(num_rows), pa.float32()),
        }
    )


def write_log(
    folder: Path, rows_per_file: Sequence[int], row_group_rows: int = 7, seed: int = 0
) -> pa.Table:
    """Files part-000.parquet, ... of `click_log` rows in `folder`; returns all rows in order."""
    folder.mkdir(parents=True, exist_ok=True)
    tables: list[pa.Table] = []
    for index, rows in enumerate(rows_per_file):
        table = click_log(rows, seed + index, first_id=sum(rows_per_file[:index]))
        write_file(folder / f"part-{index:03}.parquet", table, row_group_rows)
        tables.append(table)
    return pa.concat_tables(tables)


def write_file(path: Path, table: pa.Table, row_group_rows: int = 1000, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_rows, write_page_checksum=True, **options)
