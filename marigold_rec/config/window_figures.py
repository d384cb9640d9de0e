"""The figures of the newest training rows: their names, and which of two values is the better."""

from __future__ import annotations

import math
from collections.abc import Iterable

from marigold_rec.config.tasks import Task

WINDOW_FIGURES: dict[str, dict[str, str]] = {
    "binary": {"ne": "window_ne", "auc": "window_auc", "calibration": "window_calibration"},
    "duration": {"mae": "window_mae_s"},
}
"""Kind of task -> metric -> name of the scalar, which train/ and /<task> surround in the log."""


def window_figures(tasks: Iterable[Task]) -> list[str]:
    """All that `tasks` have: window_auc/ctr, ..."""
    return [f"{name}/{task.name}" for task in tasks for name in WINDOW_FIGURES[task.kind].values()]


def badness(figure: str, value: float) -> float:
    """The smaller, the better: AUC should be large, a calibration near 1, all others small.

    A calibration counts by its ratio to 1, so that twice is as bad as half.
    """
    if figure.startswith("window_auc/"):
        return -value
    if figure.startswith("window_calibration/"):
        return abs(math.log(value)) if value > 0 else math.inf
    return value
