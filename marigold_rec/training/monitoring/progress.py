"""Shows a person how the run goes: a dense line every n steps, below it a bar on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from marigold_rec.training.monitoring.run_log import LOGGER
from marigold_rec.training.step_hook import Scalars


class ProgressLine:
    """Speaks on rank 0; on the other ranks every method does nothing."""

    def __init__(self, total_steps: int, first_step: int, *, is_first: bool) -> None:
        self._total = total_steps
        self._first_step = first_step
        self._is_first = is_first
        self._started = time.perf_counter()
        self._bar: Progress | None = None
        if is_first and sys.stderr.isatty():
            columns = TextColumn("step"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn()
            # Transient: when training ends the lines stay and the bar goes.
            console = Console(stderr=True)
            self._bar = Progress(*columns, transient=True, console=console)
            self._task = self._bar.add_task("", total=total_steps, completed=first_step)
            self._bar.start()

    def advance(self, step: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def show(self, step: int, tasks: Sequence[str], scalars: Scalars) -> None:
        """Logs a line: losses and weights per task, speed over all ranks, share of waiting, ETA.

        It logs nothing as long as there is no speed.
        """
        speed, wait = scalars.get("perf/samples_per_sec"), scalars.get("perf/data_wait_frac")
        if not self._is_first or speed is None or wait is None:
            return
        per_step = (time.perf_counter() - self._started) / max(1, step - self._first_step)
        left = int(per_step * (self._total - step))
        LOGGER.info(
            "step %*d/%d  %s  %s samples/s  data wait %.1f%%  ETA %d:%02d:%02d",
            len(str(self._total)),
            step,
            self._total,
            "  ".join(
                f"{t} {scalars[f'train/loss/{t}']:.4f} (w {scalars[f'train/weight/{t}']:.2f})"
                for t in tasks
            ),
            f"{speed:,.0f}",
            100 * wait,
            left // 3600,
            left // 60 % 60,
            left % 60,
        )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
