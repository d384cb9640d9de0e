"""Runs the cells that are not done yet, some at a time, each as a torchrun of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from jobs.processes.machine import (
    ROOT,
    commit,
    describe_cpu,
    run_environment,
    threads_per_rank,
)
from jobs.processes.parents import stopped_with_parent
from jobs.processes.signals import noted_signals
from jobs.studies.cells import Cell
from jobs.studies.plan import Plan

_POLL_S = 0.2
# torchrun gives its ranks 30 s from a signal on to save and leave.
_FOR_CHILDREN_S = 60.0
# So many failures without a success are no balancer's fault.
_HOPELESS = 3
_ERROR = re.compile(
    # torchrun's own account, at the end, only says that a rank has failed.
    r"^(?:\[rank\d+\]: ?)?((?!torch\.distributed\.elastic)[\w.]*(?:Error|Exception)\b.*)$",
    re.MULTILINE,
)


@dataclass
class Progress:
    """What became of the cells of this session."""

    done: list[Cell] = field(default_factory=list)
    failed: dict[Cell, str] = field(default_factory=dict)
    was_stopped: bool = False

    @property
    def is_hopeless(self) -> bool:
        return not self.done and len(self.failed) >= _HOPELESS


@dataclass(frozen=True)
class _Child:
    cell: Cell
    process: subprocess.Popen[bytes]
    started: float
    """By the wall clock, as the times of files."""
    commit: str | None


def run_cells(plan: Plan, cells: Sequence[Cell], jobs: int, command: str) -> Progress:
    """Prints a line for each cell that ends. SIGINT and SIGTERM stop the children, then return.

    A cell that a signal stopped goes on from its checkpoint the next time; one that failed or was
    killed starts anew.
    """
    ranks = plan.file.ranks
    threads = threads_per_rank(jobs, ranks)
    about = {
        "command": command,
        "machine": describe_cpu(),
        "jobs": jobs,
        "threads_per_rank": threads,
    }
    waiting, running, progress = deque(cells), list[_Child](), Progress()
    session = time.monotonic()
    with noted_signals() as signals:
        while waiting or running:
            while waiting and len(running) < jobs and not signals and not progress.is_hopeless:
                cell = waiting.popleft()
                chosen = plan.configs[cell.name].distributed.threads_per_rank
                running.append(_start(cell, ranks, chosen or threads))
            if not running:
                break
            time.sleep(_POLL_S)
            if signals:
                _stop(running)
            for child in [c for c in running if c.process.poll() is not None]:
                running.remove(child)
                _finish(child, about, progress, is_stopping=bool(signals))
                if not signals:
                    _say(plan, child, progress, len(waiting) + len(running), session)
        progress.was_stopped = bool(signals)
    return progress


def _start(cell: Cell, ranks: int, threads: int) -> _Child:
    with cell.log_file.open("wb") as log:
        process = subprocess.Popen(
            _command(cell, ranks, threads),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=run_environment(os.environ),
            # Out of reach of the terminal's Ctrl-C, which would reach torchrun and its ranks twice.
            start_new_session=True,
            preexec_fn=stopped_with_parent(),
        )
    return _Child(cell, process, time.time(), commit())


def _command(cell: Cell, ranks: int, threads: int) -> list[str]:
    goes_on = cell.summary().get("status") == "stopped" and cell.has_same_settings()
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        "--nproc-per-node", str(ranks), str(ROOT / "launch/train.py"),
        "--config", str(cell.config_file),
        "--resume", "auto" if goes_on else "never",
        f"distributed.threads_per_rank={threads}",
    ]  # fmt: skip


def _finish(
    child: _Child, about: dict[str, object], progress: Progress, *, is_stopping: bool
) -> None:
    cell, code = child.cell, child.process.returncode
    if code == 0 and cell.is_done():
        shutil.rmtree(cell.run_folder / "checkpoints", ignore_errors=True)
        started = datetime.fromtimestamp(child.started).astimezone().isoformat(timespec="seconds")
        wall_s = round(time.time() - child.started, 1)
        record = {**about, "commit": child.commit, "started": started, "wall_s": wall_s}
        cell.record_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        progress.done.append(cell)
    elif not is_stopping:
        progress.failed[cell] = _reason(child)


def _reason(child: _Child) -> str:
    """Why it failed: its summary's error, or the first line of its log that looks like one."""
    cell = child.cell
    summary = cell.run_folder / "summary.json"
    is_new = summary.exists() and summary.stat().st_mtime >= child.started
    if is_new and (error := cell.summary().get("error")):
        return str(error)
    text = cell.log_file.read_text(encoding="utf-8", errors="replace")
    if (found := _ERROR.search(text)) is not None:
        return found[1]
    if (found := re.search(r"Signal \d+ \(SIG\w+\)", text)) is not None:
        return f"a rank was killed: {found[0]}"
    return f"ended with code {child.process.returncode}"


def _say(plan: Plan, child: _Child, progress: Progress, left: int, session: float) -> None:
    cell = child.cell
    ended = len(progress.done) + len(progress.failed)
    spent_s = time.monotonic() - session
    eta = f", about {_duration(spent_s / ended * left)} left" if left else ""
    took = _duration(time.time() - child.started)
    if cell in progress.failed:
        text = f"failed: {progress.failed[cell].splitlines()[0]:.200}"
    else:
        summary = cell.summary()
        text = ", ".join(
            f"{column.task} {summary[column.figure]:.4f}"
            for column in plan.columns
            if isinstance(summary.get(column.figure), int | float)
        )
    print(
        f"[{ended}/{ended + left}] {cell.name} seed {cell.seed}: {text} ({took}{eta})", flush=True
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def _stop(running: list[_Child]) -> None:
    """Asks the children to save and leave; ends what is left of them after a while."""
    print(f"stopping {len(running)} runs (a moment: they save) ...", flush=True)
    for child in running:
        if child.process.poll() is None:
            child.process.send_signal(signal.SIGTERM)
    patience = time.monotonic() + _FOR_CHILDREN_S
    for child in running:
        try:
            child.process.wait(max(0.0, patience - time.monotonic()))
        except subprocess.TimeoutExpired:
            # The session's group: torchrun and, unless they left it, its ranks.
            os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()
