"""SIGTERM to one rank: all stop after the same step, with a checkpoint and exit code 143."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from marigold_rec.training import stop_on_signals
from tests.support.launches import (
    PATIENT,
    AtBatch,
    AtStep,
    ask_to_stop,
    assert_same_tensors,
    checkpoint_tensors,
    checkpoints,
    codes,
    launch_train,
    summary,
)
from tests.support.patience import watched
from tests.support.ranks import rank_outcomes
from tests.support.runs import default_setup

_STEPS = 8
_SETTINGS = ("model.dropout=0.2", "logging.every_n_steps=100", PATIENT)
_EVALUATED = [f"eval/{figure}" for figure in ("auc/ctr", "ne/cvr", "mae_s/watch_time")]


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_stopped_run_goes_on_as_if_nothing_had_been(tmp_path: Path, rank: int) -> None:
    config = default_setup(tmp_path, rows=1000)
    run = tmp_path / "runs/test"
    ended = launch_train(config, *_SETTINGS, faults=(AtStep(3, rank, ask_to_stop),))
    assert codes(ended) == [143, 143]
    stopped = summary(run)
    assert (stopped["status"], stopped["exit_code"]) == ("stopped", 143)
    assert (stopped["step"], stopped["total_steps"]) == (4, _STEPS)
    assert not [name for name in stopped if name.startswith("eval/")]
    assert checkpoints(run) == ["step-000000004"]

    assert codes(launch_train(config, *_SETTINGS)) == [0, 0]
    assert codes(launch_train(config, *_SETTINGS, "run.name=undisturbed")) == [0, 0]
    whole = tmp_path / "runs/undisturbed"
    last = f"checkpoints/step-{_STEPS:09d}"
    assert_same_tensors(
        checkpoint_tensors(run / last, tmp_path), checkpoint_tensors(whole / last, tmp_path)
    )
    for name in _EVALUATED:
        assert summary(run)[name] == summary(whole)[name]
    assert (summary(run)["status"], summary(run)["step"]) == ("done", _STEPS)


@pytest.mark.slow
def test_a_stop_where_a_save_is_due_saves_once_and_evaluates_nothing(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    stop_before_the_last = AtStep(_STEPS - 3, None, ask_to_stop)
    ended = launch_train(
        config, *_SETTINGS, "checkpoint.every_n_steps=2", faults=(stop_before_the_last,)
    )
    assert codes(ended) == [143, 143]
    assert ended[0].said.count("saved ") == 3
    assert checkpoints(tmp_path / "runs/test") == ["step-000000004", "step-000000006"]


def test_a_stop_while_evaluating_leaves_the_evaluation_to_the_next_start(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    run = tmp_path / "runs/test"
    in_evaluation = AtBatch(1, 1, ask_to_stop, pass_number=1)
    assert codes(launch_train(config, *_SETTINGS, faults=(in_evaluation,))) == [143, 143]
    assert (summary(run)["status"], summary(run)["exit_code"]) == ("stopped", 143)
    assert checkpoints(run) == [f"step-{_STEPS:09d}"]
    assert codes(launch_train(config, *_SETTINGS)) == [0, 0]
    assert summary(run)["status"] == "done"
    assert all(summary(run)[name] is not None for name in _EVALUATED)


def _signal_twice(pause_s: float) -> bool:
    with stop_on_signals() as stop:
        assert not stop.is_set
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_set
        time.sleep(pause_s)
        os.kill(os.getpid(), signal.SIGINT)
        return stop.is_set


def test_a_second_signal_ends_the_process_at_once() -> None:
    [outcome] = rank_outcomes(_signal_twice, 1, 1.5, init_group=False, timeout_s=20)
    assert "exit code 143" in str(outcome.error)


def test_the_same_signal_by_two_ways_counts_once() -> None:
    [outcome] = rank_outcomes(_signal_twice, 1, 0.0, init_group=False, timeout_s=20)
    assert outcome.value is True


def test_signals_do_afterwards_what_they_did_before() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with stop_on_signals():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.slow
def test_torchrun_passes_a_stop_on(tmp_path: Path) -> None:
    """`docker stop` and schedulers signal torchrun, not the ranks. Here as a person starts it."""
    config = default_setup(tmp_path, rows=1000)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    arguments = ["launch/train.py", "--config", str(config), "run.epochs=1000"]
    log = tmp_path / "log.txt"
    with log.open("w") as said:
        process = subprocess.Popen(
            [*torchrun, "--nproc-per-node=2", *arguments], stdout=said, stderr=said
        )
        with watched(process):
            while process.poll() is None and not re.search(r"step +10/", log.read_text()):
                time.sleep(0.1)
            process.terminate()
            process.wait()
    found = summary(tmp_path / "runs/test")
    assert found["status"] == "stopped", log.read_text()
    assert 10 <= found["step"] < found["total_steps"]
    assert checkpoints(tmp_path / "runs/test") == [f"step-{found['step']:09d}"]


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_stop_before_the_first_step_leaves_all_that_begins_with_it(
    tmp_path: Path, num_ranks: int
) -> None:
    """The heads' start at the labels' level, which the step 0 that was saved has yet to make."""
    config = default_setup(tmp_path, rows=1000)
    run, settings = tmp_path / "runs/test", (*_SETTINGS, "run.steps=3")
    at_once = AtBatch(0, num_ranks - 1, ask_to_stop)
    ended = launch_train(config, *settings, num_ranks=num_ranks, faults=(at_once,))
    assert codes(ended) == [143] * num_ranks
    assert checkpoints(run) == ["step-000000000"]
    warm = ("run.name=warm", f"warm_start.path={run}")
    for begin in (warm, ("run.name=test",), ("run.name=undisturbed",)):
        again = launch_train(config, *settings, *begin, num_ranks=num_ranks)
        assert codes(again) == [0] * num_ranks
    last = "checkpoints/step-000000003"
    undisturbed = checkpoint_tensors(tmp_path / "runs/undisturbed" / last, tmp_path)
    for name in ("test", "warm"):
        assert_same_tensors(
            checkpoint_tensors(tmp_path / "runs" / name / last, tmp_path), undisturbed
        )
