"""checkpoint.keep_best_by: the best of a real run stays, by the figures that its log shows."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from marigold_rec.config import load_config
from marigold_rec.errors import ConfigError
from tests.support.launches import PATIENT, checkpoints, codes, launch_train
from tests.support.runs import default_setup

_STEPS = range(2, 17, 2)


def _figures(run: Path, name: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[name] for line in lines if name in line}


def test_the_best_of_a_run_stays(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    settings = (
        "run.epochs=2",
        "logging.every_n_steps=1",
        "logging.window_rows=512",  # 4 steps of 2 x 64 rows
        "checkpoint.every_n_steps=2",
        "checkpoint.keep=1",
        "optimizer.dense.lr=0.05",
        PATIENT,
    )
    whole = (*settings, "checkpoint.keep=99", "run.name=whole")
    assert codes(launch_train(config, *whole)) == [0, 0]
    run = tmp_path / "runs/whole"
    notes: dict[int, dict[str, float]] = {}
    for step in _STEPS:
        manifest = run / f"checkpoints/step-{step:09d}/manifest.json"
        notes[step] = json.loads(manifest.read_text())["figures"]
    assert notes[2] == {}, "a window that is half full says nothing of a model"
    for name in ("window_auc/ctr", "window_ne/cvr", "window_mae_s/watch_time"):
        logged = _figures(run, f"train/{name}")
        assert {step: notes[step][name] for step in _STEPS[1:]} == {
            step: logged[step] for step in _STEPS[1:]
        }
    # A figure that is best somewhere in the middle, so that the last ones don't hold it anyway.
    by_calibration = {
        task: min(
            _STEPS[1:],
            key=lambda step, task=task: abs(math.log(notes[step][f"window_calibration/{task}"])),
        )
        for task in ("ctr", "cvr")
    }
    task, best = next((t, s) for t, s in by_calibration.items() if s != _STEPS[-1])
    keeping = (*settings, f"checkpoint.keep_best_by=window_calibration/{task}")
    assert codes(launch_train(config, *keeping)) == [0, 0]
    assert checkpoints(tmp_path / "runs/test") == [
        f"step-{step:09d}" for step in (best, _STEPS[-1])
    ]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "window_auc/ctrr",
            r"no figure 'window_auc/ctrr'; did you mean 'window_auc/ctr'\?",
        ),
        ("window_auc/watch_time", "did you mean"),
        (
            "loss",
            "known here: window_auc/ctr, window_ne/ctr, window_calibration/ctr, ",
        ),
    ],
)
def test_other_names_are_refused(tmp_path: Path, setting: str, message: str) -> None:
    config = default_setup(tmp_path, rows=20)
    with pytest.raises(ConfigError, match=rf"checkpoint\.keep_best_by: .*{message}"):
        load_config(config, (f"checkpoint.keep_best_by={setting}",))


def test_it_needs_a_window(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=20)
    settings = ("checkpoint.keep_best_by=window_ne/ctr", "logging.window_rows=null")
    with pytest.raises(ConfigError, match=r"logging\.window_rows is null; set one of them"):
        load_config(config, settings)
