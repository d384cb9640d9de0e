"""Small files that would take gigabytes, and encrypted ones, are refused by every reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.catalog.scan import scan
from data_pipelines.id_counts.occurrences import count_ids
from data_pipelines.order.partition import Piece
from data_pipelines.profile.split import profile_split
from data_pipelines.reading.reader import ParquetReader
from data_pipelines.reading.row_groups import RowGroups
from data_pipelines.validate.split import validate_split
from marigold_rec.config.data import SplitConfig
from marigold_rec.errors import DataError
from marigold_rec.parquet.column_chunks import column_chunks
from marigold_rec.parquet.limits import size_problems
from tests.parquet.bombs import encrypted, list_bomb, row_bomb, text_bomb, text_list_bomb
from tests.support.parquet import click_log, log_config, write_file

ROWS = 200
BOMBS = {"friends": list_bomb, "name": text_bomb, "tags": text_list_bomb}
TOO_LARGE = r"column '{}.*MiB in memory.*smaller row groups"


@pytest.fixture(params=BOMBS)
def bomb(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Column, and path of the file."""
    column: str = request.param
    path = BOMBS[column](tmp_path / "log/part-0.parquet", click_log(ROWS), column)
    assert path.stat().st_size < 200_000
    return column, str(path)


def in_training(path: str, column: str) -> None:
    config = log_config()
    reader = ParquetReader(scan(path), config, rank=0, world_size=1)
    next(reader.batches())


def in_profile(path: str, column: str) -> None:
    profile_split(log_config(), path)


def in_validation(path: str, column: str) -> None:
    report, _ = validate_split(
        log_config(), SplitConfig(path=path), all_columns=False, progress=lambda done, of: None
    )
    raise DataError(report.problems)


def in_occurrences(path: str, column: str) -> None:
    count_ids(scan(path), column, pa.array(["a"]))


@pytest.mark.parametrize("reading", [in_training, in_profile, in_validation])
def test_a_bomb_is_refused(bomb: tuple[str, str], reading: Callable[[str, str], None]):
    column, path = bomb
    before = pa.total_allocated_bytes()
    pa.default_memory_pool().release_unused()
    with pytest.raises(DataError, match=TOO_LARGE.format(column)) as caught:
        reading(path, column)
    assert path in str(caught.value)
    assert pa.total_allocated_bytes() - before < 64 * 1024**2


def test_a_bomb_is_refused_where_ids_are_counted(tmp_path: Path):
    path = text_bomb(tmp_path / "a.parquet", click_log(ROWS), "name")
    with pytest.raises(DataError, match=TOO_LARGE.format("name")):
        in_occurrences(str(path), "name")


def test_the_scan_sees_what_it_looks_at(tmp_path: Path):
    path = list_bomb(tmp_path / "a.parquet", click_log(ROWS), "friends")
    with pytest.raises(DataError, match=TOO_LARGE.format("friends")):
        scan(str(path), None, ("friends",))
    # A column that nobody reads does no harm.
    assert scan(str(path), None, ("user",)).num_rows == ROWS


def test_rows_alone(tmp_path: Path):
    with pytest.raises(DataError, match=r"17,825,792 rows in a file of .* smaller row groups"):
        scan(str(row_bomb(tmp_path / "a.parquet")))


def test_what_real_logs_hold_is_read(tmp_path: Path):
    """Many equal values, long texts, large dictionaries: all below the limits, all read right."""
    rows = 100_000
    table = pa.table({
        "zero": pa.array(np.zeros(rows, np.int64)),
        "text": pa.array([f"text {n % 50_000:060}" for n in range(rows)]),
        "few": pa.array([["a", "b" * 2000][n % 2] for n in range(rows)]).dictionary_encode(),
        "lists": pa.array([[f"{n % 977}"] * (n % 3) for n in range(rows)]),
    })  # fmt: skip
    write_file(tmp_path / "a.parquet", table, rows)
    catalog = scan(str(tmp_path / "a.parquet"))
    found = RowGroups(catalog, table.column_names, verify_checksums=True, keep=1)
    assert catalog.storage.plan_reading(str(tmp_path / "a.parquet"), ("few", "text")).texts.paths
    read = found.read(Piece(0, 0, rows))
    assert read.schema.field("few").type == pa.string()
    for name in table.column_names:
        assert read.column(name).to_pylist() == table.column(name).to_pylist()


def test_a_footer_that_lies_about_its_bytes(tmp_path: Path):
    """A chunk said to take all bytes of the disk is allowed no more than the file's."""
    path = list_bomb(tmp_path / "a.parquet", click_log(ROWS), "friends")
    data, metadata = path.read_bytes(), pq.read_metadata(path)
    groups = column_chunks(lambda at, n: data[at : at + n], len(data), metadata)
    groups = [[replace(chunk, size=1 << 60) for chunk in group] for group in groups]
    assert size_problems(groups, metadata, len(data), {"friends"})


def test_a_footer_that_lies_about_its_values(tmp_path: Path):
    """The list goes on for as long as its pages do: the decoder does not ask the footer."""
    path = list_bomb(tmp_path / "a.parquet", click_log(ROWS), "friends")
    data = bytearray(path.read_bytes())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    values = varint((17 << 20) + ROWS - 1)
    at = data.index(values, footer)
    data[at : at + len(values)] = varint(ROWS, len(values))
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"'friends.*its footer says 200;"):
        in_training(str(path), "friends")


def varint(value: int, size: int = 0) -> bytes:
    """A number as Thrift writes it, in at least `size` bytes."""
    rest, found = value << 1, bytearray()
    while rest or len(found) < size:
        found.append(rest & 127 | 128)
        rest >>= 7
    found[-1] &= 127
    return bytes(found)


@pytest.mark.parametrize("plaintext_footer", [False, True])
def test_encrypted_files(tmp_path: Path, plaintext_footer: bool):
    path = encrypted(
        tmp_path / "a.parquet", click_log(20), "amount", plaintext_footer=plaintext_footer
    )
    with pytest.raises(DataError, match=r"a.parquet: .*is encrypted .*no keys .*unencrypted"):
        scan(str(path), None, ("amount",))
    if plaintext_footer:  # the other columns can be read
        catalog = scan(str(path), None, ("user", "amount_"))
        groups: Any = RowGroups(catalog, ("user",), verify_checksums=False, keep=1)
        assert groups.read(Piece(0, 0, 20)).num_rows == 20
        with pytest.raises(DataError, match="'amount' is encrypted"):
            RowGroups(scan(str(path)), ("amount",), verify_checksums=False, keep=1).read(
                Piece(0, 0, 20)
            )
