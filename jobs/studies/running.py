"""Runs the trials that are not done yet, several at a time, each with a torchrun of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from subprocess import Popen

from jobs.processes.machine import run_environment, threads_per_rank
from jobs.processes.provenance import ROOT, commit, describe_cpu
from jobs.processes.signals import catch_stop_signals
from jobs.processes.torchrun import first_error, start, stop, torchrun
from jobs.studies.plan import Plan
from jobs.studies.trials import Trial

_POLL_S = 0.2
# So many failures without a success are no balancer's fault.
_HOPELESS = 3


@dataclass
class Progress:
    """The trials that have ended in this session."""

    done: list[Trial] = field(default_factory=list)
    failed: dict[Trial, str] = field(default_factory=dict)
    was_stopped: bool = False

    @property
    def is_hopeless(self) -> bool:
        return not self.done and len(self.failed) >= _HOPELESS


@dataclass(frozen=True)
class _Child:
    trial: Trial
    process: Popen[bytes]
    started: float
    """Wall-clock time, like the times of files."""
    commit: str | None


def run_trials(plan: Plan, trials: Sequence[Trial], jobs: int, command: str) -> Progress:
    """Prints a line for each trial that ends; SIGINT and SIGTERM stop the children, then return.

    A trial that a signal stopped resumes from its checkpoint the next time; one that failed or was
    killed starts again.
    """
    ranks = plan.file.ranks
    threads = threads_per_rank(jobs, ranks)
    about = {
        "command": command,
        "machine": describe_cpu(),
        "jobs": jobs,
        "threads_per_rank": threads,
    }
    waiting, running, progress = deque(trials), list[_Child](), Progress()
    session = time.monotonic()
    with catch_stop_signals() as signals:
        while waiting or running:
            while waiting and len(running) < jobs and not signals and not progress.is_hopeless:
                trial = waiting.popleft()
                chosen = plan.configs[trial.name].distributed.threads_per_rank
                running.append(_start(trial, ranks, chosen or threads))
            if not running:
                break
            time.sleep(_POLL_S)
            if signals:
                print(f"stopping {len(running)} runs: waiting for them to save ...", flush=True)
                stop([child.process for child in running])
            for child in [c for c in running if c.process.poll() is not None]:
                running.remove(child)
                _finish(child, about, progress, is_stopping=bool(signals))
                if not signals:
                    _print_ending(plan, child, progress, len(waiting) + len(running), session)
        progress.was_stopped = bool(signals)
    return progress


def _start(trial: Trial, ranks: int, threads: int) -> _Child:
    with trial.log_file.open("wb") as log:
        process = start(_command(trial, ranks, threads), log, run_environment(os.environ))
    return _Child(trial, process, time.time(), commit())


def _command(trial: Trial, ranks: int, threads: int) -> list[str]:
    can_resume = trial.summary().get("status") == "stopped" and trial.has_same_settings()
    return [
        *torchrun(ranks), str(ROOT / "launch/train.py"),
        "--config", str(trial.config_file),
        "--resume", "auto" if can_resume else "never",
        f"distributed.threads_per_rank={threads}",
    ]  # fmt: skip


def _finish(
    child: _Child, about: dict[str, object], progress: Progress, *, is_stopping: bool
) -> None:
    trial, code = child.trial, child.process.returncode
    if code == 0 and trial.is_done():
        shutil.rmtree(trial.run_folder / "checkpoints", ignore_errors=True)
        started = datetime.fromtimestamp(child.started).astimezone().isoformat(timespec="seconds")
        wall_s = round(time.time() - child.started, 1)
        record = {**about, "commit": child.commit, "started": started, "wall_s": wall_s}
        trial.record_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        progress.done.append(trial)
    elif not is_stopping:
        progress.failed[trial] = _find_reason(child)


def _find_reason(child: _Child) -> str:
    """Finds why a trial failed: its summary's error, or the first line of its log that looks like
    one."""
    trial = child.trial
    summary = trial.run_folder / "summary.json"
    is_new = summary.exists() and summary.stat().st_mtime >= child.started
    if is_new and (error := trial.summary().get("error")):
        return str(error)
    text = trial.log_file.read_text(encoding="utf-8", errors="replace")
    if (error := first_error(text)) is not None:
        return error[1]
    if (found := re.search(r"Signal \d+ \(SIG\w+\)", text)) is not None:
        return f"a rank was killed: {found[0]}"
    return f"ended with code {child.process.returncode}"


def _print_ending(plan: Plan, child: _Child, progress: Progress, left: int, session: float) -> None:
    trial = child.trial
    ended = len(progress.done) + len(progress.failed)
    spent_s = time.monotonic() - session
    eta = f", about {_duration(spent_s / ended * left)} left" if left else ""
    took = _duration(time.time() - child.started)
    if trial in progress.failed:
        text = f"failed: {progress.failed[trial].splitlines()[0]:.200}"
    else:
        summary = trial.summary()
        text = ", ".join(
            f"{column.task} {summary[column.summary_key]:.4f}"
            for column in plan.columns
            if isinstance(summary.get(column.summary_key), int | float)
        )
    print(
        f"[{ended}/{ended + left}] {trial.name} seed {trial.seed}: {text} ({took}{eta})", flush=True
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
