"""Reads the losses and task weights of a run's metrics.jsonl, for the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marigold_rec.analysis.report import Training


def training_log(run_folder: Path | None, until_step: int, tasks: Sequence[str]) -> Training | None:
    """Reads the logged steps up to the checkpoint's; None if there is no log. Incomplete lines are
    skipped: the run may still be writing."""
    if run_folder is None:
        return None
    try:
        text = (run_folder / "metrics.jsonl").read_text(encoding="utf-8")
    except OSError:
        return None
    lines = [line for line in map(_parse, text.splitlines()) if line is not None]
    logged = [x for x in lines if x["step"] <= until_step and f"train/loss/{tasks[0]}" in x]
    if not logged:
        return None
    return Training(
        steps=tuple(x["step"] for x in logged),
        losses={task: tuple(x.get(f"train/loss/{task}") for x in logged) for task in tasks},
        weights={task: tuple(x.get(f"train/weight/{task}") for x in logged) for task in tasks},
    )


def _parse(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("step"), int) else None
