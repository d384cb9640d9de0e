"""Keeps the parsed footers of the files read last: parsing is linear in a file's row groups.

Each with the plan by which the file is read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from marigold_rec.parquet.opening import ReadPlan

_MAX_FILES = 16
_MAX_BYTES = 8 * 1024**2
"""As written; parsed they take about nine times that."""


class KeptFooters:
    """Path -> footer, of the last few files. Safe in threads.

    The footer added last is kept however large it is.
    """

    def __init__(self, max_files: int = _MAX_FILES, max_bytes: int = _MAX_BYTES) -> None:
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._footers: OrderedDict[str, ReadPlan] = OrderedDict()

    def get(self, path: str) -> ReadPlan | None:
        with self._lock:
            if path in self._footers:
                self._footers.move_to_end(path)
            return self._footers.get(path)

    def add(self, path: str, footer: ReadPlan) -> None:
        with self._lock:
            self._footers[path] = footer
            self._footers.move_to_end(path)
            while len(self._footers) > 1 and self._is_full():
                self._footers.popitem(last=False)

    def _is_full(self) -> bool:
        size = sum(footer.metadata.serialized_size for footer in self._footers.values())
        return len(self._footers) > self._max_files or size > self._max_bytes
