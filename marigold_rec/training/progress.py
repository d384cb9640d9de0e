"""The line that a person watches: one dense line every n steps, and a bar on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from marigold_rec.training.run_log import LOGGER
from marigold_rec.training.throughput import Rate


class ProgressLine:
    """Rank 0 only; `show` may be called by any rank and does nothing on the others."""

    def __init__(self, total_steps: int, first_step: int, *, is_first: bool) -> None:
        self._total = total_steps
        self._is_first = is_first
        self._started = time.perf_counter()
        self._first_step = first_step
        self._bar: Progress | None = None
        if is_first and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
                BarColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[line]}"),
            )
            self._task = self._bar.add_task("", total=total_steps, completed=first_step, line="")
            self._bar.start()

    def show(
        self, step: int, losses: Mapping[str, float], weights: Mapping[str, float], rate: Rate
    ) -> None:
        if not self._is_first:
            return
        tasks = "  ".join(f"{t} {losses[t]:.4f} (w {weights[t]:.2f})" for t in losses)
        speed = f"{rate.samples_per_sec:,.0f} samples/s, data wait {rate.data_wait_frac:.1%}"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, line=f"{tasks}  {speed}")
            return
        per_step = (time.perf_counter() - self._started) / max(1, step - self._first_step)
        left = int(per_step * (self._total - step))
        eta = f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
        LOGGER.info("step %d/%d  %s  %s, ETA %s", step, self._total, tasks, speed, eta)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
