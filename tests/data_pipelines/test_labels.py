"""Masks, invalid labels, weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_pipelines.labels import LabelColumns, Labels
from marigold_rec.errors import DataError
from tests.support.parquet import log_config

BINARY = {"name": "ctr", "kind": "binary", "label": "y"}
GATED = {"name": "cvr", "kind": "binary", "label": "y", "observed_if": "g"}
WATCH = {"name": "watch", "kind": "watch_time", "label": "y", "max_s": 100.0}


def labels(task: dict[str, Any], max_invalid: float = 1.0, **columns: pa.Array) -> Labels:
    config = log_config(tasks=[task])
    weight = "w" if "w" in columns else None
    return LabelColumns(config.tasks, weight, max_invalid)(pa.table(columns))


def test_null_and_nan_are_unobserved_and_not_invalid():
    found = labels(BINARY, 0.0, y=pa.array([0.0, 1.0, None, np.nan]))
    assert found.labels_BT.tolist() == [[0.0], [1.0], [0.0], [0.0]]
    assert found.observed_BT.tolist() == [[1.0], [1.0], [0.0], [0.0]]
    assert found.labels_BT.dtype == found.observed_BT.dtype == np.float32
    assert found.counts == {}
    assert found.weights_B.tolist() == [1.0] * 4


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint8(), pa.bool_(), pa.float32()])
def test_a_null_of_any_type_is_unobserved(kind: pa.DataType):
    found = labels(BINARY, 0.0, y=pa.array([1, None, 0]).cast(kind))
    assert found.labels_BT.ravel().tolist() == [1.0, 0.0, 0.0]
    assert found.observed_BT.ravel().tolist() == [1.0, 0.0, 1.0]


def test_a_label_counts_only_where_its_condition_is_1():
    # What is not observed is not judged: 9 may stand there.
    found = labels(
        GATED, 0.0, y=pa.array([1, 0, 9, 9, 9]), g=pa.array([1, 1, 0, None, 2], pa.int8())
    )
    assert found.observed_BT.ravel().tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert found.labels_BT.ravel().tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("bad", [2.0, -1.0, 0.5, np.inf, -np.inf])
def test_an_invalid_binary_label_is_masked_and_counted(bad: float):
    found = labels(BINARY, y=pa.array([1.0, bad, None]))
    assert found.observed_BT.ravel().tolist() == [1.0, 0.0, 0.0]
    assert found.labels_BT.ravel().tolist() == [1.0, 0.0, 0.0]
    assert found.counts == {"invalid/ctr": 1}


@pytest.mark.parametrize("bad", [-0.1, 100.1, np.inf, -np.inf])
def test_an_invalid_watch_time_is_masked_and_counted(bad: float):
    found = labels(WATCH, y=pa.array([0.0, 100.0, bad]))
    assert found.observed_BT.ravel().tolist() == [1.0, 1.0, 0.0]
    assert found.labels_BT.ravel().tolist() == [0.0, 100.0, 0.0]
    assert found.counts == {"invalid/watch": 1}


def test_too_many_invalid_labels_are_refused():
    y = pa.array([1, 0, 7, None, 1])
    assert labels(BINARY, 0.25, y=y).counts == {"invalid/ctr": 1}
    message = (
        r"tasks.ctr: labels in column 'y': a binary label must be 0 or 1, but 1 of 4 are not "
        r"\(25.00%\), e.g. 7; mend the column or raise data.max_invalid_labels \(24.00%\)"
    )
    with pytest.raises(DataError, match=message):
        labels(BINARY, 0.24, y=y)


def test_invalid_weights_are_zero_and_counted():
    columns = {"y": pa.array([1] * 6), "w": pa.array([0.5, None, np.nan, -1.0, np.inf, 0.0])}
    found = labels(BINARY, **columns)
    assert found.weights_B.tolist() == [0.5, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert found.weights_B.dtype == np.float32
    assert found.counts == {"invalid/weight": 4}
    message = r"data.weight: column 'w': a weight must be .* but 4 of 6 are not .* null or NaN"
    with pytest.raises(DataError, match=message):
        labels(BINARY, 0.5, **columns)
