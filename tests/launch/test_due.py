"""Training on one label window and evaluating on the next, by launch/train.py and evaluate.py."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.support.launches import (
    PATIENT,
    codes,
    launch_evaluate,
    launch_train,
    strict_json,
    summary,
)
from tests.support.runs import click_log, config_tree, write_config, write_days

_DAYS = [datetime.date(2024, 1, day) for day in (1, 2, 3, 4)]
_ROWS = 1200
_HOUR_MS = 3_600_000
_SETTINGS = (
    "data.time=at",
    "data.time_unit=ms",
    "tasks.cvr.matures_h=48",
    "tasks.cvr.event_time=bought_ms",
    "data.train={dates: [2024-01-01, 2024-01-03], due: [2024-01-03, 2024-01-04]}",
    "data.eval={dates: [2024-01-02, 2024-01-04], due: [2024-01-04, 2024-01-05]}",
    PATIENT,
)


def _day(day: datetime.date, seed: int) -> pa.Table:
    """Every other conversion comes after its window of 48 hours."""
    table = click_log(_ROWS, seed)
    first = int(datetime.datetime.combine(day, datetime.time(tzinfo=datetime.UTC)).timestamp())
    at_ms = first * 1000 + np.arange(_ROWS) * (24 * _HOUR_MS // _ROWS)
    converted = table.column("conversion").fill_null(0).to_numpy() == 1
    delay_ms = np.where(np.arange(_ROWS) % 2, 1, 49) * _HOUR_MS
    table = table.append_column("at", pa.array(at_ms))
    return table.append_column("bought_ms", pa.array(at_ms + delay_ms, mask=~converted))


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    return {str(day): _day(day, seed) for seed, day in enumerate(_DAYS)}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, tables: dict[str, pa.Table]) -> Path:
    """Beside it is a trained run; not to be written to but by further starts of it."""
    folder = tmp_path_factory.mktemp("due")
    data = write_days(folder / "log", tables, row_group_rows=200)
    config = write_config(config_tree(data, folder / "runs"), folder / "config.yaml")
    ended = launch_train(config, *_SETTINGS)
    assert codes(ended) == [0, 0], ended[0].said
    assert "1 files hold no label that is due and are not read" in ended[0].said
    return config


def _clicks(table: pa.Table) -> int:
    return int(table.column("click").to_numpy().sum())


def _late(table: pa.Table) -> int:
    times = table.to_pandas()
    return int((times["bought_ms"] > times["at"] + 48 * _HOUR_MS).sum())


def test_only_due_labels_are_learned_and_judged(config: Path, tables: dict[str, pa.Table]) -> None:
    found = summary(config.parent / "runs/test")
    first, second, third, fourth = tables.values()
    # By blocks, each counted once on the rank that reads it; so all of them.
    assert found["data/counts"] == {
        "not_due/ctr": _ROWS,
        "not_due/cvr": _clicks(third),
        "not_due/watch_time": _clicks(first),
        "late/cvr": _late(first),
    }
    assert found["eval/rows/ctr"] == _ROWS
    assert found["eval/rows/watch_time"] == _clicks(fourth)
    assert found["eval/rows/cvr"] == _clicks(second)
    assert found["eval/counts"]["late/cvr"] == _late(second) > 0


def test_a_report_of_a_window(config: Path, tables: dict[str, pa.Table], tmp_path: Path) -> None:
    run = config.parent / "runs/test"
    ended = launch_evaluate(
        "--checkpoint", str(run), "--baseline", str(run), "--out", str(tmp_path),
        "evaluation={user: user, item: item}",
    )  # fmt: skip
    assert codes(ended) == [0], ended[0].said
    report = strict_json((tmp_path / "report.json").read_text())
    rows = {task["name"]: task["rows"] for task in report["tasks"]}
    _, second, _, fourth = tables.values()
    assert rows == {"ctr": _ROWS, "cvr": _clicks(second), "watch_time": _clicks(fourth)}
    said = "\n".join(report["warnings"])
    assert "no figures of cvr over all rows: in a window of due labels" in said
    assert "those of training data" not in said
    conversions = next(task for task in report["tasks"] if task["name"] == "cvr")["positives"]
    converted = second.column("conversion").fill_null(0).to_numpy().sum()
    assert conversions == converted - _late(second)


def test_a_resume_with_another_window_is_refused(config: Path) -> None:
    other = "data.train.due=[2024-01-02, 2024-01-04]"
    ended = launch_train(config, *_SETTINGS, other, num_ranks=2)
    assert codes(ended) == [5, 5]
    assert "data.train.due: ['2024-01-03T00:00:00Z', '2024-01-04T00:00:00Z'] then, " in (
        ended[0].said
    )
    assert codes(launch_train(config, *_SETTINGS)) == [0, 0]


def test_a_wrong_unit_is_refused_with_what_was_found(config: Path) -> None:
    ended = launch_train(config, *_SETTINGS, "data.time_unit=s", "run.name=other")
    assert codes(ended) == [3, 3]
    assert "due: no label of any task becomes due from 2024-01-03T00:00:00+00:00 to " in (
        ended[0].said
    )
    ended = launch_train(config, *_SETTINGS, "data.time_unit=null", "run.name=other")
    assert codes(ended) == [3, 3]
    assert "set data.time_unit to s, ms, us or ns (since 1970, UTC)" in ended[0].said
