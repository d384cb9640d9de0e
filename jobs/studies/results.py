"""Reads the metrics of a study's finished trials from their runs' folders."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jobs.studies.plan import Plan
from jobs.studies.trials import Trial

Series = tuple[tuple[int, float], ...]
"""(step, value) in the order of steps."""


@dataclass(frozen=True)
class TrialResult:
    name: str
    seed: int
    metrics: dict[str, float]
    """Task -> its metric; tasks that the model does not have, or without a value, are left out."""
    step_time_s: float | None
    """Median over the run's logging intervals, without the first."""
    weights: dict[str, Series]
    """Task -> its weight at the logged steps."""
    summary: dict[str, Any]
    record: dict[str, Any]

    @property
    def final_weights(self) -> dict[str, float]:
        return {task: series[-1][1] for task, series in self.weights.items() if series}


def read_results(plan: Plan, trials: Iterable[Trial]) -> list[TrialResult]:
    """Reads the trials that are done under their config file's settings, in the order given."""
    return [_read(plan, trial) for trial in trials if trial.is_done()]


def _read(plan: Plan, trial: Trial) -> TrialResult:
    summary = trial.summary()
    metrics = {column.task: summary.get(column.summary_key) for column in plan.columns}
    return TrialResult(
        name=trial.name,
        seed=trial.seed,
        metrics={task: value for task, value in metrics.items() if value is not None},
        step_time_s=summary.get("perf/step_time_s"),
        weights=_weights(trial, [column.task for column in plan.columns]),
        summary=summary,
        record=trial.record(),
    )


def _weights(trial: Trial, tasks: list[str]) -> dict[str, Series]:
    file = trial.run_folder / "metrics.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    found: dict[str, list[tuple[int, float]]] = {task: [] for task in tasks}
    for line in map(json.loads, lines):
        for task in tasks:
            value = line.get(f"train/weight/{task}")
            if value is not None:
                found[task].append((line["step"], value))
    return {task: tuple(series) for task, series in found.items() if series}
