"""What features and labels must be, row by row in plain Python and pandas: slow and obvious."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from marigold_rec.batch import Batch
from marigold_rec.config import Config
from marigold_rec.config.tasks import Task

_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Row:
    """One row as the model sees it."""

    bags: dict[str, list[int]]
    dense: list[float]
    labels: list[float]
    observed: list[float]
    weight: float


def expected_rows(table: pa.Table, config: Config) -> list[Row]:
    # Arrow-backed: numpy-backed pandas would turn integers with nulls into floats.
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    rows = {t.name: t.rows for t in config.tables}
    records = [
        {name: table.column(name)[i].as_py() for name in frame.columns} for i in range(len(frame))
    ]
    return [_row(record, config, rows) for record in records]


def batch_rows(batch: Batch) -> list[Row]:
    """The real rows of `batch`; checks that the rest is empty filling."""
    num_rows = batch.num_rows
    bags: list[dict[str, list[int]]] = [{} for _ in range(num_rows)]
    keys = batch.sparse.keys()
    for key in keys:
        jagged = batch.sparse[key]
        parts = [part.tolist() for part in jagged.to_dense()]
        assert all(not part for part in parts[num_rows:])
        for bag, part in zip(bags, parts, strict=False):
            bag[key] = part
    for tensor in (batch.dense_BD, batch.labels_BT, batch.observed_BT, batch.weights_B):
        assert not tensor[num_rows:].any()
    return [
        Row(
            bags[i],
            batch.dense_BD[i].tolist(),
            batch.labels_BT[i].tolist(),
            batch.observed_BT[i].tolist(),
            batch.weights_B[i].item(),
        )
        for i in range(num_rows)
    ]


def hash_row(value: int | str, table: str, rows: int) -> int:
    bits = _blake(value) if isinstance(value, str) else value & _MASK
    return _mix(bits + _blake(table)) % rows


def _mix(value: int) -> int:
    z = (value + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def _blake(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _row(record: dict[str, Any], config: Config, rows: dict[str, int]) -> Row:
    bags = {
        feature.name: _bag(feature, record, config, rows[feature.table_name])
        for feature in config.sparse_features
    }
    dense = [_dense(feature, record) for feature in config.dense_features]
    labels = [_label(task, record) for task in config.tasks]
    weight = record[config.data.weight] if config.data.weight else 1.0
    if weight is None or not 0 <= weight < math.inf:
        weight = 0.0
    return Row(
        bags,
        dense,
        [0.0 if x is None else _f32(x) for x in labels],
        [0.0 if x is None else 1.0 for x in labels],
        _f32(weight),
    )


def _bag(feature: Any, record: dict[str, Any], config: Config, rows: int) -> list[int]:
    if feature.kind == "cross":
        return _cross(feature, record, config, rows)
    values = _values(record[feature.source], feature)
    return [
        row for v in values if v is not None and (row := _table_row(feature, v, rows)) is not None
    ]


def _values(value: Any, feature: Any) -> list[Any]:
    """Those that are read of a column's value."""
    if not isinstance(value, list):
        return [value]
    if feature is None or feature.max_length is None:
        return value
    return value[: feature.max_length] if feature.keep == "first" else value[-feature.max_length :]


def _cross(feature: Any, record: dict[str, Any], config: Config, rows: int) -> list[int]:
    features: dict[str, Any] = {f.name: f for f in config.features}
    codes: list[list[int]] = []
    for given in feature.of:
        part = features.get(given) if isinstance(given, str) else given
        read = _values(record[given if part is None else part.source], part)
        values = [v for v in read if v is not None]
        if part is None or part.kind in ("hash", "id"):
            codes.append([_blake(v) if isinstance(v, str) else v & _MASK for v in values])
        else:
            codes.append([row for v in values if (row := _table_row(part, v, 0)) is not None])
    bag: list[int] = []
    for combination in itertools.product(*codes):
        mixed = _blake(feature.table_name)
        for code in combination:
            mixed = _mix(mixed + code)
        bag.append(mixed % rows)
    return bag


def _table_row(feature: Any, value: Any, rows: int) -> int | None:
    if feature.kind == "hash":
        return hash_row(value, feature.table_name, rows)
    if feature.kind == "id":
        if 0 <= value < rows:
            return value
        return rows - 1 if feature.out_of_range == "clamp" else None
    if feature.kind == "bucketize":
        return None if math.isnan(value) else bisect.bisect_right(feature.boundaries, value)
    return feature.values.index(value) + 1 if value in feature.values else 0


def _dense(feature: Any, record: dict[str, Any]) -> float:
    value = _recency(feature, record) if feature.kind == "overlap" else record[feature.source]
    x = feature.missing if value is None or not math.isfinite(value) else float(value)
    if feature.transform == "log1p":
        x = math.copysign(float(np.log1p(abs(x))), x)
    if feature.clip:
        x = min(max(x, feature.clip[0]), feature.clip[1])
    if feature.standardize:
        x = (x - feature.standardize.mean) / feature.standardize.std
    return _f32(x)


def _recency(feature: Any, record: dict[str, Any]) -> float:
    ids = [i for i in record[feature.list] or [] if i is not None]
    return 1 / (ids.index(record[feature.item]) + 1) if record[feature.item] in ids else 0.0


def _label(task: Task, record: dict[str, Any]) -> float | None:
    value = record[task.label]
    if value is None or math.isnan(value):
        return None
    if task.observed_if is not None and record[task.observed_if] != 1:
        return None
    if task.kind == "binary":
        return float(value) if value in (0, 1) else None
    return float(value) if 0 <= value <= task.max_s else None


def _f32(value: float) -> float:
    return float(np.float32(value))
