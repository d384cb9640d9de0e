"""The reader after a change of the number of ranks: the rows that are left, resumable as ever."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.reading.reader import ParquetReader
from marigold_rec.batch import Batch, Cursor, carried_on
from tests.data_pipelines.reading.test_reader import assert_same, ids_of, reader_of
from tests.support.feature_oracle import batch_rows, expected_rows
from tests.support.parquet import log_config, write_log

FILES = (23, 0, 61, 1, 40)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, pa.Table]:
    folder = tmp_path_factory.mktemp("log")
    return str(folder), write_log(folder, FILES)


def readers_of(path: str, world: int, batch_size: int, shuffle_rows: int) -> list[ParquetReader]:
    return [
        reader_of(path, rank=rank, world=world, batch_size=batch_size, shuffle_rows=shuffle_rows)
        for rank in range(world)
    ]


@settings(max_examples=10)
@given(
    chain=st.lists(
        st.tuples(st.integers(1, 5), st.integers(1, 20), st.floats(0, 1)), min_size=2, max_size=3
    ),
    shuffle_rows=st.sampled_from([0, 5, 40]),
)
def test_every_row_is_read_once_in_equal_steps(
    log: tuple[str, pa.Table], chain: list[tuple[int, int, float]], shuffle_rows: int
):
    expected = expected_rows(log[1], log_config())
    start, rows = Cursor(3, 0), []
    for number, (world, batch_size, share) in enumerate(chain):
        readers = readers_of(log[0], world, batch_size, shuffle_rows)
        count = readers[0].steps_left(start)
        if number < len(chain) - 1:
            count = int(count * share)
        cursors = [start] * world
        for rank, reader in enumerate(readers):
            assert reader.steps_left(start) == readers[0].steps_left(start)
            batches = list(reader.batches(start))
            assert len(batches) == reader.steps_left(start)
            for batch in batches[:count]:
                rows += ids_of(batch)
                for row_id, row in zip(ids_of(batch), batch_rows(batch), strict=True):
                    assert row == expected[row_id]
                cursors[rank] = batch.cursor
        left = {r.steps_left(c) for r, c in zip(readers, cursors, strict=True)}
        assert left == {readers[0].steps_left(start) - count}
        start = carried_on(cursors)
    assert sorted(rows) == list(range(log[1].num_rows))


@pytest.mark.parametrize("shuffle_rows", [0, 30])
def test_a_resume_within_a_leg_continues_bit_for_bit(log: tuple[str, pa.Table], shuffle_rows: int):
    def taken(world: int, start: Cursor, count: int) -> list[list[Batch]]:
        readers = readers_of(log[0], world, 8, shuffle_rows)
        return [list(reader.batches(start))[:count] for reader in readers]

    first = taken(2, Cursor(1, 0), 3)
    second = taken(1, carried_on([batches[-1].cursor for batches in first]), 2)
    start = carried_on([batches[-1].cursor for batches in second])
    assert len(start.legs) == 2
    for reader, straight in zip(
        readers_of(log[0], 3, 8, shuffle_rows), taken(3, start, 99), strict=True
    ):
        assert len(straight) == reader.steps_left(start) == 3
        for number, batch in enumerate(straight):
            again = list(reader.batches(batch.cursor))
            assert len(again) == len(straight) - number - 1 == reader.steps_left(batch.cursor)
            for a, b in zip(again, straight[number + 1 :], strict=True):
                assert_same(a, b)
