"""Logs that real writers produce, each through every command: a table of what is expected.

The logs are made by a script that stands beside the repository (see `_SCRIPT`); without it there is
nothing to test. A folder of the script that the table lacks is told by `test_every_folder_is_here`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from data_pipelines.validate.__main__ import main as validate
from marigold_rec.errors import EXIT_DATA, EXIT_DONE, EXIT_NOT_PUBLISHED
from marigold_rec.serving import Predictor
from marigold_rec.serving.parquet_scoring import score_parquet
from tests.support.launches import PATIENT, codes, launch_train
from tests.support.nightly import Nightly

_SCRIPT = Path(__file__).resolve().parents[3] / "shared" / "inputs" / "make_odd_logs.py"
pytestmark = pytest.mark.skipif(
    not _SCRIPT.exists(), reason=f"the odd logs' script is not at hand ({_SCRIPT})"
)
_TRAIN_DAY, _EVAL_DAY = "2024-01-01", "2024-01-02"
_LAUNCHERS = {1: [], 2: ["-m", "torch.distributed.run", "--nproc-per-node", "2"]}
# The labels are noise: a model of them is no better than a constant.
_GATE = {
    name: {"auc": None, "ne": None, "calibration": None}
    for name in ("ctr", "cvr", "cvr over all rows")
}


@dataclass(frozen=True)
class Expected:
    """How the commands end, and what they say."""

    refused: tuple[str, ...] = ()
    """By validator, dry run, training and night; none: all work, evaluation and scoring too."""
    said: tuple[str, ...] = ()
    """By a validator that refuses nothing."""
    run_said: tuple[str, ...] = ()
    """By a dry run that refuses nothing, of the training's day."""
    night_said: tuple[str, ...] = ()
    night_code: int | None = None
    """Of a refused one, where it is the gate that refuses it first."""
    gate_data: dict[str, Any] = field(default_factory=dict)
    """Its limits on data, where they are not the default ones."""
    slices: tuple[str, ...] = ("country",)
    weight: str | None = None
    dense: tuple[str, ...] = ()
    """Columns that a user takes as they are, beside the price."""
    rows: int = 4000
    """Of all days together."""


TABLE = {
    "almost_one_label": Expected(
        refused=("0.9999999", "ctr", "labels"), night_code=EXIT_NOT_PUBLISHED
    ),
    "binary_user": Expected(),
    "decimal_id": Expected(slices=("item_id", "country")),
    "decimal_label": Expected(),
    "delta_folder": Expected(refused=("delta_folder", "Delta Lake", "export its live rows")),
    "dotted_sibling": Expected(),
    "duplicate_column": Expected(said=("extra", "2 times")),
    "encrypted_footer": Expected(refused=("part-0.parquet", "is encrypted", "unencrypted")),
    "int64_then_int32": Expected(),
    "null_typed_column_first": Expected(said=("country", "missing"), run_said=("country",)),
    "null_typed_column_second": Expected(
        # A day that lost all values is the gate's to refuse; its column's type is not.
        said=("country", "missing"),
        gate_data={"max_null_rise": None, "constant": False},
    ),
    "path_only_partition": Expected(),
    "stray_future_day": Expected(night_said=("2099-01-01 is after tomorrow",), rows=4100),
    "string_then_large_string": Expected(),
    "string_view": Expected(),
    "symlinked_files": Expected(said=("2 other files are not read", "blob-0")),
    "timestamp_day_folders": Expected(),
    "underscore_partition": Expected(),
    "unix_ms_as_dense": Expected(
        said=("features.ts", "1.7e+12"), run_said=("features.ts", "1.7e+12"), dense=("ts",)
    ),
    "zero_weights": Expected(refused=("'w'", "are 0 in float32"), weight="w"),
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("odd") / "logs"
    subprocess.run([sys.executable, str(_SCRIPT), str(out)], check=True, capture_output=True)
    return out


def config_tree(log: Path, folder: Path, expected: Expected) -> dict[str, Any]:
    dense = [{"name": name, "kind": "dense"} for name in expected.dense]
    return {
        "run": {"name": "odd", "dir": str(folder / "runs"), "device": "cpu", "seed": 3},
        "data": {
            "path": str(log),
            "train": {"dates": [_TRAIN_DAY, _TRAIN_DAY]},
            "eval": {"dates": [_EVAL_DAY, _EVAL_DAY]},
            "batch_size": 200,
            "weight": expected.weight,
        },
        "features": [
            {"name": "user_id", "kind": "hash", "rows": 300, "dim": 4},
            {"name": "item_id", "kind": "hash", "rows": 900, "dim": 4, "table": "item"},
            {"name": "hist", "kind": "hash", "table": "item", "pooling": "mean"},
            {"name": "country", "kind": "vocab", "values": ["DE", "FR", "US"], "dim": 4},
            {"name": "price", "kind": "dense", "transform": "log1p"},
            *dense,
        ],
        "tasks": [
            {"name": "ctr", "kind": "binary", "label": "click"},
            {"name": "cvr", "kind": "binary", "label": "buy", "given": "ctr"},
        ],
        "model": {
            "trunk": {"name": "mmoe", "experts": 2, "expert_layers": [8]},
            "tower_layers": [4],
        },
        "evaluation": {"user": "user_id", "item": "item_id", "slices": list(expected.slices)},
        "logging": {"tensorboard": False},
    }


def write(tree: dict[str, Any], config: Path) -> Path:
    config.write_text(yaml.safe_dump(tree))
    return config


@pytest.mark.parametrize("name", TABLE)
def test_validator(name: str, logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    expected = TABLE[name]
    tree = config_tree(logs / name, tmp_path, expected)
    code = validate([str(logs / name), "--config", str(write(tree, tmp_path / "config.yaml"))])
    said = "".join(capsys.readouterr())
    assert code == (EXIT_DATA if expected.refused else EXIT_DONE), said
    assert all(text in said for text in (*expected.refused, *expected.said)), said
    if not expected.refused:
        assert f"{expected.rows:,} rows" in said


@pytest.mark.slow
@pytest.mark.parametrize("num_ranks", [1, 2])
@pytest.mark.parametrize("name", TABLE)
def test_dry_run_training_night_and_scoring(name: str, num_ranks: int, logs: Path, tmp_path: Path):
    """A night trains, evaluates and exports with a person's own commands: one model does for all.

    What is refused is refused by a training that a person starts, too.
    """
    expected = TABLE[name]
    tree = config_tree(logs / name, tmp_path, expected)
    config = write(tree, tmp_path / "config.yaml")
    code = EXIT_DATA if expected.refused else EXIT_DONE
    for arguments in (("--dry-run",), ()) if expected.refused else (("--dry-run",),):
        ended = launch_train(config, *arguments, PATIENT, num_ranks=num_ranks)
        assert codes(ended) == [code] * num_ranks
        assert all(text in ended[0].said for text in (*expected.refused, *expected.run_said))
    launcher = [sys.executable, *_LAUNCHERS[num_ranks]]
    tree["nightly"] = {"launcher": launcher, "export": "fp32"}
    tree["nightly"]["gate"] = {"tasks": _GATE, "data": expected.gate_data}
    tree["run"]["name"] = "nightly"
    del tree["data"]["train"], tree["data"]["eval"]
    config = write(tree, tmp_path / "nightly.yaml")
    night = Nightly(config, "--date", "auto", log=tmp_path / "night.log")
    assert night.wait(300) == (expected.night_code or code)
    said = (tmp_path / "night.log").read_text()
    assert all(text in said for text in (*expected.refused, *expected.night_said))
    if expected.refused:
        return
    folder = tmp_path / "runs" / "nightly" / "nights" / _EVAL_DAY
    # No row is left out, whatever the folders and files are called.
    assert "training train: 2,000 rows" in said
    assert json.loads((folder / "evaluation" / "report.json").read_text())["data"]["rows"] == 2000
    # Columns that go through are written as what they mean, whatever the files' own types.
    out = tmp_path / "scores.parquet"
    through = ["item_id", "country"]
    scored = score_parquet(Predictor(folder / "artefact"), logs / name, out, through)
    assert scored.rows == expected.rows
    assert pq.read_table(out).column_names[:2] == through


def test_every_folder_is_here(logs: Path):
    assert {path.name for path in logs.iterdir()} == set(TABLE)
