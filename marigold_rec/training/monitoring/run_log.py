"""What a run writes while it goes: metrics.jsonl, TensorBoard, summary.json, its own log.

Only rank 0 writes scalars and speaks; other ranks log into files of their own.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from torch.utils.tensorboard import SummaryWriter

from marigold_rec.atomic_io import write_atomically

LOGGER = logging.getLogger("marigold_rec")


def start_logging(folder: Path | None, rank: int) -> None:
    """Rank 0 to stderr; other ranks to `folder`/logs/rank-N.log, or nowhere without a folder."""
    if rank == 0:
        handler: logging.Handler = _StderrHandler()
    elif folder is None:
        handler = logging.NullHandler()
    else:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(folder / "logs" / f"rank-{rank}.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    quiet_third_parties()


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Looks sys.stderr up at every line: a progress bar puts its own in place, above the bar."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What StreamHandler sets at its start is of no use here."""


def quiet_third_parties() -> None:
    """What pinned versions of torch and torchrec say to each other is no news to our users."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch(rec)?\..*")
    for name in ("torch.fx", "torchrec"):
        logging.getLogger(name).setLevel(logging.ERROR)


class RunLog:
    """Scalars of a run; on ranks other than the first every method does nothing."""

    def __init__(
        self, folder: Path, *, is_first: bool, tensorboard: bool, first_step: int = 0
    ) -> None:
        """Goes on after `first_step`: what an earlier start logged beyond it is taken out."""
        self._jsonl: TextIO | None = None
        self._board: SummaryWriter | None = None
        if is_first:
            self._jsonl = _lines_until(folder / "metrics.jsonl", first_step)
            if tensorboard:
                purge = first_step + 1
                self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=purge)

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """One line of metrics.jsonl and one point per name; None (no figure) is null in JSON."""
        if self._jsonl is not None:
            self._jsonl.write(json.dumps({"step": step, **_finite(values)}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if value is not None:
                    self._board.add_scalar(name, value, step)

    def close(self) -> None:
        if self._jsonl is not None:
            self._jsonl.close()
        if self._board is not None:
            self._board.close()


def _lines_until(path: Path, step: int) -> TextIO:
    """The file, open for appending, without the lines of steps after `step` or half lines."""
    if path.exists():
        kept = [
            line for line in path.read_text(encoding="utf-8").splitlines() if _is_until(line, step)
        ]
        write_atomically(path, "".join(line + "\n" for line in kept))
    return path.open("a", buffering=1, encoding="utf-8")


def _is_until(line: str, step: int) -> bool:
    try:
        return int(json.loads(line)["step"]) <= step
    except (ValueError, KeyError, TypeError):
        return False


def write_summary(folder: Path, content: Mapping[str, Any]) -> None:
    """Writes summary.json, whole or not at all."""
    write_atomically(folder / "summary.json", json.dumps(_finite(content), indent=1) + "\n")


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: what is not finite becomes null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
