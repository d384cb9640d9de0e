"""Writes summary.json: the status of the run, and how it ended.

Every start that holds the lock of the run's folder writes it, a refused one too: the summary of an
earlier start would say "done" of this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marigold_rec.errors import EXIT_PREEMPTED
from marigold_rec.training.monitoring.run_log import write_summary


class Summary:
    """Writes the summary on the first rank; on the others every method does nothing."""

    def __init__(self, folder: Path, run_card: Mapping[str, Any], *, is_first: bool) -> None:
        self._folder = folder
        self._run_card = run_card
        self._is_first = is_first

    def begin(self) -> None:
        """Writes `running`, which a kill from now on leaves behind."""
        self._write({"status": "running"})

    def end(self, content: Mapping[str, Any]) -> None:
        self._write(content)

    def fail(self, exit_code: int, error: BaseException) -> None:
        status = "stopped" if exit_code == EXIT_PREEMPTED else "failed"
        message = str(error) or type(error).__name__
        self._write({"status": status, "exit_code": exit_code, "error": message})

    def _write(self, content: Mapping[str, Any]) -> None:
        if self._is_first:
            write_summary(self._folder, {**self._run_card, **content})
