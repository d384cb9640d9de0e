"""Lines about the data, each said once: several looks at one log find the same."""

from __future__ import annotations

import logging

from marigold_rec.training import LOGGER


class Told:
    """Remembers for the looks that share it; says on the first rank, as LOGGER does."""

    def __init__(self) -> None:
        self._lines: set[str] = set()

    def info(self, text: str, *values: object) -> None:
        self._say(logging.INFO, text % values if values else text)

    def warning(self, text: str, *values: object) -> None:
        self._say(logging.WARNING, text % values if values else text)

    def _say(self, level: int, line: str) -> None:
        if line not in self._lines:
            self._lines.add(line)
            LOGGER.log(level, "%s", line)
