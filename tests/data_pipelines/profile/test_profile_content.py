"""What a profile says of a day's rows as such, however they are ordered and cut."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_pipelines.profile.split import profile_split
from marigold_rec.profile import Content, EventHours
from tests.support.parquet import click_log, log_config, write_file

DAY = datetime.date(2024, 1, 1)


def content(table: pa.Table, folder: Path, *cuts: int) -> Content:
    ends = [0, *cuts, len(table)]
    for number, (begin, end) in enumerate(itertools.pairwise(ends)):
        write_file(folder / f"dt={DAY}/part-{number}.parquet", table.slice(begin, end - begin), 40)
    found = profile_split(log_config(), str(folder), (DAY, DAY)).content
    assert found is not None
    return found


def test_order_and_files_change_nothing(tmp_path: Path):
    table = click_log(300, seed=3)
    mixed = table.take(pa.array(np.random.default_rng(0).permutation(300)))
    assert content(table, tmp_path / "a") == content(mixed, tmp_path / "b", 7, 150)


def _one_more(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table, table.slice(5, 1)])


def _another_value(table: pa.Table) -> pa.Table:
    name = log_config().tasks[0].label
    column = table[name].to_pylist()
    column[17] = 1 - (column[17] or 0)
    return table.set_column(
        table.schema.get_field_index(name), name, pa.array(column, table.schema.field(name).type)
    )


def _reversed_lists(table: pa.Table) -> pa.Table:
    lists = [name for name in table.schema.names if pa.types.is_list(table.schema.field(name).type)]
    name = next(
        name for name in lists if name in {c for f in log_config().features for c in f.columns}
    )
    turned = [row and row[::-1] for row in table[name].to_pylist()]
    return table.set_column(
        table.schema.get_field_index(name), name, pa.array(turned, table.schema.field(name).type)
    )


@pytest.mark.parametrize("change", [_one_more, _another_value, _reversed_lists])
def test_every_row_counts(tmp_path: Path, change: Callable[[pa.Table], pa.Table]):
    table = click_log(300, seed=3)
    other = change(table)
    assert content(table, tmp_path / "a").digest != content(other, tmp_path / "b").digest


@pytest.mark.parametrize("unit", ["s", "ms", None])
def test_event_times_by_the_hour(tmp_path: Path, unit: str | None):
    hours = np.arange(300) % 26 - 1  # from an hour before the day to one after it
    midnight = 1_704_067_200
    seconds = midnight + hours * 3600 + 5
    times: Any = pa.array(seconds * (1000 if unit == "ms" else 1))
    if unit is None:
        times = times.cast(pa.timestamp("s", "UTC"))
    table = click_log(300, seed=3).append_column("happened", times)
    write_file(tmp_path / f"dt={DAY}/part-0.parquet", table, 40)
    config = log_config(time="happened", time_unit=unit)
    found = profile_split(config, str(tmp_path), (DAY, DAY)).event_hours
    counted = {hour: int((hours == hour).sum()) for hour in range(-1, 25)}
    assert found == EventHours(column="happened", rows=tuple(counted.items()))


def test_no_hours_where_nothing_tells_them(tmp_path: Path):
    table = click_log(50, seed=3).append_column("happened", pa.array(np.arange(50)))
    write_file(tmp_path / f"dt={DAY}/part-0.parquet", table, 40)
    config = log_config(time="happened")  # no unit
    assert profile_split(config, str(tmp_path), (DAY, DAY)).event_hours is None
    config = log_config(time="happened", time_unit="s")
    far = profile_split(config, str(tmp_path), (DAY, DAY)).event_hours
    assert far == EventHours(column="happened", rows=((-100, 50),))
