"""Input checks: what they say of values that would ruin a model, and that sound ones pass."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from data_pipelines.catalog.scan import scan
from data_pipelines.inputs import InputChecks, InputTally, look_at_inputs
from data_pipelines.inputs.sample import spread_groups
from data_pipelines.preflight.columns import needed_columns
from data_pipelines.validate.__main__ import main
from marigold_rec.config import Config, dump_config
from tests.support.parquet import write_file

_ROWS = 4_000
_RNG = np.random.default_rng(0)
_CLICK = (_RNG.random(_ROWS) < 0.3).astype(np.int8)
_CTR = {"name": "ctr", "kind": "binary", "label": "click"}
_USER = {"name": "user", "kind": "hash", "rows": 50, "dim": 4}
_EVAL = {"dates": ["2024-01-02", "2024-01-02"]}


def _config(
    *features: Mapping[str, Any],
    tasks: tuple[Mapping[str, Any], ...] = (_CTR,),
    run: Mapping[str, Any] | None = None,
    **data: Any,
) -> Config:
    section = {"batch_size": 16, "eval": _EVAL, **data}
    tree = {"features": features, "tasks": tasks, "data": section, "run": run or {}}
    return Config.model_validate(tree)


def _checked(config: Config, *pieces: Mapping[str, Any], total_rows: int = _ROWS) -> InputChecks:
    tally = InputTally(config, None)
    for columns in pieces:
        table = pa.table({"click": _CLICK, **columns})
        tally.add(table)
    return tally.checks(total_rows, 1)


def _dense(name: str = "x", **settings: Any) -> dict[str, Any]:
    return {"name": name, "kind": "dense", **settings}


_MS = 1.7e12 + np.arange(_ROWS) * 1000.0
_SPENT = np.where(_RNG.random(_ROWS) < 0.2, _RNG.lognormal(8, 1.2, _ROWS), 0.0)

_BAD: dict[str, tuple[dict[str, Any], Any, tuple[str, ...]]] = {
    "epoch milliseconds": (
        _dense(),
        _MS,
        ("features.x: ", "1700000000000", "1700000001000", "Unix milliseconds, 2023-11-14"),
    ),
    "epoch seconds, log1p": (_dense(transform="log1p"), _MS / 1000, ("Unix seconds",)),
    "epoch nanoseconds": (_dense(), (_MS * 1e6).astype(np.int64), ("Unix nanoseconds",)),
    "prices": (
        _dense(),
        30 + _RNG.lognormal(5, 1, _ROWS),
        ("features.x: ", "set transform: log1p"),
    ),
    "ages": (
        _dense(),
        np.arange(_ROWS) % 90,
        ("reaches 89 ", "11 and 12", "standardize: {mean: 44.2, std: 26}", "kind: hash"),
    ),
    "gains, most of them 0": (_dense(), _SPENT, ("transform: log1p, standardize: {mean: ",)),
    "standardized by another column": (
        _dense(standardize={"mean": 0.0, "std": 0.01}),
        _RNG.random(_ROWS),
        ("standardize: {mean: 0.50",),
    ),
    "a fill that is no number of the column": (
        _dense(missing=-999.0),
        np.where(np.arange(_ROWS) < 40, np.nan, _RNG.random(_ROWS)),
        ("reaches -999 ", "40 of 4,000 rows"),
    ),
    "half missing": (
        _dense(),
        np.where(np.arange(_ROWS) % 2, np.nan, _RNG.random(_ROWS)),
        ("missing in 2,000 of 4,000 rows",),
    ),
    "all the same": (_dense(), np.full(_ROWS, 3.5), ("3.5 in all 4,000 rows",)),
    "clipped to one number": (
        _dense(clip=[0, 1]),
        5 + _RNG.random(_ROWS),
        ("1 in all 4,000 rows", "clip"),
    ),
    "rates of a thousandth": (
        _dense(),
        _RNG.random(_ROWS) / 1000,
        ("hardly moves", "set standardize: {mean: 0.000"),
    ),
    "a vocabulary of other letters": (
        {"name": "x", "kind": "vocab", "values": ["de", "fr"], "dim": 4},
        np.array(["DE", "FR"])[_CLICK],
        ("4,000 of 4,000 values (100.0%)", "'DE' and 'FR'", "'de' and 'fr'", "values"),
    ),
    "one frequent value left out": (
        {"name": "x", "kind": "vocab", "values": [1, 2], "dim": 4},
        np.where(np.arange(_ROWS) % 10, 1 + _CLICK, 7),
        ("400 of 4,000 values (10.0%)", "most often 7"),
    ),
    "lists of unknown values": (
        {"name": "x", "kind": "vocab", "values": ["a"], "dim": 4},
        pa.array([["b", "c"], ["c"], [], None] * (_ROWS // 4)),
        ("3,000 of 3,000 values", "'c' and 'b'"),
    ),
    "half of the ids are null": (
        {"name": "x", "kind": "hash", "rows": 50, "dim": 4},
        pa.array([None if i % 2 else i for i in range(_ROWS)]),
        ("missing in 2,000 of 4,000 rows", "0 and 2"),
    ),
    "all empty lists": (
        {"name": "x", "kind": "hash", "rows": 50, "dim": 4},
        pa.array([[]] * _ROWS, pa.list_(pa.int64())),
        ("no id in any of 4,000 rows",),
    ),
    "ids beyond the table, clamped": (
        {"name": "x", "kind": "id", "rows": 10, "dim": 4, "out_of_range": "clamp"},
        np.arange(_ROWS) % 40,
        ("3,000 of 4,000 ids (75.0%)", "10 and 11", "rows"),
    ),
    "ids beyond the table, dropped": (
        {"name": "x", "kind": "id", "rows": 10, "dim": 4, "out_of_range": "drop"},
        pa.array(np.arange(_ROWS) - 2_000, pa.int64()),
        ("3,990 of 4,000 ids", "-2000 and -1999"),
    ),
    "boundaries of another unit": (
        {"name": "x", "kind": "bucketize", "boundaries": [1, 5, 20], "dim": 4},
        500 + 100 * _RNG.random(_ROWS),
        ("into one row of the table", "boundaries"),
    ),
    "a column of one value": (
        {"name": "x", "kind": "hash", "rows": 50, "dim": 4},
        np.full(_ROWS, 8),
        ("8 in all 4,000 values",),
    ),
}


@pytest.mark.parametrize(("feature", "values", "said"), _BAD.values(), ids=_BAD.keys())
def test_a_column_that_ruins_a_model_is_named(
    feature: dict[str, Any], values: Any, said: tuple[str, ...]
) -> None:
    found = _checked(_config(feature), {"x": values})
    assert len(found.warnings) == 1
    [warning] = found.values
    for text in said:
        assert text in warning


_GOOD: list[tuple[dict[str, Any], Any]] = [
    (_dense(), _RNG.normal(0, 1, _ROWS)),
    (_dense(), _RNG.integers(0, 2, _ROWS)),
    (_dense(), _RNG.random(_ROWS) < 0.001),
    (_dense(transform="log1p"), _RNG.lognormal(5, 1, _ROWS)),
    (_dense(clip=[-3, 3]), np.where(np.arange(_ROWS) % 9, _RNG.normal(0, 9, _ROWS), np.inf)),
    ({"name": "x", "kind": "hash", "rows": 5, "dim": 4}, np.arange(_ROWS)),
    # A tail of rare values is what row 0 is for.
    (
        {"name": "x", "kind": "vocab", "values": list(range(80)), "dim": 4},
        np.where(np.arange(_ROWS) % 5, np.arange(_ROWS) % 80, np.arange(_ROWS) + 100),
    ),
    # New users have no history.
    (
        {"name": "x", "kind": "hash", "rows": 50, "dim": 4},
        pa.array([[], [], [1, 2], [3]] * (_ROWS // 4)),
    ),
    ({"name": "x", "kind": "bucketize", "boundaries": [3], "dim": 4}, np.arange(_ROWS) % 5),
    (
        {"name": "x", "kind": "id", "rows": 10, "dim": 4, "out_of_range": "clamp"},
        np.arange(_ROWS) % 12,
    ),
]


@pytest.mark.parametrize(("feature", "values"), _GOOD)
def test_sound_columns_pass(feature: dict[str, Any], values: Any) -> None:
    assert _checked(_config(feature), {"x": values}).warnings == ()


@pytest.mark.parametrize("case", ["ages", "prices", "gains, most of them 0"])
def test_the_advice_is_enough(case: str) -> None:
    """What it says to set is set: then there is nothing more to say."""
    feature, values, _ = _BAD[case]
    [warning] = _checked(_config(feature), {"x": values}).values
    advice = warning.partition("; set ")[2].partition(" (or")[0]
    changed = feature | yaml.safe_load("{" + advice + "}")
    assert changed != feature
    assert _checked(_config(changed), {"x": values}).warnings == ()


def test_figures_are_those_of_all_pieces() -> None:
    values = _RNG.lognormal(1, 1, (3, _ROWS))
    values[1, :70] = np.nan
    config = _config(_dense(transform="log1p", missing=2.0))
    [column] = _checked(config, *({"x": part} for part in values), total_rows=3 * _ROWS).dense
    wanted = np.log1p(np.where(np.isnan(values), 2.0, values))
    assert column.rows == 3 * _ROWS
    assert column.missing_share == 70 / (3 * _ROWS)
    found = (column.mean, column.std, column.least, column.greatest)
    expected = (wanted.mean(), wanted.std(), wanted.min(), wanted.max())
    assert found == pytest.approx(expected, rel=1e-6)
    [line] = [line for line in _checked(config, {"x": values[0]}).lines() if line.startswith("x ")]
    assert f"{np.log1p(values[0]).mean():.4g}" in line


def _labels(**task: Any) -> Config:
    return _config(tasks=({"name": "t", "kind": "binary", "label": "y", **task},))


_LABELS: dict[str, tuple[Config, dict[str, Any], str]] = {
    "all 0": (_labels(), {"y": np.zeros(_ROWS, int)}, "all 4,000 observed labels are 0"),
    "all 1": (_labels(), {"y": np.ones(_ROWS, int)}, "all 4,000 observed labels are 1"),
    "1 only where unobserved": (
        _labels(observed_if="click"),
        {"y": 1 - _CLICK},
        "holds 1 and 0",
    ),
    "never observed": (
        _labels(observed_if="seen"),
        {"y": _CLICK, "seen": np.full(_ROWS, 2)},
        "'seen' 2",
    ),
    "one watch time": (
        _labels(kind="duration"),
        {"y": np.full(_ROWS, 30.0)},
        "all 4,000 observed labels are 30",
    ),
}


@pytest.mark.parametrize(("config", "columns", "said"), _LABELS.values(), ids=_LABELS.keys())
def test_labels_that_teach_nothing_are_named(
    config: Config, columns: dict[str, Any], said: str
) -> None:
    [warning] = _checked(config, columns).values
    assert warning.startswith("tasks.t: ")
    assert said in warning


def test_a_class_that_a_sample_lacks_by_chance_is_not_missed() -> None:
    few = {"y": np.zeros(_ROWS, int)}
    assert _checked(_labels(), few, total_rows=10**6).values == ()
    assert len(_checked(_labels(), few, few, few, total_rows=10**6).values) == 1
    assert len(_checked(_labels(), {"y": np.ones(_ROWS, int)}, total_rows=10**6).values) == 1


class TestThePlan:
    def test_no_evaluation_is_told(self) -> None:
        config = _config(_dense(), eval=None)
        [warning] = _checked(config, {"x": _CLICK}).plan
        assert warning.startswith("data.eval: ")

    def test_too_few_steps_are_told_with_a_batch_that_gives_enough(self) -> None:
        config = _config(batch_size=2048)
        [warning] = _checked(config, total_rows=140_000).plan
        assert "69 steps" in warning
        size = int(warning.rpartition("data.batch_size: ")[2])
        assert _checked(_config(batch_size=size), total_rows=140_000).plan == ()

    def test_epochs_where_no_batch_is_small_enough(self) -> None:
        [warning] = _checked(_config(batch_size=64), total_rows=640).plan
        epochs = int(warning.rpartition("run.epochs: ")[2])
        enough = _config(batch_size=64, run={"epochs": epochs})
        assert _checked(enough, total_rows=640).plan == ()

    def test_ranks_share_the_steps(self) -> None:
        tally = InputTally(_config(), None)
        assert tally.checks(16 * 300, 1).plan == ()
        [warning] = tally.checks(16 * 300, 2).plan
        assert "150 steps (2 ranks" in warning

    def test_what_was_asked_for_is_no_mistake(self) -> None:
        assert _checked(_config(run={"steps": 4}), total_rows=1_000).plan == ()


class TestTheSample:
    def test_groups_are_spread_from_the_first_to_the_last(self) -> None:
        assert spread_groups([]) == []
        assert spread_groups([0, 5, 0]) == [1]
        assert spread_groups([100_000] * 1_000) == [0, 500, 999]
        found = spread_groups([1_000] * 1_000)
        assert (len(found), found[0], found[-1]) == (16, 0, 999)
        assert spread_groups([10**7, 10**7]) == [0, 1]

    def test_a_run_and_the_validator_say_the_same(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        feature, values, said = _BAD["epoch milliseconds"]
        table = pa.table({"click": _CLICK, "user": np.arange(_ROWS), "x": values})
        write_file(tmp_path / "log/dt=2024-01-01/part-0.parquet", table, 500)
        config = _config(_USER, feature, train={"dates": ["2024-01-01", "2024-01-01"]})
        (tmp_path / "config.yaml").write_text(dump_config(config))
        catalog = scan(str(tmp_path / "log"), columns=needed_columns(config))
        found = look_at_inputs(catalog, config, None, 1)
        assert found.rows == _ROWS
        arguments = [str(tmp_path / "log"), "--config", str(tmp_path / "config.yaml")]
        report = tmp_path / "report.json"
        assert main([*arguments, "--json", str(report)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [f"warning: {text}" for text in found.warnings] == [
            line for line in lines if line.startswith("warning: features.")
        ]
        assert "good" not in lines[-1]
        tree = json.loads(report.read_text())
        assert (tree["is_good"], tree["is_refused"]) == (False, False)
        assert said[1] in tree["inputs"]["values"][0]

    def test_the_validator_calls_sound_values_good(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        columns = {"user": np.arange(_ROWS), "x": _RNG.normal(0, 1, _ROWS)}
        table = pa.table({"click": _CLICK, **columns})
        write_file(tmp_path / "log/dt=2024-01-01/part-0.parquet", table, 500)
        days = {"dates": ["2024-01-01", "2024-01-01"]}
        config = _config(_USER, _dense(), batch_size=4_000, train=days)
        (tmp_path / "config.yaml").write_text(dump_config(config))
        arguments = [str(tmp_path / "log"), "--config", str(tmp_path / "config.yaml")]
        assert main(arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == "good"
        # Too few steps are no fault of the log.
        assert any(line.startswith("warning: run.epochs") for line in lines)

    def test_sorted_rows_are_seen_to_their_end(self, tmp_path: Path) -> None:
        rows = 200_000
        values = np.where(np.arange(rows) < rows - 100, 0.5, 1e6) + np.arange(rows) / rows
        table = pa.table({"click": np.arange(rows) % 3 == 0, "x": values})
        write_file(tmp_path / "log/part-0.parquet", table, rows)
        config = _config(_dense())
        catalog = scan(str(tmp_path / "log"), columns=needed_columns(config))
        [warning] = look_at_inputs(catalog, config, None, 1).values
        assert "1e+06" in warning or "1,000,00" in warning

    def test_a_row_group_that_cannot_be_read_is_a_finding(self, tmp_path: Path) -> None:
        table = pa.table({"click": _CLICK, "x": _RNG.normal(0, 1, _ROWS)})
        file = tmp_path / "log/part-0.parquet"
        write_file(file, table, 2_000)
        config = _config(_dense())
        catalog = scan(str(tmp_path / "log"), columns=needed_columns(config))
        data = bytearray(file.read_bytes())
        data[200:300] = bytes(100)
        state = file.stat()
        file.write_bytes(data)
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
        found = look_at_inputs(catalog, config, None, 1)
        assert found.rows == 2_000
        [warning] = found.values
        assert "part-0.parquet row group 0" in warning
        assert "not looked at" in warning
