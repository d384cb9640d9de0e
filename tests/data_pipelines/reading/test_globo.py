"""A slice of the real log: the reader equals pandas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_pipelines.catalog.scan import scan
from data_pipelines.preflight.columns import check_data, needed_columns
from data_pipelines.reading.reader import ParquetReader
from marigold_rec.config import Config

GLOBO = Path(__file__).resolve().parents[4] / "shared/data/globo/dt=2017-10-01"

if not GLOBO.exists():
    pytest.skip(f"the real log is not at {GLOBO.parent}", allow_module_level=True)

DENSE = ("n_prev_clicks", "n_prev_sessions", "item_clicks_1h", "item_clicks_24h", "item_age_h")
CONFIG = Config.model_validate(
    {
        "data": {"batch_size": 4096, "shuffle_rows": 0},
        "features": [
            {"name": "item_id", "kind": "id", "rows": 400_000, "table": "item"},
            {"name": "history", "kind": "id", "table": "item", "pooling": "mean"},
            {"name": "hour", "kind": "bucketize", "boundaries": [6, 12, 18]},
            {"name": "device", "kind": "vocab", "values": [3, 1]},
            *({"name": name, "kind": "dense", "transform": "log1p"} for name in DENSE),
        ],
        "tasks": [
            {"name": "ctr", "kind": "binary", "label": "click"},
            {"name": "cvr", "kind": "binary", "label": "conversion", "given": "ctr"},
            {
                "name": "watch_time",
                "kind": "duration",
                "label": "watch_time_s",
                "observed_if": "conversion",
            },
        ],
    }
)


def test_the_first_rows_equal_pandas():
    catalog = scan(str(GLOBO), columns=needed_columns(CONFIG))
    assert check_data(catalog, CONFIG) == []
    stream = ParquetReader(catalog, CONFIG, rank=0, world_size=1).batches()
    batches = [next(stream) for _ in range(6)]
    stream.close()
    rows = sum(batch.num_rows for batch in batches)
    frame = pd.read_parquet(catalog.files[0].path)[:rows]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(batch, name).numpy() for batch in batches])

    def ids(key: str) -> np.ndarray:
        return np.concatenate([batch.sparse[key].values().numpy() for batch in batches])

    assert np.array_equal(ids("item_id"), frame["item_id"])
    assert np.array_equal(ids("history"), np.concatenate(frame["history"].to_list()))
    lengths = np.concatenate([batch.sparse["history"].lengths().numpy() for batch in batches])
    assert np.array_equal(lengths, frame["history"].map(len))
    assert np.array_equal(ids("hour"), np.digitize(frame["hour"], [6, 12, 18]))
    assert np.array_equal(ids("device"), frame["device"].map({3: 1, 1: 2}).fillna(0))
    dense = np.log1p(frame[list(DENSE)].to_numpy(np.float64)).astype(np.float32)
    assert np.array_equal(joined("dense_BD"), dense)
    labels = frame[["click", "conversion", "watch_time_s"]].to_numpy(np.float32)
    observed = ~np.isnan(labels)
    observed[:, 1] &= frame["click"] == 1
    observed[:, 2] &= frame["conversion"] == 1
    assert 0 < observed[:, 2].sum() < observed[:, 1].sum() < rows
    assert np.array_equal(joined("observed_BT"), observed)
    assert np.array_equal(joined("labels_BT"), np.where(observed, labels, 0))
    assert np.array_equal(joined("weights_B"), np.ones(rows))
