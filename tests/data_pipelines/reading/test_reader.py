"""The reader equals the row-by-row oracle; batches are complete, equal in number, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.catalog.scan import scan
from data_pipelines.preflight.columns import needed_columns
from data_pipelines.reading.reader import ParquetReader
from marigold_rec.batch import Batch, Cursor
from marigold_rec.errors import DataError
from tests.support.feature_oracle import Row, batch_rows, expected_rows
from tests.support.parquet import FEATURES, TASKS, log_config, write_log

FILES = (23, 0, 61, 1, 40)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, pa.Table]:
    folder = tmp_path_factory.mktemp("log")
    return str(folder), write_log(folder, FILES)


def reader_of(path: str, *, rank: int = 0, world: int = 1, **data: Any) -> ParquetReader:
    config = log_config(**data)
    catalog = scan(path, columns=needed_columns(config))
    return ParquetReader(
        catalog, config, rank=rank, world_size=world, extra_columns=("row_id",), allow_short=True
    )


def ids_of(batch: Batch) -> list[int]:
    return batch.columns["row_id"].to_pylist()


def assert_same(a: Batch, b: Batch) -> None:
    """Bit for bit."""
    assert a.sparse.keys() == b.sparse.keys()
    for x, y in (
        (a.sparse.values(), b.sparse.values()),
        (a.sparse.lengths(), b.sparse.lengths()),
        (a.dense_BD, b.dense_BD),
        (a.labels_BT, b.labels_BT),
        (a.observed_BT, b.observed_BT),
        (a.weights_B, b.weights_B),
    ):
        assert x.dtype == y.dtype
        assert torch.equal(x, y)
    assert (a.num_rows, a.cursor, a.sources) == (b.num_rows, b.cursor, b.sources)
    assert ids_of(a) == ids_of(b)


@pytest.mark.parametrize("shuffle_rows", [0, 30, 10_000])
@pytest.mark.parametrize("threads", [1, 3])
def test_values_equal_the_oracle(log: tuple[str, pa.Table], shuffle_rows: int, threads: int):
    path, table = log
    config = log_config()
    reader = reader_of(path, shuffle_rows=shuffle_rows, reader_threads=threads)
    found: dict[int, Row] = {}
    order: list[int] = []
    for batch in reader.batches():
        order += ids_of(batch)
        found.update(zip(ids_of(batch), batch_rows(batch), strict=True))
    assert len(order) == len(found) == table.num_rows
    assert (order == sorted(order)) == (shuffle_rows == 0)
    for row_id, row in enumerate(expected_rows(table, config)):
        assert found[row_id] == row


def test_batches_have_one_shape(log: tuple[str, pa.Table]):
    reader = reader_of(log[0], batch_size=9)
    batches = list(reader.batches())
    assert len(batches) == reader.steps_per_epoch == 14
    assert reader.num_rows == 125
    for batch in batches:
        assert batch.sparse.stride() == 9
        assert batch.sparse.values().dtype == torch.int64
        assert batch.sparse.lengths().dtype == torch.int32
        assert batch.sparse.keys() == [
            f["name"] for f in FEATURES if f["kind"] not in ("dense", "overlap")
        ]
        # What the exchange of ids uses is given, and right.
        given_sums = batch.sparse.length_per_key()
        sums = batch.sparse.lengths().view(len(given_sums), 9).sum(1)
        assert given_sums == sums.tolist()
        assert sum(given_sums) == len(batch.sparse.values())
        assert batch.dense_BD.shape == (9, 5)
        assert batch.dense_BD.dtype == torch.float32
        assert batch.labels_BT.shape == batch.observed_BT.shape == (9, len(TASKS))
        assert batch.weights_B.shape == (9,)
        assert batch.dense_BD.is_contiguous()
        assert batch.labels_BT.is_contiguous()
    assert [batch.num_rows for batch in batches] == [9] * 13 + [8]
    assert batches[-1].cursor == Cursor(0, 125)
    assert ".parquet row group " in batches[1].sources[0]


@settings(max_examples=15)
@given(
    world=st.integers(1, 17),
    batch_size=st.integers(1, 20),
    shuffle_rows=st.sampled_from([0, 5, 40]),
)
def test_ranks_read_every_row_once_in_equal_steps(
    log: tuple[str, pa.Table], world: int, batch_size: int, shuffle_rows: int
):
    rows: list[int] = []
    steps: set[int] = set()
    for rank in range(world):
        reader = reader_of(
            log[0], rank=rank, world=world, batch_size=batch_size, shuffle_rows=shuffle_rows
        )
        batches = list(reader.batches())
        assert len(batches) == reader.steps_per_epoch
        mine = [row for batch in batches for row in ids_of(batch)]
        assert len(mine) == reader.num_rows
        assert [batch.num_rows for batch in batches] == [len(ids_of(batch)) for batch in batches]
        rows += mine
        steps.add(len(batches))
    assert sorted(rows) == list(range(log[1].num_rows))
    assert len(steps) == 1


@pytest.mark.parametrize("shuffle_rows", [0, 30])
@pytest.mark.parametrize(("world", "batch_size"), [(1, 7), (2, 31)])
def test_a_resume_from_every_cursor_continues_bit_for_bit(
    log: tuple[str, pa.Table], shuffle_rows: int, world: int, batch_size: int
):
    # 2 ranks x 31: rank 0 ends with a batch of nothing but filling (62 rows to the other's 63).
    for rank in range(world):
        reader = reader_of(
            log[0], rank=rank, world=world, batch_size=batch_size, shuffle_rows=shuffle_rows
        )
        straight = list(reader.batches(Cursor(2, 0)))
        for taken in range(len(straight) + 1):
            cursor = straight[taken - 1].cursor if taken else Cursor(2, 0)
            assert cursor.epoch == 2
            again = list(reader.batches(cursor))
            assert len(again) == len(straight) - taken
            for a, b in zip(again, straight[taken:], strict=True):
                assert_same(a, b)


def test_filling_alone_keeps_the_ranks_together(log: tuple[str, pa.Table]):
    """125 rows on 2 ranks: 62 and 63; in batches of 62, rank 0 has nothing left for the second."""
    readers = [reader_of(log[0], rank=rank, world=2, batch_size=62) for rank in (0, 1)]
    batches = [list(reader.batches()) for reader in readers]
    assert [[b.num_rows for b in mine] for mine in batches] == [[62, 0], [62, 1]]
    assert ids_of(batches[0][1]) == []
    assert batches[0][1].columns["row_id"].type == pa.int64()
    assert len(batches[0][1].sparse.values()) == 0
    assert batches[0][1].sources == ()
    for step in (0, 1):
        left = [len(list(r.batches(b[step].cursor))) for r, b in zip(readers, batches, strict=True)]
        assert left == [1 - step, 1 - step]


def test_a_start_between_batches_loses_no_row(log: tuple[str, pa.Table]):
    reader = reader_of(log[0], batch_size=10)
    rows = [row for batch in reader.batches(Cursor(0, 96)) for row in ids_of(batch)]
    assert rows == list(range(96, 125))


def test_a_cursor_beyond_the_data_is_refused(log: tuple[str, pa.Table]):
    reader = reader_of(log[0], batch_size=10)
    with pytest.raises(DataError, match="at row 131 of rank 0's part of the data, which has only"):
        reader.batches(Cursor(0, 131))


def test_the_same_order_each_time_and_another_each_epoch(log: tuple[str, pa.Table]):
    def order(epoch: int, threads: int = 1, seed: int = 7) -> list[int]:
        config = log_config(shuffle_rows=40, reader_threads=threads)
        reader = ParquetReader(
            scan(log[0]), config, rank=0, world_size=1, extra_columns=["row_id"], seed=seed
        )
        return [row for batch in reader.batches(Cursor(epoch, 0)) for row in ids_of(batch)]

    assert order(0) == order(0) == order(0, threads=4)
    assert len({tuple(order(0)), tuple(order(1)), tuple(order(0, seed=8))}) == 3


def test_arguments_go_before_the_config(log: tuple[str, pa.Table]):
    config = log_config(batch_size=8, shuffle_rows=50)
    reader = ParquetReader(
        scan(log[0]), config, rank=0, world_size=1, batch_size=5, shuffle_rows=0,
        extra_columns=["row_id", "name"],
    )  # fmt: skip
    batch = next(reader.batches())
    assert reader.batch_size == 5
    assert ids_of(batch) == [0, 1, 2, 3, 4]
    assert batch.columns["name"].to_pylist() == log[1].column("name").to_pylist()[:5]


def test_counts_are_those_of_the_transforms_and_labels(log: tuple[str, pa.Table]):
    table = log[1]
    reader = reader_of(log[0], shuffle_rows=30)
    assert reader.counts == {}
    batches = list(reader.batches())
    assert len(batches) == reader.steps_per_epoch
    shelf = [value for value in table.column("shelf").to_pylist() if value is not None]
    assert reader.counts["out_of_range/shelf"] == sum(not 0 <= v < 10 for v in shelf)
    assert reader.counts["missing/user"] == table.column("user").null_count
    assert "invalid/watch" not in reader.counts


def test_too_few_rows_for_one_step(log: tuple[str, pa.Table]):
    config = log_config(batch_size=63)
    with pytest.raises(DataError, match="125 rows are fewer than one step takes: 2 ranks x"):
        ParquetReader(scan(log[0]), config, rank=0, world_size=2)
    short = ParquetReader(scan(log[0]), config, rank=1, world_size=2, allow_short=True)
    assert [batch.num_rows for batch in short.batches()] == [63]


def test_no_rows_at_all_are_no_steps(tmp_path: Path):
    write_log(tmp_path, [0])
    reader = reader_of(str(tmp_path))
    assert reader.steps_per_epoch == 0
    assert list(reader.batches()) == []


def test_an_unknown_extra_column_is_refused(log: tuple[str, pa.Table]):
    with pytest.raises(DataError, match=r"extra column 'rowid' is not in .*did you mean 'row_id'"):
        ParquetReader(scan(log[0]), log_config(), rank=0, world_size=1, extra_columns=["rowid"])


def test_any_fsspec_url(log: tuple[str, pa.Table]):
    files = fsspec.filesystem("memory")
    for path in sorted(Path(log[0]).iterdir()):
        files.pipe(f"/reader/{path.name}", path.read_bytes())
    try:
        local, remote = reader_of(log[0]), reader_of("memory://reader")
        for a, b in zip(local.batches(), remote.batches(), strict=True):
            assert torch.equal(a.sparse.values(), b.sparse.values())
            assert ids_of(a) == ids_of(b)
    finally:
        files.rm("/reader", recursive=True)
