"""The log as it was known at a moment, against pandas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from data_pipelines.synthetic import write_log
from data_pipelines.synthetic.known import known_at, write_known_at
from marigold_rec.config.data import SyntheticConfig

_CONFIG = SyntheticConfig(days=2, rows_per_day=2000, users=300, items=80, seed=4)
_MIDNIGHT_MS = 1_704_067_200_000 + 86_400_000
"""After the first day."""


def test_later_conversions_are_hidden_and_nothing_else(tmp_path: Path):
    write_log(_CONFIG, tmp_path / "log")
    file = tmp_path / "log/dt=2024-01-01/part-00000.parquet"
    log = pq.ParquetFile(file).read()
    rows, known = log.to_pandas(), known_at(log, _MIDNIGHT_MS)
    later = rows["conversion_time_ms"] > _MIDNIGHT_MS
    assert 0.3 < later.sum() / rows["conversion"].sum() < 0.7
    np.testing.assert_array_equal(
        known.column("conversion").to_pandas(), rows["conversion"].mask(later, 0)
    )
    np.testing.assert_array_equal(
        known.column("conversion_time_ms").to_pandas(), rows["conversion_time_ms"].mask(later)
    )
    others = [n for n in log.column_names if n not in ("conversion", "conversion_time_ms")]
    assert known.select(others).equals(log.select(others))
    assert known.schema == log.schema


def test_rows_to_come_are_not_there(tmp_path: Path):
    write_log(_CONFIG, tmp_path / "log")
    noon_ms = _MIDNIGHT_MS - 43_200_000
    write_known_at(tmp_path / "log", ["2024-01-01"], noon_ms, tmp_path / "known")
    (file,) = (tmp_path / "known").rglob("*.parquet")
    times = pq.ParquetFile(file).read().column("event_time_ms").to_numpy()
    assert 0 < len(times) < 2000
    assert times.max() <= noon_ms
