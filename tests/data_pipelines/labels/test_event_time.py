"""Evaluation rows that are older than training rows are noticed without reading a row."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.catalog.catalog import Catalog
from data_pipelines.preflight.split import look_at_split, split_problems
from marigold_rec.config import Config
from marigold_rec.config.data import SplitConfig
from marigold_rec.errors import DataError
from tests.support.parquet import click_log, log_config, write_file


def write(folder: Path, times: list[Any], kind: pa.DataType, **options: Any) -> None:
    """Two files, each of a few row groups."""
    half = len(times) // 2
    for index, part in enumerate((times[:half], times[half:])):
        table = click_log(len(part), seed=index).append_column("at", pa.array(part, kind))
        write_file(folder / f"part-{index}.parquet", table, 3, **options)


def found(tmp_path: Path, **data: Any) -> tuple[list[str], list[str]]:
    config = log_config(time="at", **data)
    return split_problems(look(config, tmp_path / "train"), look(config, tmp_path / "eval"), config)


def look(config: Config, folder: Path) -> Catalog:
    catalog, problems = look_at_split("train", config, SplitConfig(), str(folder))
    assert problems == []
    return catalog


def test_evaluation_after_training_passes(tmp_path: Path):
    write(tmp_path / "train", [*range(9, -1, -1), None, None], pa.int64())
    write(tmp_path / "eval", list(range(10, 20)), pa.int64())
    assert found(tmp_path) == ([], [])


def test_an_overlap_is_refused_with_both_values_and_files(tmp_path: Path):
    write(tmp_path / "train", [1, 2, 3, 10, 2, 3], pa.int64())
    write(tmp_path / "eval", [30, 20, 20, 10, 20, 20], pa.int64())
    errors, warnings = found(tmp_path)
    assert warnings == []
    assert errors == [
        "data.time: evaluation must come after training, but column 'at' runs to 10 in the "
        f"training file {tmp_path}/train/part-1.parquet and begins at 10 in the evaluation file "
        f"{tmp_path}/eval/part-1.parquet; mend the splits, or set data.allow_time_overlap"
    ]
    errors, warnings = found(tmp_path, allow_time_overlap=True)
    assert errors == []
    assert len(warnings) == 1


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_timestamps_are_told_as_dates(tmp_path: Path, unit: str):
    kind = pa.timestamp(unit, "UTC")
    day = datetime.datetime(2024, 1, 31, 23, tzinfo=datetime.UTC)
    write(tmp_path / "train", [day] * 4, kind)
    write(tmp_path / "eval", [day - datetime.timedelta(hours=3)] * 4, kind)
    assert "runs to 2024-01-31 23:00:00" in found(tmp_path)[0][0]
    assert "begins at 2024-01-31 20:00:00" in found(tmp_path)[0][0]


def test_files_without_statistics_are_warned_of(tmp_path: Path):
    write(tmp_path / "train", [1, 2, 3, 4], pa.int64(), write_statistics=False)
    write(tmp_path / "eval", [1, 2, 3, 4], pa.int64())
    assert found(tmp_path) == (
        [],
        [
            "data.time: 2 of 4 files lack statistics of column 'at', e.g. "
            f"{tmp_path}/train/part-0.parquet: whether their rows overlap is not known"
        ],
    )


def test_what_statistics_there_are_is_held_against_each_other(tmp_path: Path):
    write(tmp_path / "train", [1, 2, 30, 4], pa.int64())
    write(tmp_path / "eval", [9, 9, 9, 9], pa.int64())
    table = pq.read_table(tmp_path / "eval/part-1.parquet")
    write_file(tmp_path / "eval/part-1.parquet", table, write_statistics=False)
    errors, warnings = found(tmp_path)
    assert "runs to 30 in" in errors[0]
    assert warnings[0].startswith("data.time: 1 of 4 files lack statistics")


def test_times_of_two_types_are_not_compared(tmp_path: Path):
    write(tmp_path / "train", [1, 2, 3, 4], pa.int64())
    write(tmp_path / "eval", [9, 9, 9, 9], pa.timestamp("ms"))
    assert "column 'at' is timestamp[ms], expected int64" in found(tmp_path)[0][0]
    write(tmp_path / "train", [1, 2, 3, 4], pa.timestamp("ms"))
    table = click_log(3).append_column("at", pa.array([1, 2, 3]))
    write_file(tmp_path / "train/part-2.parquet", table)
    with pytest.raises(DataError, match="'at' is int64, expected timestamp"):
        found(tmp_path)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("tags", r"data.time: column 'tags' is list<.*>; it must be an integer or a timestamp"),
        ("big", "data.time: column 'big' is uint64; it must be"),
        ("clock", "data.time: there is no column 'clock'"),
    ],
)
def test_a_column_that_is_no_time(tmp_path: Path, column: str, message: str):
    write_file(tmp_path / "a.parquet", click_log(9))
    config = log_config(time=column)
    _, problems = look_at_split("train", config, SplitConfig(), str(tmp_path))
    assert len(problems) == 1
    assert re.search(message, problems[0])
