"""Labels that become due: against pandas, at the edges, and over any cut of the timeline."""

from __future__ import annotations

import datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.labels.columns import LabelColumns, Labels
from data_pipelines.labels.due import LabelTimes, label_time_problems, times_of
from data_pipelines.labels.limit import LabelLimit
from data_pipelines.preflight.columns import needed_columns
from marigold_rec.config import Config
from marigold_rec.config.due import Due, days_for_due
from marigold_rec.errors import DataError
from tests.support.parquet import log_config

HOUR_MS = 3_600_000
UTC = datetime.UTC
START = datetime.datetime(2024, 1, 1, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)
CTR: dict[str, Any] = {"name": "ctr", "kind": "binary", "label": "click"}
CVR: dict[str, Any] = {
    "name": "cvr", "kind": "binary", "label": "bought", "given": "ctr", "matures_h": 48,
    "event_time": "bought_ms",
}  # fmt: skip
WATCH: dict[str, Any] = {
    "name": "watch", "kind": "duration", "label": "watch_s", "matures_h": 1.5,
    "observed_if": "click",
}  # fmt: skip


def config_of(*tasks: dict[str, Any], **data: Any) -> Config:
    section = {"weight": None, "time": "at", "time_unit": "ms", **data}
    return log_config(tasks=tasks or [CTR, CVR, WATCH], **section)


def at(hours: float) -> datetime.datetime:
    return START + datetime.timedelta(hours=hours)


def looked_at(config: Config, due: Due | None, table: pa.Table) -> Labels:
    return LabelColumns.of(config, due)(table)


def clicks(rows: int, seed: int) -> pa.Table:
    """Over a week, in no order; nulls among all columns but the time, and odd conversions."""
    rng = np.random.default_rng(seed)
    at_ms = START_MS + rng.integers(0, 7 * 24, rows) * HOUR_MS + rng.integers(-1, 2, rows)
    click = rng.integers(0, 2, rows)
    bought = rng.integers(0, 2, rows)
    delay_h = rng.choice([1, 47, 48, 49, 100], rows)
    bought_ms = at_ms + delay_h * HOUR_MS + rng.integers(-1, 2, rows)
    return pa.table(
        {
            "at": pa.array(at_ms),
            "click": pa.array(click.astype(np.int8), mask=rng.random(rows) < 0.1),
            "bought": pa.array(bought.astype(np.int8), mask=rng.random(rows) < 0.1),
            "bought_ms": pa.array(bought_ms, mask=bought == 0),
            "watch_s": pa.array(rng.exponential(60, rows), mask=rng.random(rows) < 0.1),
        }
    )


def by_pandas(table: pa.Table, due: Due | None) -> pd.DataFrame:
    """The labels of CTR, CVR and WATCH, NaN where not observed: with pandas' own times."""
    rows = table.to_pandas()
    when = pd.to_datetime(rows["at"], unit="ms", utc=True)
    bought_at = pd.to_datetime(rows["bought_ms"], unit="ms", utc=True)
    bought = rows["bought"].where(rows["click"] == 1)
    late = bought_at > when + pd.Timedelta(hours=48)
    found = pd.DataFrame(
        {
            "ctr": rows["click"],
            "cvr": bought.mask(late & (bought == 1), 0),
            "watch": rows["watch_s"].where(rows["click"] == 1),
        }
    )
    for name, hours in (("ctr", 0.0), ("cvr", 48.0), ("watch", 1.5)):
        due_at = when + pd.Timedelta(hours=hours)
        if due is not None:
            found[name] = found[name].where((due_at >= due[0]) & (due_at < due[1]))
    return found


WINDOWS = [None, (at(0), at(24)), (at(48), at(72)), (at(72), at(72.5)), (at(-100), at(1000))]


@pytest.mark.parametrize("due", WINDOWS, ids=str)
def test_labels_equal_those_of_pandas(due: Due | None):
    table = clicks(3000, seed=1)
    found = looked_at(config_of(), due, table)
    expected = by_pandas(table, due).to_numpy(np.float32)
    np.testing.assert_array_equal(found.observed_BT > 0, ~np.isnan(expected))
    np.testing.assert_array_equal(found.labels_BT, np.nan_to_num(expected))
    assert found.observed_BT.sum() > 0


@pytest.mark.parametrize("due", WINDOWS[1:], ids=str)
def test_what_is_passed_over_is_counted(due: Due):
    table = clicks(3000, seed=2)
    found = looked_at(config_of(), due, table).counts
    always, now = by_pandas(table, None), by_pandas(table, due)
    for task in ("ctr", "cvr", "watch"):
        expected = int(always[task].notna().sum() - now[task].notna().sum())
        assert found.get(f"not_due/{task}", 0) == expected
    rows = table.to_pandas()
    late = (rows["bought"] == 1) & (rows["bought_ms"] > rows["at"] + 48 * HOUR_MS)
    assert found.get("late/cvr", 0) == int((late & now["cvr"].notna()).sum())


cuts = st.lists(st.integers(-2 * 24 * 60, 10 * 24 * 60), max_size=6, unique=True)


@given(
    cuts=cuts,
    seed=st.integers(0, 5),
    matures_h=st.sampled_from([0.0, 1.0, 0.1, 23.999, 48.0, 1e-7]),
)
def test_over_any_cut_of_the_timeline_every_label_is_learned_once(
    cuts: list[int], seed: int, matures_h: float
):
    table = clicks(200, seed)
    config = config_of(CTR, {**CVR, "matures_h": matures_h, "event_time": None})
    edges = sorted(at(minutes / 60) for minutes in cuts)
    edges = [at(-1000), *edges, at(1000)]
    times = sum(looked_at(config, window, table).observed_BT for window in pairwise(edges))
    np.testing.assert_array_equal(times, looked_at(config, None, table).observed_BT)


@pytest.mark.parametrize(
    ("kind", "unit", "step"),
    [
        (pa.int64(), "s", 1), (pa.int32(), "s", 1), (pa.int64(), "ms", 1), (pa.int64(), "us", 1),
        (pa.int64(), "ns", 1000), (pa.timestamp("s"), None, 1),
        (pa.timestamp("ms", "UTC"), None, 1),
        (pa.timestamp("us", "Asia/Tokyo"), "s", 1), (pa.timestamp("ns"), "ms", 1000),
    ],
    ids=str,
)  # fmt: skip
def test_since_is_in_the_window_and_until_is_not(kind: pa.DataType, unit: str | None, step: int):
    """To the smallest step of the column. Without a time zone a timestamp is UTC."""
    name = kind.unit if pa.types.is_timestamp(kind) else unit
    per_second = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}[name or ""]
    since, until = (int(at(hours).timestamp()) * per_second for hours in (24, 48))
    raw = [since - step, since, since + step, until - step, until, until + step]
    table = pa.table({"at": pa.array(raw).cast(kind), "click": pa.array([1] * 6)})
    config = config_of(CTR, time_unit=unit)
    found = looked_at(config, (at(24), at(48)), table)
    assert found.observed_BT.ravel().tolist() == [0, 1, 1, 1, 0, 0]
    shifted = config_of({**CTR, "matures_h": 24}, time_unit=unit)
    found = looked_at(shifted, (at(48), at(72)), table)
    assert found.observed_BT.ravel().tolist() == [0, 1, 1, 1, 0, 0]
    assert found.counts == {"not_due/ctr": 3}


def test_a_conversion_at_the_end_of_its_window_counts_and_a_later_one_is_0():
    end = START_MS + 48 * HOUR_MS
    table = pa.table(
        {
            "at": pa.array([START_MS] * 5),
            "click": pa.array([1] * 5),
            "bought": pa.array([1, 1, 1, 0, 1]),
            # A time beside a 0 says nothing; one before the click is a conversion all the same.
            "bought_ms": pa.array([end, end + 1, None, end + 1, START_MS - 1]),
        }
    )
    found = looked_at(config_of(CTR, CVR), None, table)
    assert found.labels_BT[:, 1].tolist() == [1, 0, 0, 0, 1]
    assert found.observed_BT[:, 1].tolist() == [1, 1, 0, 1, 1]
    assert found.counts == {"invalid/cvr": 1, "late/cvr": 1}
    with pytest.raises(DataError, match="a 1 needs its time in column 'bought_ms', but 1 of 5"):
        judged(found)


def judged(found: Labels) -> None:
    limit = LabelLimit(0.01)
    limit.add(found.tallies, ["a.parquet row group 0"])
    limit.judge()


def test_a_row_without_a_time_has_no_label_and_is_counted():
    table = pa.table(
        {"at": pa.array([START_MS, None, 2**62, -(2**63)]), "click": pa.array([1, 1, 0, 1])}
    )
    found = looked_at(config_of(CTR), (at(0), at(1)), table)
    assert found.observed_BT.ravel().tolist() == [1, 0, 0, 0]
    assert found.counts == {"invalid/time": 3}
    with pytest.raises(
        DataError,
        match=r"data\.time: column 'at': every row needs its event time, but 3 of 4 are not",
    ):
        judged(found)


def test_without_a_window_only_tasks_with_an_event_need_times():
    table = pa.table(
        {
            "at": pa.array([START_MS, None]),
            "click": pa.array([1, 1]),
            "bought": pa.array([0, 0]),
            "bought_ms": pa.array([None, None], pa.int64()),
        }
    )
    found = looked_at(config_of(CTR, CVR), None, table)
    assert found.observed_BT.tolist() == [[1, 1], [1, 0]]


def test_labels_that_do_not_depend_on_times_read_none():
    tasks = (CTR, {**CVR, "event_time": None})
    assert LabelColumns.of(config_of(*tasks), None).columns == ("click", "bought")
    assert needed_columns(config_of(*tasks))[-2:] == ("click", "bought")
    assert not LabelTimes(config_of(*tasks), None).is_needed
    due = (at(0), at(24))
    assert LabelColumns.of(config_of(*tasks), due).columns == ("click", "bought", "at")
    wide = config_of(CTR, CVR, train={"due": ["2024-01-01", "2024-01-02"]})
    assert needed_columns(wide)[-4:] == ("click", "bought", "at", "bought_ms")


def test_times_beyond_reason_are_not_known():
    for unit in ("s", "ms", "us", "ns"):
        extremes = pa.array([-(2**63), 2**63 - 1, None, 0], pa.int64())
        found = times_of(extremes, unit)
        known = [unit == "ns", unit == "ns", False, True]
        assert found.is_known_B.tolist() == known, unit
    with pytest.raises(ValueError, match=r"data\.time_unit: missing"):
        times_of(pa.array([1]), None)


@pytest.mark.parametrize(
    ("schema", "all_null", "expected"),
    [
        ({"at": pa.int64(), "bought_ms": pa.int64()}, (), []),
        ({"at": pa.timestamp("us"), "bought_ms": pa.timestamp("ns", "UTC")}, (), []),
        (
            {"at": pa.int64(), "bought_ms": pa.int64()},
            ("at",),
            ["data.time: column 'at' is null in all rows: when a label is due is not known; name "
             "the column of the rows' event times"],
        ),
        (
            {"at": pa.float64(), "bought_m": pa.int64()},
            (),
            ["data.time: column 'at' is double; it must be an integer or a timestamp",
             "tasks.cvr.event_time: there is no column 'bought_ms'; did you mean 'bought_m'?"],
        ),
    ],
)  # fmt: skip
def test_columns_that_are_no_times_are_refused(
    schema: dict[str, pa.DataType], all_null: tuple[str, ...], expected: list[str]
):
    fields = pa.schema(list(schema.items()))
    assert label_time_problems(config_of(CTR, CVR), fields, all_null) == expected


def test_integers_without_a_unit_are_refused():
    schema = pa.schema({"at": pa.int64(), "bought_ms": pa.timestamp("ms")})
    assert label_time_problems(config_of(CTR, CVR, time_unit=None), schema, ()) == [
        "data.time: column 'at' is int64, and its unit is not known: set data.time_unit to s, ms, "
        "us or ns (since 1970, UTC)"
    ]


@pytest.mark.parametrize(
    ("tasks", "since", "until", "first", "last"),
    [
        ((CTR, CVR), at(72), at(96), (2024, 1, 2), (2024, 1, 4)),
        ((CTR,), at(72), at(96), (2024, 1, 4), (2024, 1, 4)),
        ((CTR, WATCH), at(72), at(96), (2024, 1, 3), (2024, 1, 4)),
        ((CVR,), at(72), at(96), (2024, 1, 2), (2024, 1, 2)),
        ((CTR, CVR), at(72), at(96.001), (2024, 1, 2), (2024, 1, 5)),
    ],
)
def test_the_days_of_a_window(
    tasks: tuple[dict[str, Any], ...],
    since: datetime.datetime,
    until: datetime.datetime,
    first: tuple[int, int, int],
    last: tuple[int, int, int],
):
    found = days_for_due(config_of(*tasks).tasks, since, until)
    assert found == (datetime.date(*first), datetime.date(*last))


@given(
    hours=st.floats(0, 400), length_h=st.floats(0.01, 60), row_ms=st.integers(0, 30 * 86_400_000)
)
def test_no_label_of_a_window_lies_outside_of_its_days(hours: float, length_h: float, row_ms: int):
    config = config_of(CTR, {**CVR, "event_time": None}, WATCH)
    due = (at(hours), at(hours + length_h))
    table = pa.table(
        {
            "at": pa.array([START_MS + row_ms]),
            **{name: pa.array([1]) for name in ("click", "bought", "watch_s")},
        }
    )
    if looked_at(config, due, table).observed_BT.any():
        first, last = days_for_due(config.tasks, *due)
        assert first <= (START + datetime.timedelta(milliseconds=row_ms)).date() <= last
