"""Ranks that die or hang, and torchrun that brings the run back by itself: --max-restarts."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.checkpoint.phases import AtPhase
from tests.support.launches import (
    PATIENT,
    AtBatch,
    AtStep,
    assert_same_tensors,
    checkpoint_tensors,
    checkpoints,
    codes,
    launch_train,
    summary,
    train_main,
)
from tests.support.patience import watched
from tests.support.ranks import rank_outcomes
from tests.support.runs import default_setup
from tests.support.torchrun import Torchrun

_STEPS = 8
_SETTINGS = (
    "model.dropout=0.2",
    "logging.every_n_steps=3",
    "logging.tensorboard=true",
    "checkpoint.every_n_steps=2",
    "checkpoint.keep=9",
    "sharding.tables={user: row_wise, item: table_wise, price_band: column_wise}",
    "distributed.threads_per_rank=1",
)

# launch/train.py, with a fault in each start: (start, step, rank) of torchrun's TORCHELASTIC_...
_FAULTY = """
import os, signal, sys, time
from jobs.entrypoint.exit_codes import run_and_exit
from launch.train import main
from tests.support.launches import AtStep, die, ask_to_stop

for start, step, rank, action in {faults}:
    if int(os.environ["TORCHELASTIC_RESTART_COUNT"]) == start:
        AtStep(step, rank, globals()[action]).install()
run_and_exit(main)
"""


def _torchrun(
    folder: Path, config: Path, *arguments: str, faults: Any = (), restarts: int = 0
) -> tuple[Torchrun, Path]:
    script, log = folder / "faulty_train.py", folder / "log.txt"
    script.write_text(_FAULTY.format(faults=faults))
    options = ("--standalone", "--nproc-per-node=2", f"--max-restarts={restarts}", str(script))
    return Torchrun(*options, "--config", str(config), *_SETTINGS, *arguments, log=log), log


def _end_of(process: Torchrun) -> int:
    """Ends within seconds of the last thing that its ranks did, if they hang."""
    with watched(process):
        return process.wait()


def _tensorboard(run: Path) -> dict[str, list[int]]:
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    return {name: [e.step for e in board.Scalars(name)] for name in board.Tags()["scalars"]}


@pytest.mark.slow
def test_torchrun_brings_a_killed_run_back(tmp_path: Path) -> None:
    """Each rank dies once; between the starts the folder's lock is free and nothing is doubled."""
    config = default_setup(tmp_path, rows=1000)
    run, whole = tmp_path / "runs/test", tmp_path / "runs/undisturbed"
    assert codes(launch_train(config, *_SETTINGS, "run.name=undisturbed")) == [0, 0]
    # What a kill in a save leaves: the next start finds and deletes it.
    (run / "checkpoints/step-000000099.tmp-0123abcd").mkdir(parents=True)
    process, log = _torchrun(
        tmp_path, config, faults=[(0, 5, 1, "die"), (1, 7, 0, "die")], restarts=2
    )
    code, said = _end_of(process), log.read_text()
    assert code == 0, said
    assert said.count("resumed from ") == 2, said
    assert "another process is writing" not in said
    assert (summary(run)["status"], summary(run)["exit_code"]) == ("done", 0)
    assert summary(run)["step"] == _STEPS
    assert not [name for name in checkpoints(run) if ".tmp-" in name]
    last = f"checkpoints/step-{_STEPS:09d}"
    assert_same_tensors(
        checkpoint_tensors(run / last, tmp_path), checkpoint_tensors(whole / last, tmp_path)
    )
    figures = [name for name in summary(whole) if name.startswith("eval/")]
    assert {name: summary(run)[name] for name in figures} == {
        name: summary(whole)[name] for name in figures
    }
    lines = (run / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    # The last has two lines: its own and the evaluation's.
    assert steps[:-1] == sorted(set(steps)), steps
    assert set(steps) >= {1, 3, 6, _STEPS}
    for name, logged in _tensorboard(run).items():
        assert logged == sorted(set(logged)), name


@pytest.mark.slow
def test_torchrun_gives_up_when_no_restart_is_left(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    process, log = _torchrun(tmp_path, config, faults=[(0, 5, 1, "die")])
    assert _end_of(process) == 1, log.read_text()
    run = tmp_path / "runs/test"
    assert (summary(run)["status"], summary(run)["exit_code"]) == ("failed", 1)
    assert "step-000000002" in checkpoints(run)


@pytest.mark.slow
def test_a_stop_of_torchrun_is_no_failure_to_restart(tmp_path: Path) -> None:
    """`docker stop` and schedulers signal torchrun, which passes it on: the ranks save and leave
    with 143, and torchrun starts nothing anew though it may.
    """
    config = default_setup(tmp_path, rows=1000)
    long = ("run.epochs=1000", "checkpoint.every_n_steps=100000")
    process, log = _torchrun(tmp_path, config, *long, restarts=3)
    with watched(process):
        while process.poll() is None and not re.search(r"step +6/", log.read_text()):
            time.sleep(0.05)
        process.terminate()
        code = process.wait()
    run, said = tmp_path / "runs/test", log.read_text()
    assert code != 0
    assert (summary(run)["status"], summary(run)["exit_code"]) == ("stopped", 143), said
    assert checkpoints(run) == [f"step-{summary(run)['step']:09d}"]
    assert said.count(" training test: ") == 1, said


@pytest.mark.slow
def test_a_stop_of_one_rank_alone_saves_and_is_restarted(tmp_path: Path) -> None:
    """All ranks save and leave with 143; to torchrun that is a failure: it starts the run anew."""
    config = default_setup(tmp_path, rows=1000)
    process, log = _torchrun(tmp_path, config, faults=[(0, 4, 1, "ask_to_stop")], restarts=1)
    assert _end_of(process) == 0, log.read_text()
    assert "resumed from " in log.read_text()
    assert "at step 5\n" in log.read_text()
    assert summary(tmp_path / "runs/test")["status"] == "done"


def _pause(seconds: float, _object: Any) -> None:
    time.sleep(seconds)


def test_a_rank_that_hangs_in_a_step_ends_the_others_soon(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    # It comes back later, and finds that the others have gone.
    hang = AtStep(4, 1, partial(_pause, 8.0))
    ended = launch_train(config, PATIENT, "distributed.step_timeout_s=1", faults=(hang,))
    assert codes(ended) == [1, 1]
    run = tmp_path / "runs/test"
    assert (summary(run)["status"], summary(run)["exit_code"]) == ("failed", 1)
    assert re.search("timeout|Timed out", summary(run)["error"])


_SLOW: dict[str, Callable[[Any], Any]] = {
    "the first step": lambda pause: AtStep(0, 1, pause),
    "a save beside steps": lambda pause: AtPhase("writing", 2, 1, pause),
    "the last save": lambda pause: AtPhase("writing", _STEPS, 1, pause),
    "evaluation": lambda pause: AtBatch(1, 1, pause, pass_number=1),
}


@pytest.mark.parametrize("what", _SLOW)
@pytest.mark.parametrize(
    "asynchronous", [pytest.param(True), pytest.param(False, marks=pytest.mark.slow)]
)
def test_what_may_take_long_is_not_cut_off(tmp_path: Path, what: str, asynchronous: bool) -> None:
    config = default_setup(tmp_path, rows=1000)
    settings = (
        PATIENT,
        "distributed.step_timeout_s=1",
        "checkpoint.every_n_steps=2",
        f"checkpoint.asynchronous={str(asynchronous).lower()}",
    )
    slow = _SLOW[what](partial(_pause, 3.0))
    assert codes(launch_train(config, *settings, faults=(slow,))) == [0, 0]


def _stop_then_write(_phase: Any) -> None:
    import os

    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1.0)


def test_a_stop_while_a_save_is_under_way_loses_neither(tmp_path: Path) -> None:
    """The save under way is published, and the stop's own after it."""
    config = default_setup(tmp_path, rows=1000)
    # Long enough that the training is still there when the save, which yields to it, is written.
    long = ("run.epochs=30", "checkpoint.every_n_steps=100")
    settings = (*_SETTINGS, "logging.tensorboard=false", *long, PATIENT)
    stop = AtPhase("writing", 100, 1, _stop_then_write)
    ended = launch_train(config, *settings, faults=(stop,))
    assert codes(ended) == [143, 143]
    run = tmp_path / "runs/test"
    step = summary(run)["step"]
    assert (summary(run)["status"], summary(run)["exit_code"]) == ("stopped", 143)
    assert 100 <= step < 200
    assert checkpoints(run) == sorted({"step-000000100", f"step-{step:09d}"})
    assert codes(launch_train(config, *settings)) == [0, 0]
    assert codes(launch_train(config, *settings, "run.name=straight")) == [0, 0]
    last = f"checkpoints/step-{30 * _STEPS:09d}"
    assert_same_tensors(
        checkpoint_tensors(run / last, tmp_path),
        checkpoint_tensors(tmp_path / "runs/straight" / last, tmp_path),
    )


def _stop_twice(_phase: Any) -> None:
    import os

    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def test_a_second_signal_does_not_wait_for_a_save(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    arguments = ("--config", str(config), *_SETTINGS, "logging.tensorboard=false", PATIENT)
    twice = AtPhase("writing", 4, 1, _stop_twice)
    outcomes = rank_outcomes(
        train_main, 2, arguments, (twice,), timeout_s=25, init_group=False, grace_s=10
    )
    assert "exit code 143" in str(outcomes[1].error)
    assert outcomes[0].error is None, "the other rank should have ended by itself"
    run = tmp_path / "runs/test"
    assert [name for name in checkpoints(run) if ".tmp-" not in name] == ["step-000000002"]
    ended = launch_train(config, *_SETTINGS, "logging.tensorboard=false")
    assert codes(ended) == [0, 0]
    assert "at step 2\n" in ended[0].said
