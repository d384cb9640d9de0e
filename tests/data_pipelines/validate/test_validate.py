"""`python -m data_pipelines.validate`: what it finds, what it says, and its exit codes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.validate.__main__ import main
from marigold_rec.config import dump_config
from tests.support.parquet import click_log, log_config, write_file

DAYS = ("2024-01-01", "2024-01-02")
FIRST, SECOND, THIRD = (
    f"dt={DAYS[0]}/part-0.parquet",
    f"dt={DAYS[0]}/part-1.parquet",
    f"dt={DAYS[1]}/part-0.parquet",
)


def write_good_log(folder: Path) -> dict[str, pa.Table]:
    """Plain pages, so that a flipped bit is a changed value."""
    tables = {name: click_log(40, seed) for seed, name in enumerate((FIRST, SECOND, THIRD))}
    for name, table in tables.items():
        write_file(folder / name, table, 15, compression="none", use_dictionary=False)
    return tables


@dataclass
class Validated:
    code: int
    report: dict[str, Any]
    said: str
    refused: str


@pytest.fixture
def validate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Validated]:
    """The command on tmp_path/log."""

    def run(*arguments: str, **data: Any) -> Validated:
        config = tmp_path / "config.yaml"
        config.write_text(dump_config(log_config(**data)))
        report = tmp_path / "report.json"
        paths = [str(tmp_path / "log"), "--config", str(config), "--json", str(report)]
        code = main([*paths, *arguments])
        said = capsys.readouterr()
        return Validated(code, json.loads(report.read_text()), said.out, said.err)

    return run


def put(file: Path, column: str, row: int, value: Any) -> None:
    table = pq.ParquetFile(file).read()
    values = table.column(column).to_pylist()
    values[row] = value
    index = table.column_names.index(column)
    kind = table.schema.field(column).type
    table = table.set_column(index, column, pa.array(values, kind))
    write_file(file, table, 15, compression="none", use_dictionary=False)


def flip(file: Path, column: str, group: int) -> None:
    row_group = pq.read_metadata(file).row_group(group)
    chunks = [row_group.column(index) for index in range(row_group.num_columns)]
    chunk = next(chunk for chunk in chunks if chunk.path_in_schema == column)
    data = bytearray(file.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size - 2] ^= 0x10
    file.write_bytes(data)


def test_a_good_log(tmp_path: Path, validate: Callable[..., Validated]):
    tables = write_good_log(tmp_path / "log")
    found = validate()
    assert (found.code, found.report["problems"], found.refused) == (0, [], "")
    assert not found.report["is_refused"]
    assert "page checksums: 0 row groups fail\n" in found.said
    assert (found.report["files"], found.report["rows"], found.report["row_groups"]) == (3, 120, 9)
    assert [(day["day"], day["files"], day["rows"]) for day in found.report["days"]] == [
        (DAYS[0], 2, 80),
        (DAYS[1], 1, 40),
    ]
    # Against the tables themselves.
    last = tables[THIRD]
    clicks = np.array(last.column("click").to_pylist())
    means = found.report["days"][1]["label_means"]
    assert means["ctr"] == pytest.approx(clicks.mean())
    conversions = [c for c in last.column("conversion").to_pylist() if c is not None]
    assert means["cvr"] == pytest.approx(np.mean(conversions))
    tasks = {task["name"]: task for task in found.report["tasks"]}
    nulls = sum(table.column("conversion").null_count for table in tables.values())
    assert tasks["cvr"]["nulls"] == nulls
    assert tasks["cvr"]["observed"] == 120 - nulls
    features = {feature["name"]: feature for feature in found.report["features"]}
    missing = sum(table.column("user").null_count for table in tables.values())
    assert features["user"]["counts"] == {"missing": missing}
    assert features["shelf"]["policy"] == "clamp"
    assert features["shelf"]["counts"]["out_of_range"] == sum(
        value is not None and not 0 <= value < 10
        for table in tables.values()
        for value in table.column("shelf").to_pylist()
    )


def test_tables_are_aligned(tmp_path: Path, validate: Callable[..., Validated]):
    write_good_log(tmp_path / "log")
    lines = validate().said.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("day "))
    assert lines[start + 1].startswith("2024-01-01      2    80")
    assert lines[start].index("rows") + 4 == lines[start + 1].index("80") + 2


def bits_flipped(log: Path) -> None:
    flip(log / FIRST, "amount", 1)
    flip(log / THIRD, "item", 2)


def cut_short(log: Path) -> None:
    file = log / SECOND
    file.write_bytes(file.read_bytes()[:-100])


def of_no_bytes(log: Path) -> None:
    (log / SECOND).write_bytes(b"")


def retyped(log: Path) -> None:
    table = pq.ParquetFile(log / SECOND).read()
    index = table.column_names.index("user")
    table = table.set_column(index, "user", table.column("user").cast(pa.string()))
    write_file(log / SECOND, table)


def label_is_seven(log: Path) -> None:
    for row in range(3):
        put(log / FIRST, "click", row, 7)


def id_out_of_range(log: Path) -> None:
    put(log / THIRD, "item", 3, 50)


def doubled(log: Path) -> None:
    shutil.copy(log / FIRST, log / THIRD)


def a_column_is_gone(log: Path) -> None:
    for name in (FIRST, SECOND, THIRD):
        table = pq.ParquetFile(log / name).read()
        write_file(log / name, table.drop_columns(["conversion"]))


def statistics_lie(log: Path) -> None:
    """As where a damaged page header makes other values of good bytes."""
    file = log / FIRST
    data = file.read_bytes()
    footer = len(data) - 8 - pq.read_metadata(file).serialized_size
    statistics = pq.read_metadata(file).row_group(0).column(0).statistics
    wanted = int(statistics.max).to_bytes(8, "little")
    # The statistics of old come first, and nobody reads them.
    at = data.index(bytes([8]) + wanted, footer) + 1
    at = data.index(bytes([8]) + wanted, at) + 1
    file.write_bytes(data[:at] + (1).to_bytes(8, "little") + data[at + 8 :])


@dataclass(frozen=True)
class Bad:
    spoil: Callable[[Path], None]
    problems: list[str]
    """How each one begins."""
    rows: int = 120
    data: dict[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()


BAD = [
    Bad(
        bits_flipped,
        [
            f"{{log}}/{FIRST} row group 1: cannot be read (OSError: could not verify page",
            f"{{log}}/{THIRD} row group 2: cannot be read (OSError: could not verify page",
        ],
    ),
    Bad(
        cut_short,
        [
            "1 of 3 files are broken:",
            f"{{log}}/{SECOND}: ",
            "write them again or move them away",
        ],
        80,
    ),
    Bad(
        of_no_bytes,
        [
            "1 of 3 files would be skipped, more",
            f"{{log}}/{SECOND}: 0 bytes",
            "write them again, move them away or raise the share",
        ],
        80,
        {"on_bad_file": "skip"},
    ),
    Bad(
        retyped,
        [
            f"{{log}}/{SECOND}: column 'user' is string, expected int64 as in {{log}}/{FIRST}",
            "write these files again alike",
        ],
        80,
    ),
    Bad(
        label_is_seven,
        ["tasks.ctr: labels in column 'click': a binary label must be 0 or 1, but 3 of 120 are "
         "not (2.50%), e.g. 7; allowed are 1.00%"],
    ),
    Bad(
        id_out_of_range,
        ["features.item: 1 ids in column 'item' are outside [0, 50), the first is 50; give"],
    ),
    Bad(
        doubled,
        [f"{{log}}/{FIRST} and {{log}}/{THIRD} hold the same bytes: their rows would be learned 2"],
    ),
    Bad(
        a_column_is_gone,
        [
            "data.train ({log}): tasks.cvr.label: there is no column 'conversion'",
            "data.train ({log}): tasks.watch.observed_if: there is no column 'conversion'",
        ],
    ),
    Bad(
        statistics_lie,
        [f"{{log}}/{FIRST} row group 0: column 'row_id' holds 0 to 14, written were 0 to 1; the"],
        arguments=("--all-columns",),
    ),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.spoil.__name__)
def test_what_is_wrong_is_refused(tmp_path: Path, validate: Callable[..., Validated], bad: Bad):
    write_good_log(tmp_path / "log")
    bad.spoil(tmp_path / "log")
    found = validate(*bad.arguments, **bad.data)
    assert found.code == 3
    assert found.report["is_good"] is False
    begun = [problem.replace("{log}", str(tmp_path / "log")) for problem in bad.problems]
    lines = [line for problem in found.report["problems"] for line in problem.splitlines()]
    assert [line[: len(start)] for line, start in zip(lines, begun, strict=True)] == begun
    # What is whole is read all the same.
    assert found.report["rows"] == bad.rows
    assert all(f"problem: {problem}" in found.said for problem in found.report["problems"])


def test_checksum_failures_are_counted_by_file_and_row_group(
    tmp_path: Path, validate: Callable[..., Validated]
):
    write_good_log(tmp_path / "log")
    bits_flipped(tmp_path / "log")
    found = validate().report["checksums"]
    assert found == {
        "files_with": 3,
        "files_without": [],
        "failures": [
            f"{tmp_path}/log/{FIRST} row group 1",
            f"{tmp_path}/log/{THIRD} row group 2",
        ],
    }


def test_files_without_checksums_are_told(tmp_path: Path, validate: Callable[..., Validated]):
    write_good_log(tmp_path / "log")
    pq.write_table(click_log(10, seed=9), tmp_path / "log" / SECOND)
    found = validate()
    assert found.code == 0
    assert found.report["checksums"]["files_without"] == [f"{tmp_path}/log/{SECOND}"]
    assert "1 files carry no page checksums" in found.said


def test_a_few_bad_files_are_warnings_where_they_may_be_skipped(
    tmp_path: Path, validate: Callable[..., Validated]
):
    write_good_log(tmp_path / "log")
    of_no_bytes(tmp_path / "log")
    found = validate(on_bad_file="skip", max_skipped_files=0.34)
    assert found.code == 0
    assert f"warning: skipped: {tmp_path}/log/{SECOND}: 0 bytes" in found.said


def test_dates_and_overrides(tmp_path: Path, validate: Callable[..., Validated]):
    write_good_log(tmp_path / "log")
    id_out_of_range(tmp_path / "log")
    assert validate("--dates", DAYS[0], DAYS[0]).report["rows"] == 80
    assert validate("features.item.rows=51").code == 0
    assert validate("--dates", DAYS[0], "2024-01-03").code == 3
    with pytest.raises(SystemExit, match="2"):
        validate("--dates", DAYS[1], DAYS[0])


def test_the_schema_is_pinned_if_all_is_good(tmp_path: Path, validate: Callable[..., Validated]):
    write_good_log(tmp_path / "log")
    schema = tmp_path / "schema.json"
    assert validate("--write-schema", str(schema)).code == 0
    columns = json.loads(schema.read_text())["columns"]
    assert {"name": "user", "type": "int64", "needed": True} in columns
    assert {"name": "row_id", "type": "int64", "needed": False} in columns
    assert validate(schema_file=str(schema)).code == 0
    schema.unlink()
    label_is_seven(tmp_path / "log")
    assert validate("--write-schema", str(schema)).code == 3
    assert not schema.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("features.item.rowz=3",),
        ("data.schema_file=/nowhere/schema.json",),
        ("--write-schema", "/nowhere/schema.json"),
    ],
)
def test_config_errors_end_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
):
    write_good_log(tmp_path / "log")
    (tmp_path / "config.yaml").write_text(dump_config(log_config()))
    paths = [str(tmp_path / "log"), "--config", str(tmp_path / "config.yaml")]
    assert main([*paths, *arguments]) == 2
    assert capsys.readouterr().err.strip()


def test_nothing_there_is_data_refused(tmp_path: Path, validate: Callable[..., Validated]):
    found = validate()
    assert found.code == 3
    assert "there is no such file or folder" in found.said


def test_empty_files_are_told_of(tmp_path: Path, validate: Callable[..., Validated]):
    write_good_log(tmp_path / "log")
    write_file(tmp_path / "log" / SECOND, click_log(0))
    found = validate()
    assert found.code == 0
    assert f"1 files hold no rows, e.g. {tmp_path}/log/{SECOND}" in found.said
    for name in (FIRST, THIRD):
        write_file(tmp_path / "log" / name, click_log(0))
    assert validate().code == 3


def test_no_progress_where_nobody_looks(tmp_path: Path, validate: Callable[..., Validated]):
    write_good_log(tmp_path / "log")
    assert validate().refused == ""
