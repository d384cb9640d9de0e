"""The real log, day by day under the default limits: its days pass, spoiled ones do not."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.profile.split import profile_split
from marigold_rec.config import Config, load_config
from marigold_rec.config.gate import GateConfig
from marigold_rec.gating import Profile, judge_data

ROOT = Path(__file__).resolve().parents[2]
GLOBO = ROOT.parent / "shared/data/globo"

pytestmark = pytest.mark.slow
if not GLOBO.exists():
    pytest.skip(f"the real log is not at {GLOBO}", allow_module_level=True)


def day(number: int) -> datetime.date:
    return datetime.date(2017, 10, number)


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(ROOT / "configs/globo.yaml")


@pytest.fixture(scope="module")
def profiles(config: Config) -> list[Profile]:
    return [profile_split(config, str(GLOBO), (day(n), day(n))) for n in range(1, 14)]


@pytest.mark.timeout(600)
def test_thirteen_ordinary_days_pass(profiles: list[Profile]):
    for number, today in enumerate(profiles):
        verdict = judge_data(GateConfig(), today, profiles[:number])
        assert verdict.publish, (today.name, verdict.reasons)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [5, 10, 12])
def test_three_spoiled_days_do_not(
    tmp_path: Path, config: Config, profiles: list[Profile], number: int
):
    table = pq.ParquetFile(GLOBO / f"dt={day(number)}/part-00000.parquet").read()
    rng = np.random.default_rng(0)
    clicks = table.column("click").to_numpy().copy()
    chosen = rng.random(len(clicks)) < 0.1
    clicks[chosen] = 1 - clicks[chosen]
    spoiled = {
        ("data.max_label_shift", "ctr"): put(table, "click", pa.array(clicks)),
        ("data.min_rows_share", None): table.filter(pa.array(rng.random(len(table)) < 0.5)),
        ("data.constant", "region"): put(
            table, "region", pa.array(np.full(len(table), 3, np.int16))
        ),
    }
    file = tmp_path / f"dt={day(number)}/part-0.parquet"
    file.parent.mkdir()
    for reason, rows in spoiled.items():
        pq.write_table(rows, file, row_group_size=50_000)
        today = profile_split(config, str(tmp_path), (day(number), day(number)))
        verdict = judge_data(GateConfig(), today, profiles[: number - 1])
        failed = {(c.rule, c.about) for c in verdict.checks if c.result == "failed"}
        assert reason in failed, verdict.reasons


def put(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)
