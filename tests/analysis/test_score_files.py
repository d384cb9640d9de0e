"""Score files: rows in the order of the ranks, null where not observed, no part without close."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from marigold_rec.analysis import score_files
from marigold_rec.analysis.score_files import ScoreFiles, ScoreWriter

_TASKS = ("ctr", "watch_time")
_COLUMNS = {"user": pa.string(), "day": pa.date32()}


def _writer(folder: Path, rank: int = 0, world_size: int = 1) -> ScoreWriter:
    return ScoreWriter(folder, rank=rank, world_size=world_size, tasks=_TASKS, columns=_COLUMNS)


def _add(writer: ScoreWriter, first: int, num_rows: int) -> None:
    """Rows first, first + 1, ...; every third watch time is not observed."""
    row = np.arange(first, first + num_rows)
    observed = np.stack([np.ones(num_rows, bool), row % 3 > 0], axis=1)
    writer.add(
        np.stack([row / 1000, row], axis=1).astype(np.float32),
        np.stack([row % 2, 2 * row], axis=1).astype(np.float32),
        observed,
        (row % 5).astype(np.float32),
        {
            "day": pa.array(row.tolist(), pa.int32()).cast(pa.date32()),
            "user": pa.array([None if r % 7 == 0 else f"u{r}" for r in row], pa.string()),
        },
    )


@pytest.mark.parametrize("group_rows", [1, 4, 1 << 18])
def test_rows_stand_in_the_order_of_the_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_rows: int
) -> None:
    monkeypatch.setattr(score_files, "_GROUP_ROWS", group_rows)
    first = 0
    sizes = [(3, 2, 4), (), (0, 5), (1,)] * 3  # twelve ranks: part 10 must not come before part 2
    for rank, batches in enumerate(sizes):
        writer = _writer(tmp_path, rank, len(sizes))
        for num_rows in batches:
            _add(writer, first, num_rows)
            first += num_rows
        writer.close()
    files = ScoreFiles(tmp_path)
    row = np.arange(first)
    assert files.num_rows == first
    np.testing.assert_array_equal(files.score("ctr"), (row / 1000).astype(np.float32))
    np.testing.assert_array_equal(files.score("watch_time"), row.astype(np.float32))
    np.testing.assert_array_equal(files.label("ctr"), row % 2)
    np.testing.assert_array_equal(files.label("watch_time"), np.where(row % 3 > 0, 2 * row, np.nan))
    np.testing.assert_array_equal(files.column("weight").to_numpy(), row % 5)
    users = files.column("column.user").to_pylist()
    assert users == [None if r % 7 == 0 else f"u{r}" for r in row]
    assert files.column("column.day").type == pa.date32()
    assert files.score("ctr").dtype == files.label("ctr").dtype == np.float32


def test_large_row_groups_are_not_made_of_small_batches(tmp_path: Path) -> None:
    writer = _writer(tmp_path)
    for first in range(0, 50, 5):
        _add(writer, first, 5)
    writer.close()
    [part] = tmp_path.iterdir()
    assert pq.read_metadata(part).num_row_groups == 1


def test_no_rows(tmp_path: Path) -> None:
    _writer(tmp_path).close()
    files = ScoreFiles(tmp_path)
    assert files.num_rows == 0
    assert len(files.score("ctr")) == len(files.label("ctr")) == 0
    assert files.column("column.user").to_pylist() == []


def test_a_part_appears_when_it_is_whole(tmp_path: Path) -> None:
    writer = _writer(tmp_path)
    _add(writer, 0, 5)
    with pytest.raises(FileNotFoundError, match="parts are missing"):
        ScoreFiles(tmp_path)
    writer.close()
    assert ScoreFiles(tmp_path).num_rows == 5


@pytest.mark.parametrize("ranks", [(), (1,), (0,), (0, 2)])
def test_missing_parts_are_refused(tmp_path: Path, ranks: tuple[int, ...]) -> None:
    for rank in ranks:
        _writer(tmp_path, rank, 3).close()
    with pytest.raises(FileNotFoundError, match="parts are missing; found"):
        ScoreFiles(tmp_path)


def test_parts_of_two_evaluations_are_refused(tmp_path: Path) -> None:
    _writer(tmp_path, 0, 2).close()
    _writer(tmp_path, 1, 3).close()
    with pytest.raises(FileNotFoundError, match="part-00000-of-00002"):
        ScoreFiles(tmp_path)
