"""The footers of the last few files, within bounds."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_pipelines.kept_footers import KeptFooters
from tests.support.parquet import click_log, write_file


@pytest.fixture
def footer(tmp_path: Path) -> pq.FileMetaData:
    write_file(tmp_path / "a.parquet", click_log(20))
    return pq.read_metadata(tmp_path / "a.parquet")


def test_the_file_used_longest_ago_goes_first(footer: pq.FileMetaData):
    kept = KeptFooters(max_files=2)
    kept.add("a", footer)
    kept.add("b", footer)
    assert kept.get("a") is footer
    kept.add("c", footer)
    assert [kept.get(path) is footer for path in "abc"] == [True, False, True]


def test_many_bytes_are_not_kept(footer: pq.FileMetaData):
    kept = KeptFooters(max_bytes=2 * footer.serialized_size)
    for path in "abc":
        kept.add(path, footer)
    assert [kept.get(path) is footer for path in "abc"] == [False, True, True]


def test_the_last_one_is_kept_whatever_its_size(footer: pq.FileMetaData):
    kept = KeptFooters(max_bytes=1)
    kept.add("a", footer)
    assert kept.get("a") is footer
