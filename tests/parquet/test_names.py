"""What names say: hidden or data, the order of numbers, days and partitions."""

from __future__ import annotations

import datetime

import pytest

from marigold_rec.parquet.names import day_folder, is_hidden, natural_order, partition_values

NEW_YEAR = datetime.date(2024, 1, 1)


@pytest.mark.parametrize("name", ["_SUCCESS", "_temporary", "_delta_log", ".part.crc", ".a=b"])
def test_hidden(name: str):
    assert is_hidden(name)


@pytest.mark.parametrize("name", ["_region=eu", "part_0.parquet", "region=_eu", "a.b"])
def test_data(name: str):
    assert not is_hidden(name)


def test_numbers_are_ordered_as_numbers():
    names = ["hour=10/a", "hour=2/a", "hour=02/b", "part-9.parquet", "part-10.parquet", "hour=b"]
    assert sorted(names, key=natural_order) == [
        "hour=2/a",
        "hour=02/b",
        "hour=10/a",
        "hour=b",
        "part-9.parquet",
        "part-10.parquet",
    ]


@pytest.mark.parametrize(
    "value",
    [
        "2024-01-01",
        "20240101",
        "2024-01-01 00%3A00%3A00",
        "2024-01-01%2000%3A00%3A00.0",
        "2024-01-01T00:00:00Z",
        "2024-01-01 06:30",
        "2024-01-01 00:00:00.000000+00:00",
    ],
)
def test_a_day(value: str):
    assert day_folder(f"/log/dt={value}/hour=2/part.parquet") == (NEW_YEAR, f"/log/dt={value}")


@pytest.mark.parametrize(
    "value", ["2024-13-01", "2024-1-1", "2024-01-01-old", "2024-0101", "x", "", "20240101 "]
)
def test_no_day(value: str):
    assert day_folder(f"/log/dt={value}/part.parquet") is None


def test_the_deepest_day_counts_and_a_file_is_no_folder():
    found = day_folder("/dt=2023-01-01/dt=2024-01-01/x.parquet")
    assert found == (NEW_YEAR, "/dt=2023-01-01/dt=2024-01-01")
    assert day_folder("/log/dt=2024-01-01") is None


def test_partitions():
    path = "/log/dt=2024-01-01 00%3A00/a%20b=c%2Fd/none=__HIVE_DEFAULT_PARTITION__/e=/x=1=2/f=g"
    assert partition_values(path) == {
        "dt": "2024-01-01 00:00",
        "a b": "c/d",
        "none": None,
        "e": None,
        "x": "1=2",
    }
