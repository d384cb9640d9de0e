"""Saves beside the training: the same run and checkpoints, and failures that cost no night."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoint.phases import ON_EVERY_RANK, WHERE, AtPhase, die_by_kill, disk_full
from tests.support.launches import (
    PATIENT,
    AtStep,
    Raise,
    ask_to_stop,
    assert_same_tensors,
    checkpoint_tensors,
    checkpoints,
    codes,
    launch_train,
    summary,
    train_main,
)
from tests.support.ranks import RankDiedError, rank_outcomes
from tests.support.runs import default_setup

_STEPS = 8
_SETTINGS = (
    "model.dropout=0.2",
    "checkpoint.every_n_steps=2",
    "checkpoint.keep=9",
    "sharding.tables={user: row_wise, item: table_wise, price_band: column_wise}",
    PATIENT,
)
_ALL = [f"step-{step:09d}" for step in (2, 4, 6, 8)]


def _pause(_object: Any) -> None:
    time.sleep(1.0)


def test_asynchronous_saves_hold_what_synchronous_ones_do(tmp_path: Path) -> None:
    """Each save is held up until the training has gone on; steps are never held up together."""
    config = default_setup(tmp_path, rows=1000)
    slow = tuple(AtPhase("writing", step, step // 2 % 2, _pause) for step in (2, 4, 6))
    assert codes(launch_train(config, *_SETTINGS, faults=slow)) == [0, 0]
    settings = (*_SETTINGS, "checkpoint.asynchronous=false", "run.name=synchronous")
    assert codes(launch_train(config, *settings)) == [0, 0]
    one, other = tmp_path / "runs/test", tmp_path / "runs/synchronous"
    assert checkpoints(one) == checkpoints(other) == _ALL
    for name in _ALL:
        assert_same_tensors(
            checkpoint_tensors(one / "checkpoints" / name, tmp_path),
            checkpoint_tensors(other / "checkpoints" / name, tmp_path),
        )
        manifests = [
            json.loads((run / "checkpoints" / name / "manifest.json").read_text())
            for run in (one, other)
        ]
        assert manifests[0]["cursors"] == manifests[1]["cursors"]


def test_a_failed_save_is_loud_and_the_training_continues(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    fault = AtPhase("writing", 4, 1, disk_full)
    ended = launch_train(config, *_SETTINGS, faults=(fault,))
    assert codes(ended) == [0, 0]
    run = tmp_path / "runs/test"
    assert checkpoints(run) == ["step-000000002", "step-000000006", "step-000000008"]
    assert "ERROR checkpoint of step 4 FAILED (1 in a row" in ended[0].said
    assert "No space left on device" in ended[0].said
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [
        line["checkpoint/failed_saves"] for line in lines if "checkpoint/failed_saves" in line
    ] == [1.0]


def test_too_many_failed_saves_in_a_row_end_the_run_with_5(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    full = tuple(AtPhase("rename", step, 0, disk_full) for step in (4, 6))
    ended = launch_train(config, *_SETTINGS, "checkpoint.max_failed_saves=1", faults=full)
    assert codes(ended) == [5, 5]
    run = tmp_path / "runs/test"
    assert summary(run)["exit_code"] == 5
    assert summary(run)["error"].startswith("step 6: 2 saves in a row have failed")
    assert checkpoints(run) == ["step-000000002"]


@pytest.mark.parametrize("is_stopped", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_last_save_may_not_fail(tmp_path: Path, is_stopped: bool) -> None:
    config = default_setup(tmp_path, rows=1000)
    full = AtPhase("writing", 5 if is_stopped else _STEPS, 0, disk_full)
    stop = (AtStep(4, 1, ask_to_stop),) if is_stopped else ()
    ended = launch_train(config, *_SETTINGS, faults=(full, *stop))
    assert codes(ended) == [5, 5]
    run = tmp_path / "runs/test"
    assert (summary(run)["status"], summary(run)["exit_code"]) == ("failed", 5)
    assert "No space left on device" in summary(run)["error"]
    assert checkpoints(run) == _ALL[: 2 if is_stopped else 3]


def test_a_readers_failure_stays_the_one_reported_if_its_save_fails_too(tmp_path: Path) -> None:
    from tests.support.launches import AtBatch

    config = default_setup(tmp_path, rows=1000)
    broken = AtBatch(6, 1, Raise(OSError("the disk of the log is gone")))
    full = AtPhase("writing", None, 1, disk_full)
    ended = launch_train(config, *_SETTINGS, "checkpoint.every_n_steps=null", faults=(broken, full))
    assert 5 not in codes(ended)
    assert 0 not in codes(ended)
    assert re.search(r"ERROR step \d can't be saved: .*No space left on device", ended[0].said)
    assert "the disk of the log is gone" in summary(tmp_path / "runs/test")["error"]


def _spoil_unused_row(pipeline: Any) -> None:
    """One that no batch has read nor, with this log, will read: no loss shows it."""
    sums = pipeline._model.fused_optimizer.state_dict()["state"]
    for name, tensor in pipeline._model.state_dict().items():
        if name.endswith("embedding_bags.user.weight"):
            [momentum] = sums[name].values()
            for shard, sum_ in zip(
                tensor.to_local().local_shards(), momentum.to_local().local_shards(), strict=True
            ):
                shard[torch.nonzero(sum_ == 0)[-1]] = torch.nan


def test_a_table_that_is_not_finite_is_never_published(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    spoil = AtStep(_STEPS - 1, 1, _spoil_unused_row)
    ended = launch_train(config, *_SETTINGS, faults=(spoil,))
    assert codes(ended) == [4, 4]
    run = tmp_path / "runs/test"
    name = "model/embeddings.ebc.embedding_bags.user.weight"
    assert summary(run)["error"].startswith(f"step 8: not finite: {name} (rank 1). No checkpoint")
    assert checkpoints(run) == _ALL[:3]


_KILLS = [(phase, 0) for phase in WHERE] + [(phase, 1) for phase in ON_EVERY_RANK]


@pytest.mark.parametrize(
    ("phase", "rank"),
    [
        pytest.param(*kill, marks=() if kill == ("hashing", 1) else pytest.mark.slow)
        for kill in _KILLS
    ],
)
def test_a_run_that_is_killed_in_a_save_goes_on_from_the_one_before(
    tmp_path: Path, phase: str, rank: int
) -> None:
    config = default_setup(tmp_path, rows=1000)
    run = tmp_path / "runs/test"
    # A second reason to look: what a kill in an earlier start has left.
    (run / "checkpoints/step-000000099.tmp-0123abcd").mkdir(parents=True)
    arguments = ("--config", str(config), *_SETTINGS)
    kill = AtPhase(phase, 6, rank, die_by_kill)
    outcomes = rank_outcomes(train_main, 2, arguments, (kill,), timeout_s=25, init_group=False)
    assert isinstance(outcomes[rank].error, RankDiedError)
    assert outcomes[1 - rank].value is not None, "the other rank should have ended by itself"
    assert outcomes[1 - rank].value.code == 1

    ended = launch_train(config, *_SETTINGS)
    assert codes(ended) == [0, 0]
    newest = 6 if phase == "prune" else 4
    assert f"/step-{newest:09d} at step {newest}\n" in ended[0].said
    assert checkpoints(run) == _ALL, "leftovers stay"
    assert codes(launch_train(config, *_SETTINGS, "run.name=straight")) == [0, 0]
    last = f"checkpoints/step-{_STEPS:09d}"
    assert_same_tensors(
        checkpoint_tensors(run / last, tmp_path),
        checkpoint_tensors(tmp_path / "runs/straight" / last, tmp_path),
    )


def test_leftovers_are_counted_in_the_log(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    run = tmp_path / "runs/test"
    assert codes(launch_train(config, *_SETTINGS, "run.steps=2")) == [0, 0]
    good = run / "checkpoints/step-000000002"
    for name in ("step-000000004.tmp-0123abcd", "abandoned-step-000000006-0123abcd"):
        shutil.copytree(good, good.with_name(name))
    ended = launch_train(config, *_SETTINGS, "run.steps=4")
    assert "have left: 1 unfinished checkpoints, 0 abandoned ones" in ended[0].said
    left = ["abandoned-step-000000006-0123abcd", "step-000000002", "step-000000004"]
    assert checkpoints(run) == left
