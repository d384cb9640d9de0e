"""Logs each line about the data once: several scans of one click log find the same."""

from __future__ import annotations

import logging

from marigold_rec.training.monitoring.run_log import LOGGER


class LogOnce:
    """Logs like LOGGER, but skips lines that it has logged before. Shared by several scans."""

    def __init__(self) -> None:
        self._lines: set[str] = set()

    def info(self, text: str, *values: object) -> None:
        self._log(logging.INFO, text % values if values else text)

    def warning(self, text: str, *values: object) -> None:
        self._log(logging.WARNING, text % values if values else text)

    def _log(self, level: int, line: str) -> None:
        if line not in self._lines:
            self._lines.add(line)
            LOGGER.log(level, "%s", line)
