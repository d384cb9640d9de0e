"""The grid's runner, over stand-ins for torchrun that end at once and as told."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jobs.processes.machine import default_jobs, num_cores, run_environment, threads_per_rank
from jobs.studies import running
from jobs.studies.plan import Plan, make_plan
from jobs.studies.running import Progress, run_trials
from jobs.studies.trials import Trial, trials_of
from tests.jobs.studies.inputs import study_tree, write_study

# What a run that ends well leaves behind; argv: config file, run folder.
_WELL = """
import json, pathlib, shutil, sys
config, folder = map(pathlib.Path, sys.argv[1:])
(folder / "checkpoints/step-1").mkdir(parents=True)
shutil.copy(config, folder / "config.effective.yaml")
metrics = {"eval/auc/ctr": 0.7, "eval/auc/cvr": None, "eval/xauc/watch_time": 0.1}
(folder / "summary.json").write_text(json.dumps({"status": "done"} | metrics))
"""
_BADLY = """
import sys
print("some noise")
print("DataError: /logs: there is no such folder", file=sys.stderr)
print("torch.distributed.elastic.ChildFailedError: ")
sys.exit(1)
"""
_FOREVER = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
whole = pathlib.Path(sys.argv[1] + ".tmp")
whole.write_text(str(os.getpid()))
whole.rename(sys.argv[1] + ".started")
time.sleep(60)
"""

# A study of one run, to be killed.
_STUDY = """
import sys
from pathlib import Path
from jobs.studies import running
from jobs.studies.trials import trials_of
from jobs.studies.plan import make_plan

folder = Path({folder!r})
[file] = folder.glob("study*")
plan = make_plan(file, [])
[trial, *_] = trials_of(plan, folder / "out")
trial.write_config(plan.configs[trial.name])
running._command = lambda trial, *_: [sys.executable, "-c", {program!r}, str(trial.config_file)]
running.run_trials(plan, [trial], 1, "")
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan(write_study(tmp_path, study_tree() | {"single_task": False}))


@pytest.fixture
def trials(plan: Plan, tmp_path: Path) -> list[Trial]:
    trials = trials_of(plan, tmp_path / "out")
    for trial in trials:
        trial.write_config(plan.configs[trial.name])
    return trials


def _run(
    plan: Plan,
    trials: list[Trial],
    monkeypatch: pytest.MonkeyPatch,
    programs: dict[str, str],
    jobs: int = 1,
) -> Progress:
    """Runs the trials; `programs`: balancer -> its stand-in, where that is not `_WELL`."""

    def command(trial: Trial, ranks: int, threads: int) -> list[str]:
        program = programs.get(trial.name, _WELL)
        return [sys.executable, "-c", program, str(trial.config_file), str(trial.run_folder)]

    monkeypatch.setattr(running, "_command", command)
    return run_trials(plan, trials, jobs, "python launch/study.py")


def test_a_done_cell_keeps_its_figures_and_no_checkpoint(
    plan: Plan, trials: list[Trial], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    assert not any(trial.is_done() for trial in trials)
    progress = _run(plan, trials, monkeypatch, {})
    assert progress.done == trials, "in the order of the plan"
    assert all(trial.is_done() for trial in trials)
    assert not list(trials[0].run_folder.glob("checkpoints"))
    record = trials[0].record()
    assert (record["command"], record["jobs"]) == ("python launch/study.py", 1)
    assert record["wall_s"] > 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("[1/6] equal seed 1: ctr 0.7000, watch_time 0.1000 (")
    assert "left)" in lines[0]
    assert "left" not in lines[-1]


def test_other_settings_make_a_cell_undone_but_another_place_and_threads_do_not(
    plan: Plan, trials: list[Trial], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trial = trials[0]
    _run(plan, [trial], monkeypatch, {})
    config = plan.configs[trial.name]
    threads = config.distributed.model_copy(update={"threads_per_rank": 7})
    trial.write_config(config.model_copy(update={"distributed": threads}))
    assert trial.is_done()
    shutil.copytree(tmp_path / "out", tmp_path / "moved")
    moved = Trial(trial.name, trial.seed, tmp_path / "moved")
    moved.write_config(config)
    assert moved.is_done()
    data = config.data.model_copy(update={"batch_size": 77})
    trial.write_config(config.model_copy(update={"data": data}))
    assert not trial.is_done()


def test_a_failed_cell_is_told_with_its_reason_and_the_others_go_on(
    plan: Plan, trials: list[Trial], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    progress = _run(plan, trials, monkeypatch, {"hand": _BADLY}, jobs=2)
    assert sorted(trial.name for trial in progress.done) == [
        "equal",
        "equal",
        "marigold",
        "marigold",
    ]
    reason = "DataError: /logs: there is no such folder"
    assert {(c.name, c.seed): r for c, r in progress.failed.items()} == {
        ("hand", 1): reason,
        ("hand", 2): reason,
    }
    assert f"hand seed 1: failed: {reason} (" in capfd.readouterr().out


def test_a_run_that_ends_well_without_a_result_is_a_failure(
    plan: Plan, trials: list[Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = _run(plan, trials[:1], monkeypatch, {"equal": "pass"})
    assert progress.failed == {trials[0]: "ended with code 0"}


def test_when_nothing_succeeds_the_rest_is_not_tried(
    plan: Plan, trials: list[Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = dict.fromkeys(plan.configs, _BADLY)
    progress = _run(plan, trials, monkeypatch, programs)
    assert progress.is_hopeless
    assert list(progress.failed) == trials[:3]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_children_and_is_no_failure(
    plan: Plan, trials: list[Trial], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    started = [Path(f"{trial.config_file}.started") for trial in trials[1:3]]

    def interrupt() -> None:
        patience = time.monotonic() + 30
        while not all(file.exists() for file in started) and time.monotonic() < patience:
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    forever = {"hand": _FOREVER, "marigold": _FOREVER}
    progress = _run(plan, trials, monkeypatch, forever, jobs=3)
    thread.join()
    assert progress.was_stopped
    assert progress.failed == {}
    assert all(trial.name == "equal" for trial in progress.done)
    for file in started:
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)
    assert signal.getsignal(number) is before


def test_a_stopped_run_goes_on_and_any_other_starts_anew(plan: Plan, trials: list[Trial]) -> None:
    trial = trials[0]

    def resume() -> str:
        command = running._command(trial, 2, 3)
        assert command[command.index("--nproc-per-node") + 1] == "2"
        assert command[-1] == "distributed.threads_per_rank=3"
        return command[command.index("--resume") + 1]

    assert resume() == "never"
    trial.run_folder.mkdir(parents=True)
    shutil.copy(trial.config_file, trial.run_folder / "config.effective.yaml")
    for status, expected in (("stopped", "auto"), ("failed", "never"), ("running", "never")):
        (trial.run_folder / "summary.json").write_text(f'{{"status": "{status}"}}')
        assert resume() == expected
    (trial.run_folder / "summary.json").write_text('{"status": "stopped"}')
    data = plan.configs[trial.name].data.model_copy(update={"batch_size": 77})
    trial.write_config(plan.configs[trial.name].model_copy(update={"data": data}))
    assert resume() == "never", "its checkpoint is of other settings"


def test_runs_share_the_cores() -> None:
    cores = num_cores()
    assert default_jobs(1) == cores
    assert default_jobs(10 * cores) == 1
    assert threads_per_rank(jobs=1, ranks=1) == cores
    assert threads_per_rank(jobs=cores, ranks=1) == 1
    assert threads_per_rank(jobs=cores, ranks=7) == 1


def test_the_environment_leaves_what_the_user_has_set() -> None:
    found = run_environment({"MALLOC_TOP_PAD_": "1", "HOME": "/h"})
    assert found == {
        "OMP_NUM_THREADS": "1",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "100000000000",
        "MALLOC_TOP_PAD_": "1",
        "HOME": "/h",
    }


def test_a_killed_study_leaves_no_run_behind(tmp_path: Path) -> None:
    write_study(tmp_path, study_tree() | {"single_task": False})
    study = subprocess.Popen(
        [sys.executable, "-c", _STUDY.format(folder=str(tmp_path), program=_FOREVER)]
    )
    started: list[Path] = []
    while not started:
        assert study.poll() is None
        time.sleep(0.05)
        started = list(tmp_path.rglob("*.started"))
    pid = int(started[0].read_text())
    study.kill()
    study.wait()
    until = time.monotonic() + 15
    while (state := Path(f"/proc/{pid}/stat")).exists() and ") Z" not in state.read_text():
        assert time.monotonic() < until, "the run outlived its study"
        time.sleep(0.05)
