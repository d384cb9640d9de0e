"""Logs that real writers produce, each through every command: a table of what is expected.

The logs are made by a script that stands beside the repository (see `_SCRIPT`); without it there is
nothing to test. A folder of the script that the table lacks is told by `test_every_folder_is_here`.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from data_pipelines.validate.__main__ import main as validate
from marigold_rec.errors import EXIT_DATA, EXIT_DONE
from marigold_rec.serving import Predictor
from marigold_rec.serving.parquet_scoring import score_parquet
from tests.launch.test_export import export
from tests.support.launches import PATIENT, codes, launch_evaluate, launch_train

_SCRIPT = Path(__file__).resolve().parents[3] / "shared" / "inputs" / "make_odd_logs.py"
pytestmark = pytest.mark.skipif(
    not _SCRIPT.exists(), reason=f"the odd logs' script is not at hand ({_SCRIPT})"
)


@dataclass(frozen=True)
class Expected:
    """How the commands end, and what they say."""

    refused: tuple[str, ...] = ()
    """By validator, dry run and training; none: all work, and evaluation and scoring too."""
    said: tuple[str, ...] = ()
    """By a validator that refuses nothing."""
    slices: tuple[str, ...] = ("country",)
    settings: tuple[str, ...] = field(default=())


TABLE = {
    "almost_one_label": Expected(refused=("click", "0.9999999", "max_invalid_labels")),
    "binary_user": Expected(),
    "decimal_id": Expected(slices=("item_id", "country")),
    "decimal_label": Expected(),
    "dotted_sibling": Expected(),
    "duplicate_column": Expected(said=("extra", "2 times")),
    "int64_then_int32": Expected(),
    "null_typed_column_first": Expected(said=("country", "missing")),
    "null_typed_column_second": Expected(said=("country", "missing")),
    "string_then_large_string": Expected(),
    "string_view": Expected(),
    "zero_weights": Expected(refused=("'w'", "are 0 in float32"), settings=("data.weight=w",)),
}
ELSEWHERE = {
    "delta_folder", "encrypted_footer", "path_only_partition", "stray_future_day",
    "symlinked_files", "timestamp_day_folders", "underscore_partition", "unix_ms_as_dense",
}  # fmt: skip
"""Folders whose faults are those of names and values: see test_listing.py and test_inputs.py."""


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("odd") / "logs"
    subprocess.run([sys.executable, str(_SCRIPT), str(out)], check=True, capture_output=True)
    return out


def write_config(log: Path, folder: Path, slices: tuple[str, ...] = ()) -> Path:
    tree = {
        "run": {"name": "odd", "dir": str(folder / "runs"), "device": "cpu", "seed": 3},
        "data": {
            "path": str(log),
            "train": {"dates": ["2024-01-01", "2024-01-01"]},
            "eval": {"dates": ["2024-01-02", "2024-01-02"]},
            "batch_size": 200,
        },
        "features": [
            {"name": "user_id", "kind": "hash", "rows": 300, "dim": 4},
            {"name": "item_id", "kind": "hash", "rows": 900, "dim": 4, "table": "item"},
            {"name": "hist", "kind": "hash", "table": "item", "pooling": "mean"},
            {"name": "country", "kind": "vocab", "values": ["DE", "FR", "US"], "dim": 4},
            {"name": "price", "kind": "dense", "transform": "log1p"},
        ],
        "tasks": [
            {"name": "ctr", "kind": "binary", "label": "click"},
            {"name": "cvr", "kind": "binary", "label": "buy", "given": "ctr"},
        ],
        "model": {
            "trunk": {"name": "mmoe", "experts": 2, "expert_layers": [8]},
            "tower_layers": [4],
        },
        "evaluation": {"user": "user_id", "item": "item_id", "slices": list(slices)},
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(tree))
    return config


@pytest.mark.parametrize("name", TABLE)
def test_validator(name: str, logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    expected = TABLE[name]
    config = write_config(logs / name, tmp_path)
    code = validate([str(logs / name), "--config", str(config), *expected.settings])
    said = "".join(capsys.readouterr())
    assert code == (EXIT_DATA if expected.refused else EXIT_DONE), said
    assert all(text in said for text in (*expected.refused, *expected.said)), said


@pytest.mark.slow
@pytest.mark.parametrize("num_ranks", [1, 2])
@pytest.mark.parametrize("name", TABLE)
def test_dry_run_training_evaluation_and_scoring(
    name: str, num_ranks: int, logs: Path, tmp_path: Path
):
    expected = TABLE[name]
    config = write_config(logs / name, tmp_path, expected.slices)
    for arguments in (("--dry-run",), ()):
        ended = launch_train(config, *arguments, PATIENT, *expected.settings, num_ranks=num_ranks)
        code = EXIT_DATA if expected.refused else EXIT_DONE
        assert codes(ended) == [code] * num_ranks
        assert all(text in ended[0].said for text in expected.refused)
    if expected.refused:
        return
    run = tmp_path / "runs" / "odd"
    report = tmp_path / "report"
    ended = launch_evaluate("--checkpoint", str(run), "--out", str(report), num_ranks=num_ranks)
    assert codes(ended) == [EXIT_DONE] * num_ranks
    assert (report / "report.json").exists()
    assert export("--checkpoint", str(run), "--out", str(tmp_path / "artefact")).code == EXIT_DONE
    # Columns that go through are written as what they mean, whatever the files' own types.
    out = tmp_path / "scores.parquet"
    through = ["item_id", "country"]
    scored = score_parquet(Predictor(tmp_path / "artefact"), logs / name, out, through)
    assert scored.rows == 4000
    assert pq.read_table(out).column_names[:2] == through


def test_every_folder_is_here(logs: Path):
    assert {path.name for path in logs.iterdir()} == set(TABLE) | ELSEWHERE
