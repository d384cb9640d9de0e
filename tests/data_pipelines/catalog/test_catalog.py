"""What is found below a path, what is refused, and what is only warned of."""

from __future__ import annotations

import dataclasses
import datetime
import os
import pickle
import re
import shutil
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.catalog.scan import ScanRules, scan
from data_pipelines.catalog.storage import FileState, Storage
from data_pipelines.order.partition import Piece
from data_pipelines.preflight.columns import check_data, needed_columns
from data_pipelines.reading.row_groups import RowGroups
from marigold_rec.errors import DataError
from tests.support.parquet import click_log, log_config, write_file, write_log


def day(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


@pytest.fixture
def days(tmp_path: Path) -> Path:
    """Four days, one of them left out, one with a file of no rows, and things to ignore."""
    table = pa.table({"x": pa.array(range(10))})
    for name in ("2024-01-30", "2024-01-31", "2024-02-02"):
        write_file(tmp_path / f"log/dt={name}/part-0.parquet", table, 4)
    write_file(tmp_path / "log/dt=2024-01-31/part-1.parquet", table.slice(0, 0))
    write_file(tmp_path / "log/_temporary/part-0.parquet", table)
    write_file(tmp_path / "log/dt=2024-01-30/.hidden.parquet", table)
    (tmp_path / "log/dt=2024-01-30/_SUCCESS").write_bytes(b"")
    (tmp_path / "log/README.md").write_text("a log")
    return tmp_path / "log"


def test_a_folder_is_read_in_path_order(days: Path):
    catalog = scan(str(days))
    assert [file.day for file in catalog.files] == [
        day("2024-01-30"),
        day("2024-01-31"),
        day("2024-01-31"),
        day("2024-02-02"),
    ]
    assert catalog.rows_per_group[:6] == (4, 4, 2, 4, 4, 2)
    assert catalog.num_rows == 30
    assert [Path(path).name for path in catalog.ignored] == ["README.md"]
    assert catalog.schema == pa.schema([("x", pa.int64())])
    assert [Path(path).name for path in catalog.hidden] == [
        "part-0.parquet",
        ".hidden.parquet",
        "_SUCCESS",
    ]
    assert len(catalog.warnings) == 1
    assert "2 Parquet files" in catalog.warnings[0]  # and not the marker


def test_a_group_is_located_in_its_file(days: Path):
    catalog = scan(str(days))
    found = [catalog.locate(group) for group in range(len(catalog.rows_per_group))]
    assert [file.rows_per_group[index] for file, index in found] == [*catalog.rows_per_group]
    assert found[-1][0].path.endswith("dt=2024-02-02/part-0.parquet")


def test_a_catalog_travels(days: Path):
    catalog = scan(str(days))
    assert catalog.num_rows == 30
    assert pickle.loads(pickle.dumps(catalog)) == catalog


def test_dates_choose_folders(days: Path):
    catalog = scan(str(days), (day("2024-01-30"), day("2024-01-31")))
    assert {str(file.day) for file in catalog.files} == {"2024-01-30", "2024-01-31"}
    # The day may stand in the path that is given, too.
    catalog = scan(str(days / "dt=2024-01-30"), (day("2024-01-30"), day("2024-01-30")))
    assert catalog.num_rows == 10


def test_days_without_files_are_listed(days: Path):
    message = (
        r"no Parquet file for 2 of the 4 days from 2024-01-31 to 2024-02-03: "
        r"2024-02-01, 2024-02-03; there are 3 days: 2024-01-30, 2024-01-31, 2024-02-02"
    )
    with pytest.raises(DataError, match=message):
        scan(str(days), (day("2024-01-31"), day("2024-02-03")))


def test_dates_need_dt_folders(tmp_path: Path):
    write_log(tmp_path, [5])
    with pytest.raises(DataError, match="no file lies in a folder named dt=YYYY-MM-DD"):
        scan(str(tmp_path), (day("2024-01-01"), day("2024-01-01")))


def test_undated_files_are_told_when_dates_are_asked_for(days: Path):
    write_file(days / "stray.parquet", pa.table({"x": pa.array([1])}))
    catalog = scan(str(days), (day("2024-01-30"), day("2024-01-30")))
    assert [Path(path).name for path in catalog.ignored] == ["README.md", "stray.parquet"]


def test_one_file_of_any_name(tmp_path: Path):
    write_file(tmp_path / "events.bin", click_log(5))
    assert scan(str(tmp_path / "events.bin")).num_rows == 5


def test_nothing_there(tmp_path: Path):
    with pytest.raises(DataError, match=r"there is no such file or folder; check data\.path"):
        scan(str(tmp_path / "none"))
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(DataError, match=r"no Parquet file .* is there \(1 other files, e.g. .*csv"):
        scan(str(tmp_path))


def test_all_broken_files_are_listed(tmp_path: Path):
    write_log(tmp_path, [20, 20, 20, 20])
    (tmp_path / "part-001.parquet").write_bytes(b"")
    for name, cut in (("part-002.parquet", 10), ("part-003.parquet", 1000)):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[:-cut])
    with pytest.raises(DataError) as caught:
        scan(str(tmp_path))
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 of 4 files are broken:"
    assert lines[1].endswith("part-001.parquet: 0 bytes")
    assert "part-002.parquet" in lines[2]
    assert "no readable Parquet footer" in lines[2]
    assert "part-003.parquet" in lines[3]
    assert lines[-1] == "write them again or move them away"


def drifted(tmp_path: Path, second: pa.Table, columns: tuple[str, ...] | None = None):
    write_file(tmp_path / "a.parquet", pa.table({"x": pa.array([1]), "y": pa.array(["s"])}))
    write_file(tmp_path / "b.parquet", second)
    return scan(str(tmp_path), columns=columns)


DRIFT = [
    ({"x": pa.array([1])}, r"b.parquet: column 'y' is missing; .*a.parquet has it as string"),
    (
        {"x": pa.array(["1"]), "y": pa.array(["s"])},
        r"b.parquet: column 'x' is string, expected int64 as in .*a.parquet",
    ),
    (
        {"x": pa.array([1.0]), "y": pa.array(["s"])},
        r"b.parquet: column 'x' is double, expected int64",
    ),
    (
        {"x": pa.array([[1]]), "y": pa.array(["s"])},
        r"b.parquet: column 'x' is list<.*int64>, expected int64",
    ),
]


@pytest.mark.parametrize(("columns", "message"), DRIFT)
def test_drift_is_refused(tmp_path: Path, columns: dict[str, pa.Array], message: str):
    with pytest.raises(DataError, match=message):
        drifted(tmp_path, pa.table(columns))


def test_drift_of_a_column_that_is_not_read_is_a_warning(tmp_path: Path):
    catalog = drifted(tmp_path, pa.table({"x": pa.array([1])}), columns=("x",))
    assert len(catalog.warnings) == 1
    assert "column 'y' is missing" in catalog.warnings[0]


def test_a_new_column_is_a_warning(tmp_path: Path):
    second = pa.table({"z": pa.array([1]), "y": pa.array(["s"]), "x": pa.array([1])})
    catalog = drifted(tmp_path, second)
    assert len(catalog.warnings) == 1
    assert "b.parquet: column 'z' is new" in catalog.warnings[0]


def test_storage_differences_are_no_drift(tmp_path: Path):
    second = pa.table(
        {"x": pa.array([1]), "y": pa.array(["s"]).dictionary_encode()},
        schema=pa.schema(
            [pa.field("x", pa.int64(), False), ("y", pa.dictionary(pa.int8(), pa.string()))]
        ),
    )
    assert drifted(tmp_path, second).warnings == ()


def test_huge_row_groups_are_warned_of(tmp_path: Path):
    rows = 4_000_001
    table = pa.table({"x": pa.nulls(rows, pa.int8())})
    write_file(tmp_path / "a.parquet", table, rows)
    assert "a row group of 4,000,001 rows" in scan(str(tmp_path)).warnings[0]


def test_any_fsspec_url(tmp_path: Path):
    write_log(tmp_path, [9, 4])
    files = fsspec.filesystem("memory")
    for path in sorted(tmp_path.iterdir()):
        files.pipe(f"/bucket/log/dt=2024-01-01/{path.name}", path.read_bytes())
    try:
        catalog = scan("memory://bucket/log", (day("2024-01-01"), day("2024-01-01")))
        assert catalog.num_rows == 13
        assert len(catalog.files) == 2
        with pytest.raises(DataError, match="there is no such file or folder"):
            scan("memory://bucket/none")
    finally:
        files.rm("/bucket", recursive=True)


def test_good_data_has_no_problems(tmp_path: Path):
    write_log(tmp_path, [20])
    config = log_config()
    assert check_data(scan(str(tmp_path), columns=needed_columns(config)), config) == []


def test_all_problems_of_the_data_are_told_at_once(tmp_path: Path):
    table = click_log(30)
    table = table.drop_columns(["conversion"]).rename_columns(
        [
            "weigth" if name == "weight" else name
            for name in table.column_names
            if name != "conversion"
        ]
    )
    table = table.set_column(
        table.schema.get_field_index("click"), "click", pa.nulls(30, pa.int8())
    ).set_column(table.schema.get_field_index("watch_s"), "watch_s", pa.array(["1"] * 30))
    write_file(tmp_path / "a.parquet", table, 7)
    config = log_config()
    problems = check_data(scan(str(tmp_path), columns=needed_columns(config)), config)
    assert [problem.split(";")[0] for problem in problems] == [
        "tasks.ctr.label: column 'click' is null in all 30 rows",
        "tasks.cvr.label: there is no column 'conversion'",
        "tasks.watch.label: column 'watch_s' is string",
        "tasks.watch.observed_if: there is no column 'conversion'",
        "data.weight: there is no column 'weight'",
    ]
    assert problems[-1].endswith("did you mean 'weigth'?")


def test_columns_of_nulls_need_statistics(tmp_path: Path):
    table = pa.table({"x": pa.nulls(9, pa.int8()), "y": pa.array([1] * 8 + [None])})
    write_file(tmp_path / "with/a.parquet", table, 4)
    assert scan(str(tmp_path / "with"), columns=("x", "y")).all_null == {"x"}
    (tmp_path / "without").mkdir()
    pq.write_table(table, tmp_path / "without/a.parquet", write_statistics=False)
    assert scan(str(tmp_path / "without"), columns=("x", "y")).all_null == set()


def test_a_column_with_one_value_in_the_last_file_is_not_null(tmp_path: Path):
    for index in range(40):
        values = [None] * 5 + [1 if index == 39 else None]
        write_file(
            tmp_path / f"{index:02}.parquet", pa.table({"x": pa.array(values, pa.int8())}), 3
        )
    assert scan(str(tmp_path), columns=("x",)).all_null == set()
    (tmp_path / "39.parquet").unlink()
    assert scan(str(tmp_path), columns=("x",)).all_null == {"x"}


SKIP = ScanRules(on_bad_file="skip", max_skipped_files=0.25)


def test_a_few_bad_files_are_skipped_counted_and_named(tmp_path: Path):
    write_log(tmp_path, [5] * 8)
    (tmp_path / "part-002.parquet").write_bytes(b"PAR1")
    table = pq.read_table(tmp_path / "part-005.parquet")
    write_file(tmp_path / "part-005.parquet", table.drop_columns(["user"]))
    catalog = scan(str(tmp_path), rules=SKIP)
    assert [Path(path).name for path in catalog.skipped] == ["part-002.parquet", "part-005.parquet"]
    assert catalog.num_rows == 30
    assert re.match(r"skipped: .*part-002.parquet: 4 bytes, no readable", catalog.warnings[0])
    assert re.match(r"skipped: .*part-005.parquet: column 'user' is missing", catalog.warnings[1])
    # The rows that are left are another log than the whole one.
    assert catalog.fingerprint != scan(str(tmp_path / "part-000.parquet")).fingerprint


def test_more_bad_files_than_allowed_are_refused_with_the_list(tmp_path: Path):
    write_log(tmp_path, [5] * 8)
    for index in (1, 2, 3):
        (tmp_path / f"part-00{index}.parquet").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        scan(str(tmp_path), rules=SKIP)
    assert str(caught.value).splitlines() == [
        "3 of 8 files would be skipped, more than data.max_skipped_files (25.00%) allows:",
        *(f"{tmp_path}/part-00{index}.parquet: 0 bytes" for index in (1, 2, 3)),
        "write them again, move them away or raise the share",
    ]


def test_a_day_is_never_skipped_whole(days: Path):
    (days / "dt=2024-02-02/part-0.parquet").write_bytes(b"")
    with pytest.raises(DataError, match="every file of 2024-02-02 would be skipped:"):
        scan(str(days), rules=SKIP)


def test_a_footer_that_contradicts_itself_is_refused(tmp_path: Path):
    """pyarrow reads the rows of the row groups that are left, without a word."""
    path = tmp_path / "a.parquet"
    write_file(path, pa.table({"x": pa.array(range(30))}), 10)
    data = path.read_bytes()
    metadata = pq.read_metadata(path)
    start = len(data) - 8 - metadata.serialized_size
    at = data.index(b"\x3c", start)  # the zigzag of 30: the file's number of rows
    path.write_bytes(data[:at] + b"\x14" + data[at + 1 :])
    assert pq.read_metadata(path).num_rows == 10
    with pytest.raises(DataError, match="its row groups hold 30 rows, the file 10"):
        scan(str(tmp_path))


def test_one_bit_does_not_make_an_unsigned_column_signed(tmp_path: Path):
    path = tmp_path / "a.parquet"
    write_file(path, pa.table({"x": pa.array([2**64 - 1], pa.uint64())}))
    data = path.read_bytes()
    # LogicalType INTEGER: 8-bit field 1 (bitWidth 64), then field 2 (isSigned), false.
    at = data.index(bytes([0x13, 64, 0x12])) + 2
    path.write_bytes(data[:at] + b"\x11" + data[at + 1 :])
    assert pq.read_schema(path).field("x").type == pa.int64()
    with pytest.raises(DataError, match="its two schemas say uint64 and int64 of column 'x'"):
        scan(str(tmp_path))


def test_a_name_that_is_no_text_is_a_broken_footer(tmp_path: Path):
    path = tmp_path / "a.parquet"
    write_file(path, pa.table({"watching": pa.array([1])}), store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"watching", b"watch\xffng"))
    with pytest.raises(DataError, match="no readable Parquet footer"):
        scan(str(tmp_path), columns=("watching",))


def test_a_damaged_column_chunk_does_not_end_the_process(tmp_path: Path):
    """pyarrow's own view of this chunk does, with an uncaught C++ exception."""
    path = tmp_path / "a.parquet"
    write_file(path, pa.table({"x": pa.array([1.5])}), compression="none", use_dictionary=False)
    data = path.read_bytes()
    # ColumnMetaData: field 1 (type) is the i32 5 (DOUBLE); 2 follows, a list of encodings.
    at = data.index(bytes([0x15, 10, 0x19]), len(data) - 8 - pq.read_metadata(path).serialized_size)
    path.write_bytes(data[: at + 1] + bytes([2]) + data[at + 2 :])
    catalog = scan(str(tmp_path), columns=("x",))
    with pytest.raises(DataError, match=r"a\.parquet row group 0: cannot be read"):
        RowGroups(catalog, ["x"], verify_checksums=True, keep=1).read(Piece(0, 0, 1))


def test_a_copied_log_is_the_same_log(tmp_path: Path):
    """The times of its files are another's: places in the rows must keep their meaning."""
    write_log(tmp_path / "a", [9, 4])
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copy)
    os.utime(tmp_path / "b/part-000.parquet", (1, 1))
    first, second = scan(str(tmp_path / "a")), scan(str(tmp_path / "b"))
    assert first.files[0].modified != second.files[0].modified
    assert first.fingerprint == second.fingerprint


def swapped(path: Path, first: float, second: float) -> None:
    """Two values exchanged: a file of the same size, row groups and statistics."""
    table = pa.table({"x": pa.array([1.0, first, second, 4.0])})
    write_file(path, table, compression="none", use_dictionary=False)


@pytest.mark.parametrize(
    "url", ["{folder}", "memory://bucket/log", "simplecache::memory://bucket/log"]
)
def test_a_replacement_of_the_same_size_and_groups_is_noticed(tmp_path: Path, url: str):
    path, files = tmp_path / "a.parquet", fsspec.filesystem("memory")

    def put() -> None:
        files.pipe("/bucket/log/a.parquet", path.read_bytes())

    swapped(path, 2.0, 3.0)
    put()
    try:
        catalog = scan(url.format(folder=tmp_path))
        groups = RowGroups(catalog, ["x"], verify_checksums=True, keep=1)
        assert groups.read(Piece(0, 0, 4)).column(0).to_pylist() == [1.0, 2.0, 3.0, 4.0]
        size = path.stat().st_size
        swapped(path, 3.0, 2.0)
        put()
        assert path.stat().st_size == size
        with pytest.raises(DataError, match=r"was replaced .*: it was written again"):
            groups.read(Piece(0, 0, 4))
    finally:
        files.rm("/bucket", recursive=True)


def test_another_machine_has_times_of_its_own(tmp_path: Path):
    """Each machine may read a copy: there, a file's time may differ, but it must not change."""
    path = tmp_path / "a.parquet"
    swapped(path, 2.0, 3.0)
    catalog = dataclasses.replace(scan(str(tmp_path)), host="elsewhere")
    os.utime(path, (1, 1))
    groups = RowGroups(catalog, ["x"], verify_checksums=True, keep=1)
    assert groups.read(Piece(0, 0, 4)).num_rows == 4
    os.utime(path, (2, 2))
    with pytest.raises(DataError, match="was written again"):
        groups.read(Piece(0, 0, 4))


def test_one_look_at_a_file_for_each_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_file(tmp_path / "a.parquet", pa.table({"x": pa.array(range(20))}), 5)
    catalog = scan(str(tmp_path))
    groups = RowGroups(catalog, ["x"], verify_checksums=True, keep=1)
    looks: list[str] = []
    real = Storage.state

    def counted(self: Storage, path: str) -> FileState:
        looks.append(path)
        return real(self, path)

    monkeypatch.setattr(Storage, "state", counted)
    for group in range(4):
        groups.read(Piece(group, 0, 5))
    assert len(looks) == 4
