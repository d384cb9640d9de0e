"""launch/train.py with warm_start.path: a new run starts from an older model, and logs how."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from marigold_rec.file_entry import file_entry
from tests.support.launches import (
    PATIENT,
    AtStep,
    Ended,
    checkpoints,
    codes,
    die,
    launch_train,
    summary,
    train_main,
)
from tests.support.ranks import RankDiedError, rank_outcomes
from tests.support.runs import config_tree, default_setup, write_config
from tests.support.sealing import reseal, tree_of

_FIGURES = ("auc/ctr", "ne/ctr", "auc/cvr", "ne/cvr", "mae_s/watch_time", "rmse_s/watch_time")
# So small that a step changes no figure that is looked at here.
_STILL = ("optimizer.dense.lr=1e-9", "optimizer.sparse.lr=1e-9", "run.seed=9")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a config, and a run `old` of 6 steps with two checkpoints; not to be written to."""
    folder = tmp_path_factory.mktemp("old")
    config = default_setup(folder, rows=1000)
    settings = ("run.name=old", "run.steps=6", "checkpoint.every_n_steps=3", PATIENT)
    assert codes(launch_train(config, *settings)) == [0, 0]
    return folder


@pytest.fixture
def old(folder: Path, tmp_path: Path) -> Path:
    """A copy of the older run's folder."""
    return Path(shutil.copytree(folder / "runs/old", tmp_path / "old"))


def _start(folder: Path, runs: Path, old: Path, *overrides: str, steps: int = 1) -> list[Ended]:
    return launch_train(
        folder / "config.yaml",
        "run.name=new",
        f"run.dir={runs}",
        f"run.steps={steps}",
        f"warm_start.path={old}",
        PATIENT,
        *overrides,
    )


def _figures(run: Path) -> list[float]:
    found = summary(run)
    return [found[f"eval/{figure}"] for figure in _FIGURES]


def test_a_new_run_begins_with_the_old_model(folder: Path, old: Path, tmp_path: Path) -> None:
    ended = _start(folder, tmp_path, old, *_STILL)
    assert codes(ended) == [0, 0], ended[0].said
    said = ended[0].said
    assert f"warm start from {old}/checkpoints/step-000000006 (its step 6)\n" in said
    assert "warm start: 3 tables and " in said
    assert "resumed" not in said
    new = tmp_path / "new"
    steps = [json.loads(line)["step"] for line in (new / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 1], "the old run's steps were counted"
    assert checkpoints(new) == ["step-000000001"]
    assert _figures(new) == pytest.approx(_figures(old), rel=1e-4)
    # Else the figures above would prove little.
    cold = launch_train(
        folder / "config.yaml", "run.name=cold", f"run.dir={tmp_path}", "run.steps=1", PATIENT,
        *_STILL,
    )  # fmt: skip
    assert codes(cold) == [0, 0]
    assert _figures(tmp_path / "cold") != pytest.approx(_figures(old), rel=1e-2)


def test_the_next_start_goes_on_from_its_own_checkpoint(
    folder: Path, old: Path, tmp_path: Path
) -> None:
    assert codes(_start(folder, tmp_path, old)) == [0, 0]
    shutil.rmtree(old)  # nor is the old one needed any more
    ended = _start(folder, tmp_path, old, steps=3)
    assert codes(ended) == [0, 0], ended[0].said
    own = tmp_path / "new/checkpoints/step-000000001"
    assert f"resumed from {own} at step 1\n" in ended[0].said
    assert "warm start" not in ended[0].said
    assert summary(tmp_path / "new")["step"] == 3


def test_a_run_that_dies_before_its_first_save_begins_warm_again(
    folder: Path, old: Path, tmp_path: Path
) -> None:
    arguments = (
        "--config", str(folder / "config.yaml"), "run.name=new", f"run.dir={tmp_path}",
        f"warm_start.path={old}", PATIENT,
    )  # fmt: skip
    outcomes = rank_outcomes(
        train_main, 2, arguments, (AtStep(3, 1, die),), timeout_s=25, init_group=False
    )
    assert isinstance(outcomes[1].error, RankDiedError)
    assert checkpoints(tmp_path / "new") == []
    ended = _start(folder, tmp_path, old)
    assert codes(ended) == [0, 0]
    assert f"warm start from {old}/checkpoints/step-000000006" in ended[0].said


def test_a_damaged_newest_is_refused_and_the_one_before_it_taken(
    folder: Path, old: Path, tmp_path: Path
) -> None:
    newest = old / "checkpoints/step-000000006"
    os.truncate(newest / "__1_0.distcp", 100)
    ended = _start(folder, tmp_path, old)
    assert codes(ended) == [0, 0]
    assert f"refused: {newest}/__1_0.distcp: size or sha256 differs" in ended[0].said
    assert f"warm start from {old}/checkpoints/step-000000003 (its step 3)\n" in ended[0].said
    # One that is named is never replaced by another.
    ended = _start(folder, tmp_path / "again", newest)
    assert codes(ended) == [5, 5]
    assert f"CheckpointError: {newest}/__1_0.distcp: size or sha256 differs" in ended[0].said


def test_a_path_without_a_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", folder):
        ended = _start(folder, tmp_path, path)
        assert codes(ended) == [5, 5]
        assert f"CheckpointError: {path}: no checkpoint; expected a run's folder" in ended[0].said
        assert "Traceback" not in ended[0].said
        assert summary(tmp_path / "new")["exit_code"] == 5
        assert checkpoints(tmp_path / "new") == []


def test_a_table_that_does_not_fit_must_be_named(folder: Path, old: Path, tmp_path: Path) -> None:
    ended = _start(folder, tmp_path, old, "features.user.rows=402")
    assert codes(ended) == [5, 5]
    step = old / "checkpoints/step-000000006"
    assert (
        f"CheckpointError: warm_start.path: {step} does not fit this config:\n"
        "tables.user: 402 rows are no multiple of 401" in ended[0].said
    )
    assert "name it in warm_start.new to begin anew with it" in ended[0].said
    assert checkpoints(tmp_path / "new") == []

    named = ("features.user.rows=402", "warm_start.new=[tables.user]")
    ended = _start(folder, tmp_path, old, *named)
    assert codes(ended) == [0, 0], ended[0].said
    assert "  new      tables.user  401x8 -> 402x8" in ended[0].said
    assert "warm start: 2 tables and " in ended[0].said


def test_a_table_of_twice_the_rows_and_one_less(folder: Path, old: Path, tmp_path: Path) -> None:
    tree = config_tree(folder / "log", tmp_path)
    tree["run"] |= {"name": "new", "steps": 1}
    tree["warm_start"] = {"path": str(old)}
    tree["features"] = [f for f in tree["features"] if f["name"] != "price_band"]
    tree["features"][0]["rows"] *= 2
    ended = launch_train(write_config(tree, tmp_path / "config.yaml"), PATIENT)
    assert codes(ended) == [0, 0], ended[0].said
    begun = [line.split(" -> ")[0].split() for line in ended[0].said.splitlines() if " -> " in line]
    plan = {unit: (what, then) for *_, what, unit, then in begun}
    assert plan["tables.user"] == ("resized", "401x8")
    assert plan["tables.price_band"] == ("dropped", "4x4")


class _Evil:
    """Unpickling it makes a folder."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._trace),)


def test_a_malicious_checkpoint_is_not_run(folder: Path, old: Path, tmp_path: Path) -> None:
    """Its manifest fits, so that no hash shows it."""
    step, trace = old / "checkpoints/step-000000006", tmp_path / "it was run"
    (step / ".metadata").write_bytes(pickle.dumps(_Evil(trace)))
    manifest = tree_of(step / "manifest.json")
    manifest["files"][".metadata"] = file_entry(step / ".metadata").model_dump()
    reseal(step / "manifest.json", **manifest)
    ended = _start(folder, tmp_path, old)
    assert codes(ended) == [5, 5]
    assert f"CheckpointError: {step}/.metadata: refused: it asks for posix.mkdir" in ended[0].said
    assert not trace.exists()
