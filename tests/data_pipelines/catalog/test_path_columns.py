"""Columns that only the folders' names tell are read by every reader, as features and as ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_pipelines.catalog.pinned_schema import PinnedSchema
from data_pipelines.catalog.scan import ScanRules, scan
from data_pipelines.id_counts.occurrences import count_ids
from data_pipelines.preflight.columns import check_data, needed_columns
from data_pipelines.preflight.split import rules_of
from data_pipelines.profile.split import profile_split
from data_pipelines.reading.reader import ParquetReader
from data_pipelines.validate.split import validate_split
from marigold_rec.config import Config
from marigold_rec.config.data import SplitConfig
from marigold_rec.errors import DataError
from tests.support.parquet import click_log, log_config, write_file

ROWS = 60


@pytest.fixture
def logs(tmp_path: Path) -> tuple[Path, Path]:
    """The same rows with `country` and `shelf` in the files, and in the folders' names only."""
    whole = click_log(ROWS)
    whole = whole.set_column(
        whole.schema.get_field_index("shelf"), "shelf", pa.array([n // 20 for n in range(ROWS)])
    )
    names = ["br", "p t", None]
    whole = whole.set_column(
        whole.schema.get_field_index("country"),
        "country",
        pa.array([names[n // 20] for n in range(ROWS)]),
    )
    for n, folder in enumerate(["br", "p%20t", "__HIVE_DEFAULT_PARTITION__"]):
        part = whole.slice(20 * n, 20)
        write_file(tmp_path / f"inside/{n}.parquet", part)
        part = part.drop_columns(["country", "shelf"])
        write_file(tmp_path / f"path/shelf={n:02}/country={folder}/a.parquet", part)
    return tmp_path / "inside", tmp_path / "path"


def config() -> Config:
    tree = log_config().model_dump(mode="json")
    for feature in tree["features"]:
        if feature["name"] == "country":
            feature["values"] = ["br", "p t"]
    return Config.model_validate_json(Config.model_validate(tree, strict=False).model_dump_json())


def test_they_are_read_as_if_they_were_in_the_files(logs: tuple[Path, Path]):
    found = []
    for log in logs:
        catalog = scan(str(log), None, needed_columns(config()), rules_of(config()))
        assert check_data(catalog, config()) == []
        reader = ParquetReader(
            catalog, config(), rank=0, world_size=1, batch_size=ROWS, extra_columns=("country",)
        )
        found.append(next(reader.batches()))
    inside, path = found
    assert inside.columns["country"].to_pylist() == path.columns["country"].to_pylist()
    assert inside.columns["country"].null_count == 20
    np.testing.assert_array_equal(inside.sparse.values(), path.sparse.values())
    np.testing.assert_array_equal(inside.sparse.lengths(), path.sparse.lengths())


def test_the_other_readers(logs: tuple[Path, Path]):
    inside, path = (profile_split(config(), str(log)) for log in logs)
    assert inside.columns["country"] == path.columns["country"]
    assert inside.columns["shelf"].numbers == path.columns["shelf"].numbers
    split = SplitConfig(path=str(logs[1]))
    report, catalog = validate_split(
        config(), split, all_columns=False, progress=lambda done, of: None
    )
    assert report.problems == []
    assert catalog is not None
    assert count_ids(catalog, "country", pa.array(["br", "p t"])).tolist() == [20, 20]


def test_a_column_in_the_file_is_the_file_s(tmp_path: Path):
    write_file(tmp_path / "x=1/a.parquet", pa.table({"x": [7, 8]}))
    catalog = scan(str(tmp_path), None, ("x",))
    assert catalog.files[0].path_values == {}


def test_types(tmp_path: Path):
    for value in ("1", "02", "-3"):
        write_file(tmp_path / f"numbers/x={value}/a.parquet", pa.table({"y": [1]}))
        write_file(tmp_path / f"mixed/x={value}/a.parquet", pa.table({"y": [1]}))
    write_file(tmp_path / "mixed/x=9223372036854775808/a.parquet", pa.table({"y": [1]}))

    def kind(name: str, rules: ScanRules = ScanRules()) -> str:  # noqa: B008
        return str(scan(str(tmp_path / name), None, ("x", "y"), rules).schema.field("x").type)

    assert (kind("numbers"), kind("mixed")) == ("int64", "string")
    # As the config reads it, or as it is pinned.
    assert kind("numbers", ScanRules(path_texts=frozenset("x"))) == "string"
    assert kind("numbers", ScanRules(pinned=PinnedSchema("p", {"x": "string"}))) == "string"


def test_a_column_that_some_paths_lack_is_missing_there(tmp_path: Path):
    write_file(tmp_path / "x=1/a.parquet", pa.table({"y": [1]}))
    write_file(tmp_path / "x=2/a.parquet", pa.table({"y": [1]}))
    write_file(tmp_path / "z.parquet", pa.table({"y": [1]}))
    with pytest.raises(DataError, match=r"z.parquet: column 'x' is missing"):
        scan(str(tmp_path), None, ("x", "y"))
