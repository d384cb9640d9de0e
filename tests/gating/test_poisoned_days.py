"""Real Parquet of the synthetic log: ordinary days pass, spoiled ones are refused for the right
reason, of their profiles alone."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.profile.split import profile_split
from data_pipelines.synthetic import FIRST_DATE, write_log
from marigold_rec.config import Config, load_config
from marigold_rec.config.data import SyntheticConfig
from marigold_rec.config.gate import GateConfig
from marigold_rec.gating import Profile, Verdict, judge_data, verdict_html, verdict_markdown

ROOT = Path(__file__).resolve().parents[2]
DAYS = 9
LOG = SyntheticConfig(days=DAYS, rows_per_day=6000, users=3000, items=500, seed=1)


def day(number: int) -> datetime.date:
    return FIRST_DATE + datetime.timedelta(days=number)


def profiled(config: Config, folder: Path, number: int) -> Profile:
    return profile_split(config, str(folder), (day(number), day(number)))


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(ROOT / "configs/ctr_cvr.yaml")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log") / "log"
    write_log(LOG, folder)
    return folder


@pytest.fixture(scope="module")
def before(config: Config, log: Path) -> list[Profile]:
    """Of all days but the last."""
    return [profiled(config, log, number) for number in range(DAYS - 1)]


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_ordinary_days_pass(tmp_path: Path, config: Config, seed: int):
    """Monday to Tuesday of the week after, each judged by those before it."""
    write_log(LOG.model_copy(update={"seed": seed}), tmp_path / "log")
    profiles = [profiled(config, tmp_path / "log", number) for number in range(DAYS)]
    for number, today in enumerate(profiles):
        verdict = judge_data(GateConfig(), today, profiles[:number])
        assert verdict.publish, (today.name, verdict.reasons)


Spoil = Callable[[pa.Table], pa.Table]


def flipped_labels(table: pa.Table) -> pa.Table:
    """A tenth of the clicks is another."""
    clicks = table.column("click").to_numpy().copy()
    chosen = np.random.default_rng(0).random(len(clicks)) < 0.1
    clicks[chosen] = 1 - clicks[chosen]
    return put(table, "click", pa.array(clicks))


def half_of_the_rows(table: pa.Table) -> pa.Table:
    return table.filter(pa.array(np.random.default_rng(0).random(table.num_rows) < 0.5))


def a_constant_feature(table: pa.Table) -> pa.Table:
    return put(table, "country", pa.array(["DE"] * table.num_rows))


def a_constant_number(table: pa.Table) -> pa.Table:
    return put(table, "duration_s", pa.array([60.0] * table.num_rows, pa.float32()))


def a_lost_join(table: pa.Table) -> pa.Table:
    return put(table, "device", pa.nulls(table.num_rows, pa.string()))


def empty_histories(table: pa.Table) -> pa.Table:
    empty = pa.array([[]] * table.num_rows, pa.list_(pa.int64()))
    return put(table, "history", empty)


def minutes_for_seconds(table: pa.Table) -> pa.Table:
    return put(table, "duration_s", pa.array(table.column("duration_s").to_numpy() / 60))


def ids_as_text(table: pa.Table) -> pa.Table:
    return put(table, "user_id", table.column("user_id").cast(pa.string()))


def no_conversions(table: pa.Table) -> pa.Table:
    return put(table, "conversion", pa.nulls(table.num_rows, pa.int8()))


def hours_are_missing(table: pa.Table) -> pa.Table:
    return table.filter(pa.array(table.column("hour").to_numpy() < 15))


def put(table: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


BAD: list[tuple[Spoil, str, str | None, str]] = [
    (flipped_labels, "data.max_label_shift", "ctr", "task ctr: share of positives 2"),
    (half_of_the_rows, "data.min_rows_share", None, "rows per day, 50% of the usual 6,000"),
    (a_constant_feature, "data.constant", "country", "column country is DE everywhere"),
    (a_constant_number, "data.constant", "duration_s", "column duration_s is 60.0 everywhere"),
    (a_lost_join, "data.max_null_rise", "device", "column device: 100.0% of the rows"),
    (empty_histories, "data.constant", "history", "column history is an empty list everywhere"),
    (minutes_for_seconds, "drift.max_psi", "duration_s", "look for another unit"),
    (ids_as_text, "data.types", "user_id", "column user_id is string, and was int64"),
    (no_conversions, "data.labels", "cvr", "column conversion has no valid label"),
    (hours_are_missing, "drift.max_psi", "hour", "hours, files or values that are missing"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "rule", "about", "said"), BAD, ids=[spoil.__name__ for spoil, *_ in BAD]
)
def test_a_spoiled_day_is_refused(
    tmp_path: Path,
    config: Config,
    log: Path,
    before: list[Profile],
    spoil: Spoil,
    rule: str,
    about: str | None,
    said: str,
):
    file = tmp_path / f"dt={day(DAYS - 1)}/part-00000.parquet"
    file.parent.mkdir()
    source = log / f"dt={day(DAYS - 1)}/part-00000.parquet"
    shutil.copy(source, file)
    assert judged(config, tmp_path, before).publish  # spoiled by nothing but what follows
    pq.write_table(spoil(pq.ParquetFile(source).read()), file)
    verdict = judged(config, tmp_path, before)
    assert not verdict.publish
    failed = {(c.rule, c.about): c for c in verdict.checks if c.result == "failed"}
    assert (rule, about) in failed, verdict.reasons
    assert said in failed[rule, about].sentence
    assert said in " ".join(verdict.reasons)


def judged(config: Config, folder: Path, before: list[Profile]) -> Verdict:
    return judge_data(GateConfig(), profiled(config, folder, DAYS - 1), before)


def test_markup_in_names_and_values_stays_text(tmp_path: Path):
    """From Parquet to the night's page."""
    name, value = "<script>alert(1)</script>", "<img src=x>|`*"
    config = Config.model_validate(
        {
            "features": [{"name": "bad", "kind": "hash", "rows": 9, "column": name}],
            "tasks": [{"name": "ctr", "kind": "binary", "label": "click"}],
        }
    )
    profiles = []
    for number in range(3):
        values = [value] * 300 if number == 2 else ["a", "b", "c"] * 100
        folder = tmp_path / f"dt={day(number)}"
        folder.mkdir()
        table = pa.table({name: values, "click": pa.array([0, 1, 0] * 100, pa.int8())})
        pq.write_table(table, folder / "part-0.parquet")
        profiles.append(profiled(config, tmp_path, number))
    verdict = judge_data(GateConfig(), profiles[2], profiles[:2])
    assert [check.about for check in verdict.checks if check.result == "failed"] == [name]
    assert name in verdict.reasons[0]
    html, markdown = verdict_html(verdict), verdict_markdown(verdict)
    for page in (html, markdown):
        assert "<script" not in page
        assert "<img" not in page
        assert "&lt;script&gt;" in page
        assert "&lt;img src=x&gt;" in page
