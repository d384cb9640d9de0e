"""The files: the same bytes for the same config, days that don't know of later days, layout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from data_pipelines.synthetic import GENERATOR_VERSION, write_log
from marigold_rec.config.data import SyntheticConfig
from marigold_rec.errors import DataError
from tests.data_pipelines.synthetic.logs import Log, contents, files, read

CONFIG = SyntheticConfig(days=2, rows_per_day=2_000, users=200, items=50)


def test_same_config_same_bytes_in_another_process(tmp_path: Path) -> None:
    write_log(CONFIG, tmp_path / "here")
    code = (
        "import sys; from pathlib import Path\n"
        "from data_pipelines.synthetic import write_log\n"
        "from marigold_rec.config.data import SyntheticConfig\n"
        "write_log(SyntheticConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]))"
    )
    arguments = [sys.executable, "-c", code, CONFIG.model_dump_json(), str(tmp_path / "there")]
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run(arguments, check=True, env=environment, cwd=Path(__file__).parents[3])
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_another_seed_gives_other_rows(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_log(CONFIG.model_copy(update={"seed": seed}), tmp_path / str(seed))
    first, second = read(tmp_path / "1"), read(tmp_path / "2")
    for name in ("user_id", "item_id", "click", "event_time_ms", "country", "history"):
        assert not first[name].equals(second[name]), name


def test_a_day_does_not_depend_on_later_days(tmp_path: Path) -> None:
    write_log(CONFIG, tmp_path / "two")
    write_log(CONFIG.model_copy(update={"days": 4}), tmp_path / "four")
    two, four = contents(tmp_path / "two"), contents(tmp_path / "four")
    two.pop("_truth/meta.json")
    assert len(two) == 4
    assert all(four[name] == data for name, data in two.items())


def test_layout(log: Log) -> None:
    names = [file.parent.name for file in files(log.folder)]
    assert names == ["dt=2024-01-01", "dt=2024-01-02", "dt=2024-01-03", "dt=2024-01-04"]
    assert [file.parent.name for file in files(log.folder / "_truth")] == names
    for file in files(log.folder):
        with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            groups = [parquet.metadata.row_group(g) for g in range(parquet.num_row_groups)]
            assert [group.num_rows for group in groups] == [20_000, 10_000]
            assert groups[0].column(0).compression == "ZSTD"


def test_pages_carry_checksums(tmp_path: Path) -> None:
    write_log(CONFIG, tmp_path / "log")
    file = files(tmp_path / "log")[0]
    chunk = pq.ParquetFile(file).metadata.row_group(0).column(3)
    data = bytearray(file.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(OSError, match=r"(?i)crc|checksum"):
        pq.ParquetFile(file, page_checksum_verification=True).read()


def test_a_reader_of_the_log_does_not_see_the_truth(log: Log) -> None:
    seen = ds.dataset(log.folder, partitioning="hive")
    assert seen.count_rows() == len(log.rows)
    assert not {"p_click", "watch_log_mean"} & set(seen.schema.names)


def test_columns_and_nulls(log: Log) -> None:
    table = read(log.folder)
    assert table.schema.field("history").type == pa.list_(pa.int64())
    assert table.schema.field("country").type == table.schema.field("device").type == pa.string()
    clicked = log.rows.click == 1
    nulls = {
        "conversion": ~clicked,
        "watch_time_s": ~clicked,
        "watch_censored": ~clicked,
        "conversion_time_ms": log.rows.conversion != 1,
    }
    for name in table.column_names:
        expected = nulls.get(name, pd.Series(np.zeros(len(log.rows), bool)))
        assert (table[name].is_null().to_numpy() == expected.to_numpy()).all(), name
    for name in ("click", "conversion", "watch_censored"):
        assert set(table[name].drop_null().to_pylist()) == {0, 1}


def test_order_and_ids(tiny_log: Log) -> None:
    rows = tiny_log.rows
    assert (rows.row_id == np.arange(len(rows))).all()
    assert (tiny_log.truth.row_id == rows.row_id).all()
    assert rows.event_time_ms.is_monotonic_increasing
    dates = pd.to_datetime(rows.event_time_ms, unit="ms")
    assert (
        dates.dt.normalize() == pd.Timestamp("2024-01-01") + pd.to_timedelta(rows.day, "D")
    ).all()
    assert (rows.hour == dates.dt.hour).all()
    assert (rows.weekday == dates.dt.day_of_week).all()
    requests = rows.groupby("request_id")
    for name in ("event_time_ms", "user_id", "country", "device", "user_clicks"):
        assert (requests[name].nunique() == 1).all(), name
    assert (rows.pos == requests.cumcount()).all()
    assert rows.pos.max() == 4
    assert requests.ngroups == rows.event_time_ms.nunique()


def test_ids_are_sparse(log: Log) -> None:
    for name, known in (("user_id", log.config.users), ("item_id", log.config.items)):
        ids = np.sort(log.rows[name].unique())
        assert ids[0] >= 0
        assert len(ids) > known / 2
        assert ids[-1] > 2**62
        assert np.diff(ids).min() > 2**20


def test_meta_tells_the_parameters(log: Log) -> None:
    meta = json.loads((log.folder / "_truth" / "meta.json").read_text())
    assert meta["generator_version"] == GENERATOR_VERSION
    assert SyntheticConfig.model_validate(meta["config"]) == log.config
    assert meta["factor_correlation"] == 0.5
    assert len(meta["coefficients"]["hour_H3"]) == 24


def test_refuses_a_folder_with_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="needs a new or empty folder"):
        write_log(CONFIG, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    "extreme",
    [
        {"rows_per_day": 100, "users": 10, "items": 10},
        {"cold_share": 0.0},
        {"cold_share": 1.0},
        {"click_rate": 1e-6},
        {"click_rate": 0.999, "conversion_rate": 0.999, "conflict": 1.0},
    ],
)
def test_extremes_are_written(extreme: dict[str, float], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update=extreme)
    write_log(config, tmp_path / "log")
    assert len(read(tmp_path / "log")) == config.days * config.rows_per_day
