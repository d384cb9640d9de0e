"""What a run leaves behind: the named files, the named scalars, and nothing anywhere else."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from marigold_rec.config import load_config
from tests.support.launches import PATIENT, checkpoints, codes, launch_train, strict_json, summary
from tests.support.runs import click_log, config_tree, write_config, write_days

_TASKS = ("ctr", "cvr", "watch_time")
_PER_TASK = ("train/loss", "train/weight", "train/descent", "data/invalid")
_ALONE = ("optim/lr/dense", "optim/lr/sparse", "memory/host_peak_gib")
_SPEED = ("perf/samples_per_sec", "perf/step_time_s", "perf/data_wait_frac", "perf/probe_frac")
_EVALUATED = {
    *(f"eval/{f}/{t}" for f in ("auc", "log_loss", "ne", "calibration") for t in _TASKS[:2]),
    *(f"eval/{f}/watch_time" for f in ("mae_s", "rmse_s", "r2_log", "spearman", "xauc")),
    *(f"eval/rows/{t}" for t in _TASKS),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of 8 steps, four of whose watch times are not valid."""
    folder = tmp_path_factory.mktemp("outputs")
    log = click_log(1000)
    watch = log["watch_s"].to_pylist()
    seen = [i for i, value in enumerate(watch) if value is not None]
    for i in (seen[0], seen[1], seen[-2], seen[-1]):  # two of each rank's
        watch[i] = -5.0
    log = log.set_column(log.schema.get_field_index("watch_s"), "watch_s",
                         pa.array(watch, pa.float32()))  # fmt: skip
    data = write_days(folder / "log", {"2024-01-01": log, "2024-01-02": click_log(500, seed=1)})
    tree = config_tree(data, folder / "runs")
    tree["logging"] = {"every_n_steps": 3, "tensorboard": True}
    tree["data"]["max_invalid_labels"] = 0.05
    config = write_config(tree, folder / "config.yaml")
    before = _files(folder)
    ended = launch_train(config, PATIENT, "data.reader_threads=2")
    assert codes(ended) == [0, 0]
    new = _files(folder) - before
    assert {path.parts[:2] for path in new} == {("runs", "test")}, "written outside of the run"
    return folder / "runs/test"


def _files(folder: Path) -> set[Path]:
    return {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()}


def _lines(run: Path) -> list[dict[str, Any]]:
    return [strict_json(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_files_have_their_names(run: Path) -> None:
    assert {p.name for p in run.iterdir()} == {
        ".lock",
        "checkpoints",
        "config.effective.yaml",
        "logs",
        "metrics.jsonl",
        "summary.json",
        "tensorboard",
    }
    assert checkpoints(run) == ["step-000000008"]
    assert [p.name for p in (run / "logs").iterdir()] == ["rank-1.log"]
    assert "training test: 1,000 rows, 8 steps" in (run / "logs/rank-1.log").read_text()


def test_the_effective_config_reads_back_as_itself(run: Path) -> None:
    given = load_config(run.parents[1] / "config.yaml", (PATIENT, "data.reader_threads=2"))
    assert load_config(run / "config.effective.yaml") == given


def test_the_scalars_have_their_names(run: Path) -> None:
    *training, evaluation = _lines(run)
    assert [line["step"] for line in training] == [1, 3, 6, 8]
    expected = {f"{name}/{task}" for name in _PER_TASK for task in _TASKS} | set(_ALONE)
    for line in training:
        assert expected <= line.keys()
        assert (set(_SPEED) <= line.keys()) == (line["step"] > 1), "the first step sets the clock"
        assert all(isinstance(v, int | float) and math.isfinite(v) for v in line.values()), line
        assert 0.05 < line["memory/host_peak_gib"] < 50
    assert evaluation.pop("step") == 8
    assert evaluation.keys() == _EVALUATED


def test_invalid_labels_of_all_ranks_are_counted(run: Path) -> None:
    last = _lines(run)[-2]
    assert [last[f"data/invalid/{task}"] for task in _TASKS] == [0, 0, 4]
    assert summary(run)["data/counts"] == {"invalid/watch_time": 4}


def test_the_summary_tells_how_it_ended(run: Path) -> None:
    found = summary(run)
    assert (found["status"], found["exit_code"]) == ("done", 0)
    assert (found["step"], found["total_steps"], found["world_size"]) == (8, 8, 2)
    assert (found["name"], found["seed"], found["device"]) == ("test", 3, "cpu")
    assert found["eval_undefined"] == {}
    assert found["versions"].keys() >= {"torch", "torchrec"}
    assert {name for name in found if name.startswith("eval/")} == {*_EVALUATED, "eval/counts"}
    assert {name for name in found if name.startswith("perf/")} == set(_SPEED)
    assert found["memory/host_peak_gib"] > 0.05
    assert found["wall_s"] > 0


def test_tensorboard_holds_the_same_scalars(run: Path) -> None:
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    lines = _lines(run)
    names = {name for line in lines for name in line} - {"step"}
    assert set(board.Tags()["scalars"]) == names
    for name in ("train/loss/ctr", "eval/auc/ctr"):
        points = [(event.step, event.value) for event in board.Scalars(name)]
        expected = [(line["step"], line[name]) for line in lines if name in line]
        assert points == [(step, pytest.approx(value)) for step, value in expected]


def test_running_it_again_changes_nothing_that_counts(run: Path) -> None:
    first = summary(run)
    checkpoint = run / "checkpoints/step-000000008"
    before = {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in checkpoint.iterdir()}
    config = run.parents[1] / "config.yaml"
    ended = launch_train(config, PATIENT, "data.reader_threads=2")
    assert codes(ended) == [0, 0]
    again = summary(run)
    for name in ("status", "exit_code", "step", "total_steps", "config_hash", *_EVALUATED):
        assert again[name] == first[name], name
    after = {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in checkpoint.iterdir()}
    assert after == before, "the checkpoint was written anew"
    assert not [name for name in os.listdir(run) if name.startswith("previous")]
