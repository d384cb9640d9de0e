"""New days are compared with profiles as they were first, without the refused ones."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.nightly.day_profiles import DayProfiles
from jobs.nightly.partitions import Partitions
from marigold_rec.config import load_config
from tests.support.runs import click_log, config_tree, write_config, write_days


def day(number: int) -> datetime.date:
    return datetime.date(2024, 1, number)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    days = {str(day(n)): click_log(100 * n, seed=n) for n in (1, 2, 3)}
    return write_days(tmp_path / "log", days)


def profiles(log: Path, *overrides: str) -> DayProfiles:
    tree = config_tree(log, log.parent / "runs")
    config = load_config(write_config(tree, log.parent / "config.yaml"), overrides)
    return DayProfiles(log.parent / "root", config, str(log), Partitions(str(log), None))


def rows(found: list) -> list[int]:
    return [profile.rows for profile in found]


def test_a_day_is_held_against_the_days_before_it(log: Path) -> None:
    made = profiles(log)
    assert made.get(day(3)).rows == 300
    assert rows(made.earlier(day(3), 14)) == [200, 100]
    assert rows(made.earlier(day(3), 1)) == [200]
    assert rows(made.earlier(day(1), 14)) == []


def test_a_profile_is_made_once(log: Path) -> None:
    profiles(log).earlier(day(3), 14)
    files = {p: p.stat().st_mtime_ns for p in (log.parent / "root/profiles").iterdir()}
    assert len(files) == 2
    profiles(log).earlier(day(3), 14)
    assert {p: p.stat().st_mtime_ns for p in (log.parent / "root/profiles").iterdir()} == files


def test_a_refused_day_is_not_the_usual_until_it_is_repaired(log: Path) -> None:
    profiles(log).record(day(2), is_refused=True)
    assert rows(profiles(log).earlier(day(3), 14)) == [100]
    profiles(log).record(day(2), is_refused=False)
    assert rows(profiles(log).earlier(day(3), 14)) == [200, 100]
    profiles(log).record(day(2), is_refused=True)
    rewrite(log, 2, click_log(250, seed=2))
    assert rows(profiles(log).earlier(day(3), 14)) == [250, 100]


def test_a_day_that_was_written_again_counts_as_it_was_first(log: Path) -> None:
    profiles(log).earlier(day(3), 14)
    rewrite(log, 2, click_log(250, seed=2))
    assert rows(profiles(log).earlier(day(3), 14)) == [200, 100]
    assert profiles(log).get(day(2)).rows == 250


def test_other_columns_are_another_profile(log: Path) -> None:
    profiles(log).get(day(1))
    profiles(log, "tasks.cvr.label=watch_s").get(day(1))
    assert len(list((log.parent / "root/profiles").iterdir())) == 2


def rewrite(log: Path, number: int, table: pa.Table) -> None:
    pq.write_table(table, log / f"dt={day(number)}" / "part-00000.parquet")
