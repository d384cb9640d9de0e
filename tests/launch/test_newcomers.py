"""Logs that nobody here had seen, under the configs that a new user would write for them.

Raw numbers, values that are spelled otherwise, ids as numbers, steps of thousands of rows: each of
these mistakes gives a model that is worth nothing and an exit code of 0. The dry run says them all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pat
import pytest

from tests.support.launches import PATIENT, Ended, launch_train, summary
from tests.support.runs import write_config

_LOGS = Path(__file__).resolve().parents[3] / "shared/data"


def _hash(name: str, rows: int = 1_000, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "hash", "rows": rows, "dim": 8, **more}


def _vocab(name: str, *values: str) -> dict[str, Any]:
    return {"name": name, "kind": "vocab", "values": list(values), "dim": 4}


def _dense(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "kind": "dense"} for name in names]


def _task(label: str, **settings: str) -> dict[str, Any]:
    return {"name": label, "kind": "binary", "label": label, **settings}


def _config(
    log: str, folder: Path, features: list[dict[str, Any]], tasks: list[dict[str, Any]], **data: Any
) -> Path:
    path = _LOGS / log
    if not path.is_dir():
        pytest.skip(f"needs the log {path}")
    splits = {split: {"path": str(path / split)} for split in ("train", "eval")}
    tree = {
        "run": {"name": log, "dir": str(folder / "runs"), "device": "cpu"},
        "data": {**splits, "batch_size": 2_048, **data},
        "features": features,
        "tasks": tasks,
        "distributed": {"threads_per_rank": 1},
    }
    return write_config(tree, folder / "config.yaml")


def _hillstrom(folder: Path) -> Path:
    features = [
        *_dense("recency", "history", "mens", "womens", "newbie"),
        _vocab("zip_code", "Urban", "Suburban", "Rural"),
        _vocab("channel", "Web", "Phone", "Multi"),
        _vocab("segment", "Mens Email", "Womens Email", "No Email"),
    ]
    return _config(
        "hillstrom", folder, features, [_task("visit"), _task("conversion", given="visit")]
    )


def _warnings(ended: Ended) -> dict[str, str]:
    """Setting -> what was said of it."""
    lines = [line.partition(" WARNING ")[2] for line in ended.said.splitlines()]
    return {key: text for key, _, text in (line.partition(": ") for line in lines if line)}


def _dry_run(config: Path) -> dict[str, str]:
    [ended] = launch_train(config, "--dry-run", PATIENT, num_ranks=1)
    assert ended.code == 0
    assert "dense columns after their transforms" in ended.said
    assert "synthetic" not in ended.said, "each split names its path"
    return _warnings(ended)


def test_raw_numbers_and_no_evaluation_of_census(tmp_path: Path) -> None:
    schema: pa.Schema = pq.read_schema(_needed("census") / "train/part-0.parquet")
    labels = {"income", "never_married"}
    names = [name for name in schema.names if name not in {*labels, "instance_weight"}]
    numbers = [name for name in names if pat.is_integer(schema.field(name).type)]
    features = _dense(*numbers) + [_hash(name) for name in names if name not in numbers]
    tasks = [_task(label) for label in sorted(labels)]
    config = _config("census", tmp_path, features, tasks, weight="instance_weight", eval=None)
    said = _dry_run(config)
    small = {"num_emp", "own_or_self", "vet_benefits"}
    assert {key for key in said if key.startswith("features.")} == {
        f"features.{name}" for name in numbers if name not in small
    }
    assert "standardize: {mean: 34.7, std: 22.4}" in said["features.age"]
    assert "38 and 44" in said["features.age"]
    assert "transform: log1p" in said["features.capital_gains"]
    assert "data.eval.path" in said["data.eval"]
    assert "24 steps" in said["run.epochs"]
    assert not any(key.startswith("tasks.") for key in said)


def test_raw_numbers_and_values_of_other_letters_of_hillstrom(tmp_path: Path) -> None:
    said = _dry_run(_hillstrom(tmp_path))
    assert said.keys() == {
        *(f"features.{name}" for name in ("recency", "history", "zip_code", "channel", "segment")),
        "run.epochs",
    }
    assert "set transform: log1p" in said["features.history"]
    assert "100.0%" in said["features.segment"]
    assert "'Womens E-Mail' and 'Mens E-Mail'" in said["features.segment"]
    for name, found, listed in (
        ("zip_code", "'Surburban'", "'Suburban'"),
        ("channel", "'Multichannel'", "'Multi'"),
    ):
        assert said[f"features.{name}"].index(found) < said[f"features.{name}"].index(listed)
    assert "16 steps" in said["run.epochs"]


def test_ids_as_numbers_and_labels_of_one_class_of_yandex(tmp_path: Path) -> None:
    features = [
        _hash("query", 100_000),
        _hash("serp", 100_000, pooling="mean"),
        *_dense("doc", "pos"),
    ]
    said = _dry_run(
        _config("yandex", tmp_path, features, [_task("click", observed_if="last_click")])
    )
    assert said.keys() == {"features.doc", "tasks.click", "run.epochs"}
    assert "kind: hash" in said["features.doc"]
    assert "observed labels are 1 " in said["tasks.click"]
    assert "121 steps" in said["run.epochs"]


def test_a_run_says_the_same_and_judges_its_end(tmp_path: Path) -> None:
    config = _hillstrom(tmp_path)
    told = _dry_run(config)
    [ended] = launch_train(config, PATIENT, num_ranks=1)
    assert ended.code == 0
    warnings = summary(tmp_path / "runs/hillstrom")["warnings"]
    assert warnings[: len(told)] == [f"{key}: {text}" for key, text in told.items()]
    rest = warnings[len(told) :]
    [loss] = [text for text in rest if "visit: loss" in text]
    assert loss.startswith("step 1: ")
    assert loss.index("history reaches") < loss.index("optimizer.*.lr")
    assert any("visit: evaluation: AUC" in text and "worse than chance" in text for text in rest)
    assert any("visit: evaluation: NE" in text for text in rest)
    assert all(text in ended.said for text in rest)


def _needed(log: str) -> Path:
    if not (_LOGS / log).is_dir():
        pytest.skip(f"needs the log {_LOGS / log}")
    return _LOGS / log
