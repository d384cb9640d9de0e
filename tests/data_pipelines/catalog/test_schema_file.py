"""The pinned schema: what a changed column does to a start, and what a broken pin says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_pipelines.catalog.catalog import schema_hash
from data_pipelines.catalog.pinned_schema import read_schema, write_schema
from data_pipelines.catalog.scan import ScanRules, scan
from data_pipelines.catalog.schema_drift import column_types
from data_pipelines.preflight.columns import needed_columns
from data_pipelines.preflight.split import look_at_split
from marigold_rec.config.data import SplitConfig
from marigold_rec.errors import ConfigError, DataError
from tests.support.parquet import click_log, log_config, write_file, write_log


def pin(tmp_path: Path) -> Path:
    """Of yesterday's log."""
    write_log(tmp_path / "yesterday", [5])
    types = column_types(scan(str(tmp_path / "yesterday")).schema)
    write_schema(tmp_path / "schema.json", types, needed_columns(log_config()))
    return tmp_path / "schema.json"


def look(folder: Path, schema: Path, **data: Any) -> tuple[str, ...]:
    """A start's warnings; its refusal is raised."""
    config = log_config(schema_file=str(schema), **data)
    catalog, problems = look_at_split("train", config, SplitConfig(), str(folder))
    assert problems == []
    return catalog.warnings


def tonight(folder: Path, table: pa.Table) -> None:
    """All files alike: only the pin can tell that they changed."""
    for index in range(3):
        write_file(folder / f"part-{index}.parquet", table)


def cast(table: pa.Table, column: str, kind: pa.DataType) -> pa.Table:
    index = table.column_names.index(column)
    return table.set_column(index, column, table.column(column).cast(kind))


def test_the_same_columns_pass(tmp_path: Path):
    schema = pin(tmp_path)
    tonight(tmp_path / "log", click_log(20))
    assert look(tmp_path / "log", schema) == ()


def test_an_added_column_is_one_warning(tmp_path: Path):
    schema = pin(tmp_path)
    tonight(tmp_path / "log", click_log(20).append_column("new", pa.array(range(20))))
    assert look(tmp_path / "log", schema) == (
        f"{tmp_path}/log/part-0.parquet and 2 more files: column 'new' is new, {schema} does not "
        "have it; it is not read",
    )


def test_a_removed_or_retyped_column_that_is_not_read_is_a_warning(tmp_path: Path):
    schema = pin(tmp_path)
    tonight(tmp_path / "gone", click_log(20).drop_columns(["row_id"]))
    assert "column 'row_id' is missing" in look(tmp_path / "gone", schema)[0]
    tonight(tmp_path / "other", cast(click_log(20), "row_id", pa.float64()))
    assert "column 'row_id' is double, expected int64" in look(tmp_path / "other", schema)[0]


def test_a_removed_column_is_refused_in_every_file(tmp_path: Path):
    schema = pin(tmp_path)
    tonight(tmp_path / "log", click_log(20).drop_columns(["user"]))
    with pytest.raises(DataError) as caught:
        look(tmp_path / "log", schema)
    assert str(caught.value).splitlines() == [
        *(
            f"{tmp_path}/log/part-{i}.parquet: column 'user' is missing; {schema} has it as int64"
            for i in range(3)
        ),
        "write these files again alike, or move them away",
    ]


def test_a_retyped_column_is_refused(tmp_path: Path):
    """All files alike: text and integers can both be hashed, into other rows."""
    schema = pin(tmp_path)
    tonight(tmp_path / "log", cast(click_log(20), "user", pa.string()))
    message = rf"part-0.parquet: column 'user' is string, expected int64 as in {schema}"
    with pytest.raises(DataError, match=message):
        look(tmp_path / "log", schema)


def test_a_file_that_does_not_fit_the_pin_may_be_skipped(tmp_path: Path):
    """Even the first, by which the others would be judged without a pin."""
    schema = pin(tmp_path)
    tonight(tmp_path / "log", click_log(20))
    write_file(tmp_path / "log/part-0.parquet", cast(click_log(20), "user", pa.string()))
    found = look(tmp_path / "log", schema, on_bad_file="skip", max_skipped_files=0.5)
    assert len(found) == 1
    assert found[0].startswith(f"skipped: {tmp_path}/log/part-0.parquet: column 'user' is string")


def test_a_column_that_is_younger_than_the_pin_is_held_against_the_first_file(tmp_path: Path):
    schema = pin(tmp_path)
    text = click_log(20).append_column("new", pa.array(["a"] * 20))
    tonight(tmp_path / "log", text)
    write_file(
        tmp_path / "log/part-2.parquet", click_log(20).append_column("new", pa.array([1] * 20))
    )
    rules = ScanRules(pinned=read_schema(str(schema)))
    with pytest.raises(DataError, match=r"part-2.*'new' is int64, expected string as in .*part-0"):
        scan(str(tmp_path / "log"), columns=("user", "new"), rules=rules)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"can't be read \(No such file or directory\)"),
        ("", "is not a schema"),
        ("[]", "is not a schema"),
        ('{"columns": [{"name": "x"}]}', "is not a schema"),
        ('{"columns": [{"name": "x", "type": 7}]}', "is not a schema"),
        ("[" * 100_000, "is not a schema"),
        ("\0", "is not a schema"),
    ],
)
def test_a_broken_pin_is_a_config_error(tmp_path: Path, text: str | None, message: str):
    if text is not None:
        (tmp_path / "schema.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"data.schema_file: .*schema.json {message}"):
        read_schema(str(tmp_path / "schema.json"))


def test_the_hash_is_of_names_and_types(tmp_path: Path):
    table = pa.table({"x": pa.array([1]), "y": pa.array(["a"])})
    tables = {
        "plain": table,
        "order": table.select(["y", "x"]),
        "storage": cast(table, "y", pa.dictionary(pa.int32(), pa.string())),
        "type": cast(table, "x", pa.int32()),
        "name": table.rename_columns(["x", "z"]),
    }
    hashes = {}
    for name, one in tables.items():
        write_file(tmp_path / name / "a.parquet", one)
        hashes[name] = schema_hash(scan(str(tmp_path / name)))
    assert hashes["plain"] == hashes["order"] == hashes["storage"]
    assert len({hashes["plain"], hashes["type"], hashes["name"]}) == 3
