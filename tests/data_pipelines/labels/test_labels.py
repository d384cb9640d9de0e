"""Masks, invalid labels, weights; and when too many are invalid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_pipelines.labels.columns import LabelColumns, Labels, Tally
from data_pipelines.labels.limit import LABELS_TO_JUDGE, LabelLimit
from marigold_rec.errors import DataError
from tests.support.parquet import log_config

BINARY = {"name": "ctr", "kind": "binary", "label": "y"}
GATED = {"name": "cvr", "kind": "binary", "label": "y", "observed_if": "g"}
WATCH = {"name": "watch", "kind": "duration", "label": "y", "max_s": 100.0}


def labels(task: dict[str, Any], **columns: pa.Array) -> Labels:
    config = log_config(tasks=[task])
    weight = "w" if "w" in columns else None
    return LabelColumns(config.tasks, weight)(pa.table(columns))


def judge(found: Labels, max_invalid: float) -> None:
    limit = LabelLimit(max_invalid)
    limit.add(found.tallies, ["a.parquet row group 0"])
    limit.judge()


def test_null_and_nan_are_unobserved_and_not_invalid():
    found = labels(BINARY, y=pa.array([0.0, 1.0, None, np.nan]))
    assert found.labels_BT.tolist() == [[0.0], [1.0], [0.0], [0.0]]
    assert found.observed_BT.tolist() == [[1.0], [1.0], [0.0], [0.0]]
    assert found.labels_BT.dtype == found.observed_BT.dtype == np.float32
    assert found.counts == {}
    judge(found, 0.0)
    assert found.weights_B.tolist() == [1.0] * 4


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint8(), pa.bool_(), pa.float32()])
def test_a_null_of_any_type_is_unobserved(kind: pa.DataType):
    found = labels(BINARY, y=pa.array([1, None, 0]).cast(kind))
    assert found.labels_BT.ravel().tolist() == [1.0, 0.0, 0.0]
    assert found.observed_BT.ravel().tolist() == [1.0, 0.0, 1.0]


def test_a_label_counts_only_where_its_condition_is_1():
    # What is not observed is not judged: 9 may stand there.
    found = labels(GATED, y=pa.array([1, 0, 9, 9, 9]), g=pa.array([1, 1, 0, None, 2], pa.int8()))
    judge(found, 0.0)
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
    found = labels(BINARY, y=pa.array([1, 0, 7, None, 1, 8]))
    assert found.counts == {"invalid/ctr": 2}
    judge(found, 0.4)
    message = (
        r"tasks.ctr: labels in column 'y': a binary label must be 0 or 1, but 2 of 5 are not "
        r"\(40.00%\), e.g. 7; mend the column or raise data.max_invalid_labels \(39.00%\); "
        r"found in a.parquet row group 0$"
    )
    with pytest.raises(DataError, match=message):
        judge(found, 0.39)


def test_invalid_weights_are_zero_and_counted():
    columns = {"y": pa.array([1] * 6), "w": pa.array([0.5, None, np.nan, -1.0, np.inf, 0.0])}
    found = labels(BINARY, **columns)
    assert found.weights_B.tolist() == [0.5, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert found.weights_B.dtype == np.float32
    assert found.counts == {"invalid/weight": 4}
    message = r"data.weight: column 'w': a weight must be .* but 4 of 6 are not .* null or NaN"
    with pytest.raises(DataError, match=message):
        judge(found, 0.5)


def test_what_is_wrong_with_each_task_is_said_at_once():
    found = labels(BINARY, y=pa.array([5]), w=pa.array([-1.0]))
    with pytest.raises(DataError) as caught:
        judge(found, 0.5)
    assert [line.split(":")[0] for line in caught.value.problems] == ["tasks.ctr", "data.weight"]


def tally(num_seen: int, num_invalid: int, what: str = "the labels") -> Tally:
    return Tally("ctr", what, num_seen, num_invalid, 7.0 if num_invalid else np.nan)


def test_few_labels_are_not_judged_before_the_end():
    limit = LabelLimit(0.01)
    limit.add([tally(80, 1)], ["a"])
    limit.add([tally(LABELS_TO_JUDGE - 81, 9_000)], ["b"])
    with pytest.raises(DataError, match=r"9,001 of 9,999 are not"):
        limit.judge()
    with pytest.raises(DataError, match=r"9,001 of 10,000 are not"):
        limit.add([tally(1, 0)], ["c"])


def test_the_share_is_that_of_all_rows_so_far():
    limit = LabelLimit(0.01)
    limit.add([tally(20_000, 0)], ["a"])
    limit.add([tally(50, 50)], ["b"])
    limit.add([tally(150, 150)], ["c"])
    limit.judge()
    message = r"the labels, but 205 of 20,205 are not \(1.01%\), e.g. 7; .*; found in b, c, d$"
    with pytest.raises(DataError, match=message):
        limit.add([tally(5, 5)], ["d"])


def test_each_task_is_judged_by_its_own_labels():
    limit = LabelLimit(0.01)
    limit.add([tally(100_000, 0, "clicks"), tally(300, 100, "conversions")], ["a"])
    with pytest.raises(DataError, match=r"^conversions, but 100 of 300 are not"):
        limit.judge()


def test_many_sources_are_named_in_part():
    limit = LabelLimit(0.01)
    for source in "aabcdefgh":
        limit.add([tally(1, 1)], [source])
    with pytest.raises(DataError, match=r"found in a, b, c, d, e, f and 2 more$"):
        limit.judge()
