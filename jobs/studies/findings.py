"""All that a study found: the rows of its table, the single-task models, weights, provenance."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from jobs.studies.plan import Plan
from jobs.studies.results import CellResult
from jobs.studies.table import BySeed, Row, Spread, make_rows, shares, spread


@dataclass(frozen=True)
class Findings:
    plan: Plan
    results: list[CellResult]
    rows: list[Row]
    """Of the balancers with a finished run, best first."""
    single_task: dict[str, Spread]
    """Task -> figure of its own model."""
    single_task_time: Spread | None
    """Of all of these together, relative to the reference's step."""
    final_weights: dict[str, dict[str, float]]
    """Balancer -> task -> share of the weight at the end, mean over seeds."""
    missing: list[tuple[str, int]]
    """Cells without a result."""


def find(plan: Plan, results: list[CellResult]) -> Findings:
    by_name: dict[str, list[CellResult]] = {}
    for result in results:
        by_name.setdefault(result.name, []).append(result)
    tasks = [column.task for column in plan.columns]
    value = {
        name: {task: _figures(by_name[name], task) for task in tasks}
        for name in plan.file.balancers
        if name in by_name
    }
    step_time_s = {
        name: {r.seed: r.step_time_s for r in found if r.step_time_s is not None}
        for name, found in by_name.items()
    }
    single_task = {
        task: found
        for task, name in plan.single_task_names.items()
        if (found := spread(_figures(by_name.get(name, []), task).values())) is not None
    }
    return Findings(
        plan=plan,
        results=results,
        rows=make_rows(
            value,
            step_time_s,
            higher_is_better={column.task: column.higher_is_better for column in plan.columns},
            automatic=[n for n in value if plan.file.balancers[n].automatic],
            reference=plan.file.reference,
            single_task={task: found.mean for task, found in single_task.items()},
        ),
        single_task=single_task,
        single_task_time=_joint_time(plan, step_time_s),
        final_weights={name: _final_shares(by_name[name]) for name in value},
        missing=_missing(plan, results),
    )


def _figures(results: Iterable[CellResult], task: str) -> BySeed:
    return {r.seed: r.figures[task] for r in results if task in r.figures}


def _joint_time(plan: Plan, step_time_s: dict[str, dict[int, float]]) -> Spread | None:
    reference = step_time_s.get(plan.file.reference, {})
    models = [step_time_s.get(name, {}) for name in plan.single_task_names.values()]
    seeds = [s for s in reference if models and all(s in model for model in models)]
    return spread(sum(model[seed] for model in models) / reference[seed] for seed in seeds)


def _final_shares(results: list[CellResult]) -> dict[str, float]:
    of_seeds = [shares(result.final_weights) for result in results if result.final_weights]
    tasks = list(dict.fromkeys(task for found in of_seeds for task in found))
    return {task: statistics.fmean(f[task] for f in of_seeds if task in f) for task in tasks}


def _missing(plan: Plan, results: list[CellResult]) -> list[tuple[str, int]]:
    there = {(result.name, result.seed) for result in results}
    return [cell for cell in plan.cells() if cell not in there]


def distinct(findings: Findings, key: str) -> list[str]:
    """The values of a record's entry over all cells, the most frequent first."""
    counted = Counter(str(r.record[key]) for r in findings.results if r.record.get(key))
    return [value for value, _ in counted.most_common()]
