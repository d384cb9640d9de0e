"""launch/study.py as a person calls it: real runs, a killed one, a stop, a resume, a report."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.launches import strict_json, summary
from tests.support.patience import watched
from tests.support.runs import default_setup, write_config

ROOT = Path(__file__).resolve().parents[2]
_TASKS = (
    "tasks=[{name: ctr, kind: binary, label: click}, "
    "{name: watch_time, kind: duration, label: watch_s, observed_if: click}]"
)
_NAMES = ("equal", "marigold", "single-task-ctr", "single-task-watch_time")


def _study(folder: Path, **changes: object) -> Path:
    default_setup(folder, rows=2000)
    tree = {
        "config": "config.yaml",
        "overrides": [_TASKS],
        "seeds": [1, 2],
        "reference": "equal",
        "metrics": {"watch_time": "xauc"},
        "balancers": {
            "equal": {"balancer": {"name": "static"}},
            "marigold": {"balancer": {"name": "marigold", "probe": {"every_n_steps": 3}}},
        },
    }
    return write_config(tree | changes, folder / "study.yaml")


def _start(study: Path, *arguments: str) -> subprocess.Popen[str]:
    out = study.parent / "out"
    return subprocess.Popen(
        [
            sys.executable, str(ROOT / "launch/study.py"), "--study", str(study),
            "--out", str(out), *arguments,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
    )  # fmt: skip


def _run(study: Path, *arguments: str) -> tuple[int, str]:
    process = _start(study, *arguments)
    with watched(process, limit_s=400):
        said, _ = process.communicate()
    return process.returncode, said


def _wait(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    patience = time.monotonic() + 120
    while not happened():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < patience
        time.sleep(0.02)


def _is_training(run: Path) -> bool:
    try:
        return summary(run)["status"] == "running" and (run / "metrics.jsonl").stat().st_size > 0
    except (OSError, ValueError):
        return False


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_survives_a_kill_and_a_stop_and_then_reports(tmp_path: Path) -> None:
    study = _study(tmp_path)
    out = tmp_path / "out"
    runs = out / "runs"
    long = ("--jobs", "1", "run.epochs=8")  # time enough to interrupt

    process = _start(study, *long)
    _wait(process, lambda: _is_training(runs / "marigold-seed-1"))
    os.kill(int((runs / "marigold-seed-1/.lock").read_text()), signal.SIGKILL)
    _wait(process, lambda: _is_training(runs / "single-task-ctr-seed-1"))
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "8 runs, 0 done before; 1 at a time\n[1/8] equal seed 1: ctr 0." in said
    assert "[2/8] marigold seed 1: failed: " in said
    assert "Signal 9 (SIGKILL)" in said
    assert said.splitlines()[-1].startswith("stopped")
    assert summary(runs / "single-task-ctr-seed-1")["status"] == "stopped"
    assert not (out / "study.md").exists()
    first = (runs / "equal-seed-1/summary.json").stat().st_mtime_ns

    code, said = _run(study, *long)
    assert code == 0, said
    assert "8 runs, 1 done before; 1 at a time\n[1/7] marigold seed 1: ctr 0." in said
    assert (runs / "equal-seed-1/summary.json").stat().st_mtime_ns == first, "it ran again"
    assert "resumed from" in (out / "trials/single-task-ctr/seed-1.log").read_text()
    assert "resumed from" not in (out / "trials/marigold/seed-1.log").read_text()
    for name in _NAMES:
        for seed in (1, 2):
            run = runs / f"{name}-seed-{seed}"
            assert summary(run)["seed"] == seed
            assert not (run / "checkpoints").exists()
            assert not (run / "tensorboard").exists()
    found = strict_json((out / "study.json").read_text())
    assert found["missing"] == []
    assert {row["name"] for row in found["rows"]} == {"equal", "marigold"}
    assert all(row["delta_m"]["count"] == 2 for row in found["rows"])
    made = {"study.md", "study.json", "front.svg", "front.png", "weights.svg", "weights.png"}
    assert made <= {path.name for path in out.iterdir()}
    _assert_nothing_runs_again(study, long, out)


def _assert_nothing_runs_again(study: Path, arguments: tuple[str, ...], out: Path) -> None:
    table = (out / "study.md").read_text()
    (out / "study.md").unlink()
    code, said = _run(study, "--report-only", *arguments)
    assert (code, said) == (0, f"8 runs, 0 missing; see {out / 'study.md'}\n")
    assert (out / "study.md").read_text() == table
    code, said = _run(study, *arguments)
    assert code == 0
    assert said.splitlines()[0] == "8 runs, 8 done before; 1 at a time"
    assert (out / "study.md").read_text() == table


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_runs_that_fail_are_named_at_the_end(tmp_path: Path) -> None:
    study = _study(tmp_path, single_task=False, seeds=[1])
    code, said = _run(study, "--jobs", "2", "data.path=/nowhere")
    assert code == 1, said
    for name in ("equal", "marigold"):
        assert f"- {name} seed 1: /nowhere" in said
        assert f"  see {tmp_path / 'out/trials' / name / 'seed-1.log'}" in said
    assert "no finished run in" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("data.batchsize=3",), 2, "ConfigError: data.batchsize: unknown key; did you mean"),
        (("--jobs", "0"), 2, "argument --jobs: invalid"),
        (("--report-only",), 1, "nothing to report"),
    ],
    ids=["a wrong override", "no jobs", "no results"],
)
def test_each_error_has_its_exit_code(
    arguments: tuple[str, ...], code: int, message: str, tmp_path: Path
) -> None:
    found, said = _run(_study(tmp_path), *arguments)
    assert (found, message in said, "Traceback" in said) == (code, True, False), said
    assert not (tmp_path / "out").exists(), "a refused study leaves something behind"
