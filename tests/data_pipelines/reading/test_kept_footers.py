"""The footers of the last few files, within bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_pipelines.reading.kept_footers import KeptFooters
from marigold_rec.parquet.opening import ReadPlan, plan_reading
from tests.support.parquet import click_log, write_file


@pytest.fixture
def footer(tmp_path: Path) -> ReadPlan:
    write_file(tmp_path / "a.parquet", click_log(20))
    return plan_reading(str(tmp_path / "a.parquet"), ())


def test_the_file_used_longest_ago_goes_first(footer: ReadPlan):
    kept = KeptFooters(max_files=2)
    kept.add("a", footer)
    kept.add("b", footer)
    assert kept.get("a") is footer
    kept.add("c", footer)
    assert [kept.get(path) is footer for path in "abc"] == [True, False, True]


def test_many_bytes_are_not_kept(footer: ReadPlan):
    kept = KeptFooters(max_bytes=2 * footer.metadata.serialized_size)
    for path in "abc":
        kept.add(path, footer)
    assert [kept.get(path) is footer for path in "abc"] == [False, True, True]


def test_the_last_one_is_kept_whatever_its_size(footer: ReadPlan):
    kept = KeptFooters(max_bytes=1)
    kept.add("a", footer)
    assert kept.get("a") is footer
