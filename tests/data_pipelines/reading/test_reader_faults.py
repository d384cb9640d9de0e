"""Files that break between the scan and the reading, and readers that are left alone."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.catalog.scan import scan
from data_pipelines.labels import limit as label_limit
from data_pipelines.order.rest import plan_rest
from data_pipelines.reading.reader import ParquetReader
from marigold_rec.batch import Cursor
from marigold_rec.errors import DataError
from tests.data_pipelines.fuzzing import REFUSED, damaged_file
from tests.support.parquet import click_log, log_config, write_file, write_log


def reader_of(folder: Path, **fields: Any) -> ParquetReader:
    config = log_config(**fields)
    return ParquetReader(scan(str(folder)), config, rank=0, world_size=1)


def reader_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("marigold-")]


def flip(path: Path, column: str, group: int) -> None:
    """Flips one bit in the middle of a column chunk's data."""
    metadata = pq.read_metadata(path)
    row_group = metadata.row_group(group)
    chunk = next(
        row_group.column(i)
        for i in range(row_group.num_columns)
        if row_group.column(i).path_in_schema == column
    )
    # Past the page header: the checksum covers the page, a damaged header fails in another way.
    at = chunk.data_page_offset + chunk.total_compressed_size - 2
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as bit rot leaves it


def plain_file(path: Path, rows: int = 400) -> None:
    """Without dictionaries and compression, so that a flipped bit is a changed value."""
    write_file(path, click_log(rows), 100, compression="none", use_dictionary=False)


@pytest.mark.parametrize("column", ["item", "click", "amount"])
def test_a_flipped_bit_is_found_and_its_place_named(tmp_path: Path, column: str):
    plain_file(tmp_path / "a.parquet")
    flip(tmp_path / "a.parquet", column, 2)
    with pytest.raises(DataError, match=r"a.parquet row group 2: cannot be read .*checksum"):
        list(reader_of(tmp_path).batches())


def test_without_checksums_a_flipped_bit_goes_unseen(tmp_path: Path):
    """Why verification is the default."""
    plain_file(tmp_path / "a.parquet")
    flip(tmp_path / "a.parquet", "amount", 2)
    assert len(list(reader_of(tmp_path, verify_checksums=False).batches())) == 50


def test_a_damaged_column_that_is_not_read_does_not_matter(tmp_path: Path):
    plain_file(tmp_path / "a.parquet")
    flip(tmp_path / "a.parquet", "row_id", 0)
    assert len(list(reader_of(tmp_path).batches())) == 50


def test_batches_before_the_damage_are_delivered(tmp_path: Path):
    plain_file(tmp_path / "a.parquet")
    reader = reader_of(tmp_path, shuffle_rows=100)
    order = plan_rest((100,) * 4, (), seed=7, epoch=0, world_size=1, rank=0, shuffle_rows=100)
    third_block = order.blocks[2]
    flip(tmp_path / "a.parquet", "item", third_block.pieces[0].group)
    taken = []
    with pytest.raises(DataError, match="cannot be read"):
        taken.extend(batch.num_rows for batch in reader.batches())
    assert taken == [8] * (third_block.first_row // 8)


def test_a_file_that_is_gone(tmp_path: Path):
    write_log(tmp_path, [20, 20])
    reader = reader_of(tmp_path)
    (tmp_path / "part-001.parquet").unlink()
    with pytest.raises(DataError, match=r"part-001.parquet row group 0: cannot be read \(FileNotF"):
        list(reader.batches())


def test_truncation_after_the_scan(tmp_path: Path):
    write_log(tmp_path, [40])
    reader = reader_of(tmp_path)
    path = tmp_path / "part-000.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"the file was replaced while .* it has [\d,]+ bytes, had"):
        list(reader.batches())


def test_a_file_replaced_by_one_of_the_same_size(tmp_path: Path):
    """The last line of defence when the sizes happen to agree: the row groups do not."""
    write_log(tmp_path, [40], row_group_rows=5)
    reader = reader_of(tmp_path)
    path = tmp_path / "part-000.parquet"
    size = path.stat().st_size
    # Fewer row groups make a smaller file, to be padded.
    write_file(path, click_log(40, seed=9), 20)
    pad(path, size - path.stat().st_size)
    assert path.stat().st_size == size
    with pytest.raises(DataError, match=r"was replaced .*: it has 2 row groups, had 8;"):
        list(reader.batches())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([7, 3], r"its row group 0 has 7 rows, had 5;"),
        ([5, 5], r"its row group 0 is not the one that was scanned;"),
    ],
)
def test_a_row_group_that_is_not_the_scanned_one(tmp_path: Path, rows: list[int], message: str):
    path = tmp_path / "a.parquet"
    write_groups(path, click_log(10), [5, 5], store_schema=True)
    reader = reader_of(tmp_path)
    size = path.stat().st_size
    write_groups(path, click_log(10, seed=4), rows, store_schema=False)
    pad(path, size - path.stat().st_size)
    with pytest.raises(DataError, match=message):
        list(reader.batches())


def write_groups(path: Path, table: pa.Table, rows: list[int], *, store_schema: bool) -> None:
    """Row groups of the given sizes; without Arrow's schema the footer is much smaller."""
    with pq.ParquetWriter(path, table.schema, store_schema=store_schema) as writer:
        for index, count in enumerate(rows):
            writer.write_table(table.slice(sum(rows[:index]), count))


def test_a_footer_is_parsed_once_while_its_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_log(tmp_path, [70, 70], row_group_rows=7)
    reader = reader_of(tmp_path)
    given: list[bool] = []
    real = pq.ParquetFile.__init__

    def counted(self: pq.ParquetFile, source: Any, **options: Any) -> None:
        given.append(options.get("metadata") is not None)
        real(self, source, **options)

    monkeypatch.setattr(pq.ParquetFile, "__init__", counted)
    assert len(list(reader.batches())) == 18
    assert given == ([False] + [True] * 10) * 2


def test_a_file_that_shrinks_when_its_footer_is_kept(tmp_path: Path):
    write_log(tmp_path, [400], row_group_rows=7)
    stream = reader_of(tmp_path).batches()
    next(stream)
    path = tmp_path / "part-000.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"the file was replaced while .* it has [\d,]+ bytes, had"):
        list(stream)


def pad(path: Path, count: int) -> None:
    """Between the data and the footer, which is found from the file's end."""
    data = path.read_bytes()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    path.write_bytes(data[:-footer] + bytes(count) + data[-footer:])


def test_bad_ids_name_column_value_and_source(tmp_path: Path):
    table = click_log(40)
    item = table.schema.get_field_index("item")
    values = [*range(39), 77]
    write_file(tmp_path / "a.parquet", table.set_column(item, "item", pa.array(values)), 20)
    message = (
        r"features.item: 1 of 40 ids in column 'item' are outside \[0, 50\), the first is 77.*"
    )
    with pytest.raises(DataError, match=message + r"a.parquet row group 0, .* row group 1"):
        list(reader_of(tmp_path, shuffle_rows=40).batches())


def test_invalid_labels_are_counted_or_refused_with_their_source(tmp_path: Path):
    table = click_log(200)
    click = table.schema.get_field_index("click")
    clicks = [3, *table.column("click").to_pylist()[1:]]
    write_file(tmp_path / "a.parquet", table.set_column(click, "click", pa.array(clicks)))
    reader = reader_of(tmp_path)
    first = next(reader.batches())
    assert reader.counts["invalid/ctr"] == 1
    assert first.observed_BT[0, 0] == 0
    with pytest.raises(DataError, match=r"tasks.ctr: .* 1 of 200 .*; found in .*a.parquet row gro"):
        list(reader_of(tmp_path, max_invalid_labels=0.001).batches())


def write_clicks(folder: Path, num_rows: int, bad: slice) -> None:
    """One row group of 20 rows after the other; the clicks in `bad` are 3."""
    table = click_log(num_rows)
    clicks = np.array([0, 1] * (num_rows // 2))
    clicks[bad] = 3
    index = table.schema.get_field_index("click")
    table = table.set_column(index, "click", pa.array(clicks))
    write_file(folder / "a.parquet", table, 20)


def taken_before_refusal(reader: ParquetReader, message: str) -> int:
    stream = reader.batches()
    taken: list[int] = []
    with pytest.raises(DataError, match=message):
        taken.extend(batch.num_rows for batch in stream)
    # It has ended.
    assert list(stream) == []
    assert reader_threads() == []
    return sum(taken)


@pytest.mark.parametrize("threads", [1, 3])
def test_labels_are_judged_at_the_same_batch_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
):
    """A bad block among good ones passes; more are refused as soon as enough labels are seen."""
    monkeypatch.setattr(label_limit, "LABELS_TO_JUDGE", 100)
    fields = {"shuffle_rows": 20, "reader_threads": threads, "batch_size": 10}
    write_clicks(tmp_path, 400, slice(0, 20))
    reader = reader_of(tmp_path, max_invalid_labels=0.2, **fields)
    assert len(list(reader.batches())) == 40
    assert reader.counts["invalid/ctr"] == 20
    message = r"20 of 100 are not \(20.00%\), e.g. 3; .*; found in \S*a.parquet row group 0$"
    assert (
        taken_before_refusal(reader_of(tmp_path, max_invalid_labels=0.19, **fields), message) == 80
    )


def test_few_labels_are_judged_when_all_of_an_epoch_are_counted(tmp_path: Path):
    """By default: 200 rows are never enough to be judged before. At the first of the last block."""
    write_clicks(tmp_path, 200, slice(100, 103))
    message = r"3 of 200 are not \(1.50%\), e.g. 3; .*; found in \S*a.parquet row group 5$"
    reader = reader_of(tmp_path, shuffle_rows=20, batch_size=10)
    assert taken_before_refusal(reader, message) == 180


def test_a_resume_is_not_judged_by_the_few_labels_that_are_left(tmp_path: Path):
    write_clicks(tmp_path, 400, slice(398, 400))
    fields = {"shuffle_rows": 20, "batch_size": 10}
    assert len(list(reader_of(tmp_path, **fields).batches())) == 40
    resumed = reader_of(tmp_path, **fields)
    assert len(list(resumed.batches(Cursor(0, 380)))) == 2
    assert resumed.counts["invalid/ctr"] == 2
    # The next epoch is whole, and the counts go on.
    assert len(list(resumed.batches(Cursor(1, 0)))) == 40
    assert resumed.counts["invalid/ctr"] == 4


def test_the_counts_of_all_epochs_are_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also those of evaluation, which reads epoch 0 again and again."""
    monkeypatch.setattr(label_limit, "LABELS_TO_JUDGE", 500)
    write_clicks(tmp_path, 400, slice(0, 80))
    reader = reader_of(tmp_path, shuffle_rows=20, max_invalid_labels=0.2)
    assert len(list(reader.batches())) == 50
    with pytest.raises(DataError, match="160 of 500 are not"):
        list(reader.batches())


def test_a_bug_in_a_thread_keeps_its_type_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_log(tmp_path, [40])
    reader = reader_of(tmp_path)

    def broken(table: pa.Table) -> None:
        raise ZeroDivisionError("our bug")

    monkeypatch.setattr(reader, "_transforms", broken)
    with pytest.raises(ZeroDivisionError, match="our bug") as caught:
        list(reader.batches())
    assert "part-000.parquet row group 0" in caught.value.__notes__[0]
    assert reader_threads() == []


def test_an_abandoned_stream_leaves_no_threads(tmp_path: Path):
    write_log(tmp_path, [200])
    reader = reader_of(tmp_path, reader_threads=3, shuffle_rows=20)
    stream = reader.batches()
    next(stream)
    assert reader_threads()
    del stream
    gc.collect()
    assert reader_threads() == []
    stream = reader.batches()
    next(stream)
    stream.close()
    assert reader_threads() == []


def test_a_finished_stream_leaves_no_threads(tmp_path: Path):
    write_log(tmp_path, [50])
    stream = reader_of(tmp_path).batches()
    assert len(list(stream)) == 7
    stream.close()
    assert reader_threads() == []


@pytest.mark.slow  # for its own import of torch and torchrec
def test_a_process_exits_in_the_middle_of_an_epoch(tmp_path: Path):
    write_log(tmp_path, [400])
    program = f"""
from pathlib import Path
from tests.data_pipelines.reading.test_reader_faults import reader_of
held = reader_of(Path({str(tmp_path)!r}), reader_threads=2, shuffle_rows=30).batches()
next(held)
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout == "done\n"


def test_a_row_group_in_many_pieces_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_log(tmp_path, [90, 90], row_group_rows=90)
    reader = reader_of(tmp_path, shuffle_rows=10)
    decoded: list[int] = []
    real = pq.ParquetFile.read_row_group

    def counted(self: pq.ParquetFile, group: int, **options: Any) -> pa.Table:
        decoded.append(group)
        return real(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    assert len(list(reader.batches())) == 23
    assert len(decoded) == 2


def test_a_page_that_hides_the_end_of_a_list_is_found(tmp_path: Path) -> None:
    """One bit of a page's header, which no checksum covers; seen in 10,000 damaged files."""
    found = damaged_file(504_349, tmp_path / "part.parquet")
    assert found == REFUSED
