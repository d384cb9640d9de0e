"""Collects a study's results: the rows of its table, the single-task models, the final weights."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from jobs.studies.plan import Plan
from jobs.studies.results import TrialResult
from jobs.studies.table import BySeed, Row, Spread, make_rows, shares, spread


@dataclass(frozen=True)
class StudyResults:
    plan: Plan
    results: list[TrialResult]
    rows: list[Row]
    """Balancers with a finished run, best first."""
    single_task: dict[str, Spread]
    """Task -> metric of its own model."""
    single_task_time: Spread | None
    """Step time of all single-task models together, relative to the reference's step."""
    final_weights: dict[str, dict[str, float]]
    """Balancer -> task -> share of the weight at the end, mean over seeds."""
    missing: list[tuple[str, int]]
    """Cells without a result."""


def collect_results(plan: Plan, results: list[TrialResult]) -> StudyResults:
    by_name: dict[str, list[TrialResult]] = {}
    for result in results:
        by_name.setdefault(result.name, []).append(result)
    tasks = [column.task for column in plan.columns]
    value = {
        name: {task: _by_seed(by_name[name], task) for task in tasks}
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
        if (found := spread(_by_seed(by_name.get(name, []), task).values())) is not None
    }
    return StudyResults(
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


def _by_seed(results: Iterable[TrialResult], task: str) -> BySeed:
    return {r.seed: r.metrics[task] for r in results if task in r.metrics}


def _joint_time(plan: Plan, step_time_s: dict[str, dict[int, float]]) -> Spread | None:
    reference = step_time_s.get(plan.file.reference, {})
    models = [step_time_s.get(name, {}) for name in plan.single_task_names.values()]
    seeds = [s for s in reference if models and all(s in model for model in models)]
    return spread(sum(model[seed] for model in models) / reference[seed] for seed in seeds)


def _final_shares(results: list[TrialResult]) -> dict[str, float]:
    of_seeds = [shares(result.final_weights) for result in results if result.final_weights]
    tasks = list(dict.fromkeys(task for found in of_seeds for task in found))
    return {task: statistics.fmean(f[task] for f in of_seeds if task in f) for task in tasks}


def _missing(plan: Plan, results: list[TrialResult]) -> list[tuple[str, int]]:
    there = {(result.name, result.seed) for result in results}
    return [trial for trial in plan.trials() if trial not in there]


def distinct(study: StudyResults, key: str) -> list[str]:
    """Returns the values of one entry of the trials' records, the most frequent first."""
    counted = Counter(str(r.record[key]) for r in study.results if r.record.get(key))
    return [value for value, _ in counted.most_common()]
