"""What the finished cells of a study measured, read from their runs' folders."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jobs.studies.cells import Cell
from jobs.studies.plan import Plan

Series = tuple[tuple[int, float], ...]
"""(step, value) in the order of steps."""


@dataclass(frozen=True)
class CellResult:
    name: str
    seed: int
    figures: dict[str, float]
    """Task -> metric; without tasks that the model has not, or that have no figure."""
    step_time_s: float | None
    """Median over the run's logging intervals, without the first."""
    weights: dict[str, Series]
    """Task -> its weight at the logged steps."""
    summary: dict[str, Any]
    record: dict[str, Any]

    @property
    def final_weights(self) -> dict[str, float]:
        return {task: series[-1][1] for task, series in self.weights.items() if series}


def read_results(plan: Plan, cells: Iterable[Cell]) -> list[CellResult]:
    """Of the cells that are done under their config file's settings, in the order given."""
    return [_read(plan, cell) for cell in cells if cell.is_done()]


def _read(plan: Plan, cell: Cell) -> CellResult:
    summary = cell.summary()
    figures = {column.task: summary.get(column.figure) for column in plan.columns}
    return CellResult(
        name=cell.name,
        seed=cell.seed,
        figures={task: value for task, value in figures.items() if value is not None},
        step_time_s=summary.get("perf/step_time_s"),
        weights=_weights(cell, [column.task for column in plan.columns]),
        summary=summary,
        record=cell.record(),
    )


def _weights(cell: Cell, tasks: list[str]) -> dict[str, Series]:
    file = cell.run_folder / "metrics.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    found: dict[str, list[tuple[int, float]]] = {task: [] for task in tasks}
    for line in map(json.loads, lines):
        for task in tasks:
            value = line.get(f"train/weight/{task}")
            if value is not None:
                found[task].append((line["step"], value))
    return {task: tuple(series) for task, series in found.items() if series}
