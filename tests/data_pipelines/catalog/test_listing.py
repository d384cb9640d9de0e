"""Odd folders: links, tables of other formats, names that hide or almost name a day."""

from __future__ import annotations

import datetime
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from data_pipelines.catalog.scan import ScanRules, scan
from data_pipelines.order.partition import Piece
from data_pipelines.reading.row_groups import RowGroups
from marigold_rec.errors import DataError
from tests.support.parquet import write_file

TABLE = pa.table({"x": pa.array(range(10))})
DAY = datetime.date(2024, 1, 1)
NEXT = datetime.date(2024, 1, 2)


def test_linked_files_are_read(tmp_path: Path):
    write_file(tmp_path / "blobs/1", TABLE)
    (tmp_path / "log/dt=2024-01-01").mkdir(parents=True)
    (tmp_path / "log/dt=2024-01-01/a.parquet").symlink_to(tmp_path / "blobs/1")
    catalog = scan(str(tmp_path / "log"), (DAY, DAY))
    groups = RowGroups(catalog, ("x",), verify_checksums=True, keep=1)
    assert groups.read(Piece(0, 0, 10)).num_rows == 10
    # The file behind the link is written again: the run must not go on with it.
    write_file(tmp_path / "blobs/1", pa.table({"x": pa.array(range(10, 20))}))
    with pytest.raises(DataError, match="replaced"):
        RowGroups(catalog, ("x",), verify_checksums=True, keep=1).read(Piece(0, 0, 10))


def test_a_linked_day_is_read_and_a_link_to_nowhere_is_a_broken_file(tmp_path: Path):
    write_file(tmp_path / "far/a.parquet", TABLE)
    write_file(tmp_path / "log/dt=2024-01-01/a.parquet", TABLE)
    (tmp_path / "log/dt=2024-01-02").symlink_to("../far")
    assert [file.day for file in scan(str(tmp_path / "log")).files] == [DAY, NEXT]
    (tmp_path / "log/README.md").symlink_to("nowhere")
    assert len(scan(str(tmp_path / "log")).ignored) == 1
    for name in ("b.parquet", "dt=2024-01-03"):
        link = tmp_path / "log" / name
        link.symlink_to("nowhere")
        with pytest.raises(DataError, match=rf"broken:\n.*{name}.* leads nowhere"):
            scan(str(tmp_path / "log"))
        skipping = ScanRules(on_bad_file="skip", max_skipped_files=0.5)
        if name == "b.parquet":
            assert scan(str(tmp_path / "log"), None, None, skipping).skipped == (str(link),)
        link.unlink()


def test_a_file_under_two_names_is_read_once(tmp_path: Path):
    write_file(tmp_path / "dt=2024-01-01/b.parquet", TABLE)
    (tmp_path / "dt=2024-01-01/a.parquet").symlink_to("b.parquet")
    (tmp_path / "dt=2024-01-01/up").symlink_to("..")
    (tmp_path / "latest").symlink_to("dt=2024-01-01")
    catalog = scan(str(tmp_path), (DAY, DAY))
    assert [Path(file.path).name for file in catalog.files] == ["b.parquet"]
    assert any("1 links to files" in line and "a.parquet" in line for line in catalog.warnings)
    assert any("links to folders" in line and "up" in line for line in catalog.warnings)


def test_one_file_as_two_days_stays_two_days(tmp_path: Path):
    write_file(tmp_path / "dt=2024-01-01/a.parquet", TABLE)
    (tmp_path / "dt=2024-01-02").symlink_to("dt=2024-01-01")
    assert [file.day for file in scan(str(tmp_path), (DAY, NEXT)).files] == [DAY, NEXT]


def test_underscores_in_partitions_are_data(tmp_path: Path):
    write_file(tmp_path / "_region=eu/a.parquet", TABLE)
    write_file(tmp_path / "region=us/a.parquet", TABLE)
    assert scan(str(tmp_path)).num_rows == 20


@pytest.mark.parametrize(
    ("mark", "kind"),
    [
        ("_delta_log/00000000000000000000.json", "Delta"),
        (".hoodie/hoodie.properties", "Hudi"),
        ("metadata/00000-3b1c.metadata.json", "Iceberg"),
    ],
)
def test_tables_of_other_formats_are_refused(tmp_path: Path, mark: str, kind: str):
    write_file(tmp_path / "table/data/dt=2024-01-01/a.parquet", TABLE)
    (tmp_path / "table" / mark).parent.mkdir()
    (tmp_path / "table" / mark).write_text("{}")
    (tmp_path / "link").symlink_to("table/data")
    write_file(tmp_path / "other/dt=2024-01-02/a.parquet", TABLE)
    (tmp_path / "other/dt=2024-01-01").symlink_to("../table/data/dt=2024-01-01")
    day = "data/dt=2024-01-01"
    for path in ("", "table", f"table/{day}", f"table/{day}/a.parquet", "link", "other"):
        with pytest.raises(DataError, match=rf"table is a table of .*{kind}.*export"):
            scan(str(tmp_path / path))


def test_a_remote_table_is_refused():
    files = fsspec.filesystem("memory")
    files.pipe("/lake/_delta_log/0.json", b"{}")
    files.pipe("/lake/dt=2024-01-01/a.parquet", b"")
    with pytest.raises(DataError, match="Delta"):
        scan("memory://lake/dt=2024-01-01")
    files.rm("/lake", recursive=True)


def test_a_folder_named_metadata_is_no_table(tmp_path: Path):
    write_file(tmp_path / "a.parquet", TABLE)
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata/notes.json").write_text("{}")
    assert scan(str(tmp_path)).num_rows == 10


def test_days_of_timestamps(tmp_path: Path):
    for name in ("dt=2024-01-01 00%3A00%3A00", "dt=20240102"):
        write_file(tmp_path / name / "a.parquet", TABLE)
    assert [file.day for file in scan(str(tmp_path), (DAY, NEXT)).files] == [DAY, NEXT]


@pytest.mark.parametrize("name", ["dt=2024-1-1", "date=2024-01-01", "year=2024/month=1/day=1"])
def test_a_folder_that_looks_like_the_day_is_named(tmp_path: Path, name: str):
    write_file(tmp_path / "dt=2024-01-02/a.parquet", TABLE)
    write_file(tmp_path / name / "a.parquet", TABLE)
    with pytest.raises(DataError, match=f"look like it: .*{name}"):
        scan(str(tmp_path), (DAY, DAY))


def test_hours_come_in_their_order(tmp_path: Path):
    for hour in range(12):
        write_file(tmp_path / f"dt=2024-01-01/hour={hour}/a.parquet", pa.table({"x": [hour]}))
    catalog = scan(str(tmp_path))
    groups = RowGroups(catalog, ("x",), verify_checksums=True, keep=1)
    read = [groups.read(Piece(group, 0, 1))["x"][0].as_py() for group in range(12)]
    assert read == [*range(12)]
