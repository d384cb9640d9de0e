"""Computes a study's table: mean and spread over seeds, Delta-m, ranks, differences, step times.

These are plain functions of numbers; metrics are `value[name][task][seed]` throughout.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import rankdata

BySeed = Mapping[int, float]


@dataclass(frozen=True)
class Spread:
    """Mean and spread of one metric over seeds. `sd`: sample standard deviation; None: one seed."""

    mean: float
    sd: float | None
    count: int

    @property
    def error(self) -> float | None:
        """Returns the standard error of the mean."""
        return None if self.sd is None else self.sd / math.sqrt(self.count)


@dataclass(frozen=True)
class Row:
    """A balancer's row. None, or a task left out: there is nothing to compute it from."""

    name: str
    is_automatic: bool
    metrics: dict[str, Spread]
    differences: dict[str, Spread]
    """Paired differences from the reference; empty for the reference itself."""
    delta_m: Spread | None
    ranks: dict[str, float]
    mean_rank: float | None
    step_time: Spread | None
    """Relative to the reference's with the same seed."""


def spread(values: Iterable[float]) -> Spread | None:
    """Returns mean and spread of `values`; None for no values."""
    known = list(values)
    if not known:
        return None
    sd = statistics.stdev(known) if len(known) > 1 else None
    return Spread(statistics.fmean(known), sd, len(known))


def paired_difference(of: BySeed, reference: BySeed) -> Spread | None:
    """Returns `of` - `reference`, over the seeds that both have."""
    return spread(of[seed] - reference[seed] for seed in sorted(of.keys() & reference.keys()))


def paired_ratio(of: BySeed, reference: BySeed) -> Spread | None:
    """Returns `of` / `reference`, over the seeds that both have."""
    return spread(of[seed] / reference[seed] for seed in sorted(of.keys() & reference.keys()))


def delta_m(
    metrics: Mapping[str, BySeed],
    single_task: Mapping[str, float],
    higher_is_better: Mapping[str, bool],
) -> Spread | None:
    """Computes the mean over tasks of 100 (M - S) / |S| percent, over the seeds with every task.

    S: mean of the single-task model over its seeds; the sign is turned where lower is better
    (Maninis et al. 2019, "Attentive Single-Tasking of Multiple Tasks").
    None when a task has no S, or S is 0.
    """
    tasks = list(higher_is_better)
    if not tasks or any(not single_task.get(task) or task not in metrics for task in tasks):
        return None
    seeds = set.intersection(*(set(metrics[task]) for task in tasks))
    return spread(
        statistics.fmean(
            (100 if higher_is_better[task] else -100)
            * (metrics[task][seed] - single_task[task])
            / abs(single_task[task])
            for task in tasks
        )
        for seed in sorted(seeds)
    )


def ranks(means: Mapping[str, float], *, higher_is_better: bool) -> dict[str, float]:
    """Maps a name to its rank, 1 is best; equal means share their mean rank."""
    signed = [-mean if higher_is_better else mean for mean in means.values()]
    return dict(zip(means, rankdata(signed).tolist(), strict=True))


def make_rows(
    value: Mapping[str, Mapping[str, BySeed]],
    step_time_s: Mapping[str, BySeed],
    *,
    higher_is_better: Mapping[str, bool],
    automatic: Sequence[str],
    reference: str,
    single_task: Mapping[str, float],
) -> list[Row]:
    """Makes a row for every name in `value`, best Delta-m first (else best mean rank)."""
    metrics = {
        name: {task: found for task in of_name if (found := spread(of_name[task].values()))}
        for name, of_name in value.items()
    }
    rank = {
        task: ranks(
            {name: metrics[name][task].mean for name in automatic if task in metrics.get(name, {})},
            higher_is_better=higher,
        )
        for task, higher in higher_is_better.items()
    }
    rows = []
    for name in value:
        of_tasks = {task: rank[task][name] for task in higher_is_better if name in rank[task]}
        differences = {}
        if name != reference:
            for task, by_seed in value[name].items():
                found = paired_difference(by_seed, value.get(reference, {}).get(task, {}))
                if found is not None:
                    differences[task] = found
        is_complete = len(of_tasks) == len(higher_is_better)
        rows.append(
            Row(
                name=name,
                is_automatic=name in automatic,
                metrics=metrics[name],
                differences=differences,
                delta_m=delta_m(value[name], single_task, higher_is_better),
                ranks=of_tasks,
                mean_rank=statistics.fmean(of_tasks.values()) if is_complete else None,
                step_time=paired_ratio(step_time_s.get(name, {}), step_time_s.get(reference, {})),
            )
        )
    return sorted(rows, key=_best_first)


def _best_first(row: Row) -> tuple[float, float]:
    gain = -row.delta_m.mean if row.delta_m is not None else math.inf
    return gain, row.mean_rank if row.mean_rank is not None else math.inf


def shares(weights: Mapping[str, float]) -> dict[str, float]:
    """Divides each weight by their sum: Adam and Adagrad are invariant to a common factor."""
    total = sum(weights.values())
    return {task: weight / total if total else 0.0 for task, weight in weights.items()}
