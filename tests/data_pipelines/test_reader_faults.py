"""Files that break between the scan and the reading, and readers that are left alone."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.catalog import scan
from data_pipelines.partition import plan_epoch
from data_pipelines.reader import ParquetReader
from marigold_rec.errors import DataError
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
    path.write_bytes(data)


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
    order = plan_epoch((100,) * 4, seed=7, epoch=0, world_size=1, rank=0, shuffle_rows=100)
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
    with pytest.raises(DataError, match="its row groups hold"):
        list(reader.batches())


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
        list(reader_of(tmp_path).batches())


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
from tests.data_pipelines.test_reader_faults import reader_of
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
