"""Runs beside one another: the first is what the others are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from marigold_rec.analysis.report import Figure
from marigold_rec.metrics import in_order, main_metrics, metric_of
from marigold_rec.reporting.markdown import escaped, markdown_table
from marigold_rec.reporting.page import environment
from marigold_rec.reporting.runs import Run
from marigold_rec.reporting.settings import differing_settings
from marigold_rec.reporting.wording import NOTHING, interval, number, shown, signed


@dataclass(frozen=True)
class Cell:
    found: Figure | None
    difference: float | None
    """To the first run; None for itself, and where either has no figure."""
    is_best: bool


@dataclass(frozen=True)
class TaskComparison:
    task: str
    metrics: Sequence[str]
    cells: Sequence[Sequence[Cell]]
    """Per run, one for each metric."""


@dataclass(frozen=True)
class Comparison:
    runs: Sequence[Run]
    labels: Sequence[str]
    """One for each run, all different."""
    facts: Sequence[str]
    tasks: Sequence[TaskComparison]
    settings: dict[str, list[str]]
    """Dotted path -> value in each run, of the settings that differ."""
    warnings: Sequence[str]


def compare(runs: Sequence[Run], *, all_metrics: bool = True) -> Comparison:
    labels = _labels(runs)
    names = dict.fromkeys(task for run in runs for task in run.figures)
    return Comparison(
        runs=runs,
        labels=labels,
        facts=[fact for fact in dict.fromkeys(f for run in runs for f in run.facts)
               if any(run.facts.get(fact) for run in runs)],
        tasks=[_compare_task(task, runs, all_metrics) for task in names],
        settings=differing_settings([run.settings for run in runs]),
        warnings=_warnings(runs, labels),
    )  # fmt: skip


def comparison_markdown(found: Comparison) -> str:
    labels = [escaped(label) for label in found.labels]
    facts = [
        [
            label,
            run.kind,
            *(escaped(run.facts[f]) if run.facts.get(f) else NOTHING for f in found.facts),
        ]
        for label, run in zip(labels, found.runs, strict=True)
    ]
    parts = [
        "# Comparison",
        *(f"- {escaped(warning)}" for warning in found.warnings),
        markdown_table(["run", "kind", *found.facts], facts),
    ]
    for task in found.tasks:
        rows = [
            [label, *(_markdown_cell(c, m) for c, m in zip(cells, task.metrics, strict=True))]
            for label, cells in zip(labels, task.cells, strict=True)
        ]
        heading = ["run", *(escaped(metric_of(metric).label) for metric in task.metrics)]
        parts += [f"## {escaped(task.task)}", markdown_table(heading, rows)]
    if found.settings:
        rows = [
            [escaped(path), *(escaped(value) if value else NOTHING for value in values)]
            for path, values in found.settings.items()
        ]
        parts += ["## Settings that differ", markdown_table(["setting", *labels], rows)]
    parts.append(
        "Bold: the best of a column. Differences are to the first run, and not tested here: an "
        "evaluation with a baseline does that."
    )
    return "\n\n".join(parts) + "\n"


def comparison_html(found: Comparison) -> str:
    page = environment().get_template("compare.html.j2")
    return page.render(found=found, pairs=list(zip(found.labels, found.runs, strict=True)))


def _compare_task(task: str, runs: Sequence[Run], all_metrics: bool) -> TaskComparison:
    names = [name for run in runs for name in run.figures.get(task, {})]
    metrics = in_order(names) if all_metrics else main_metrics(names)
    columns = [_column(metric, [run.figures.get(task, {}).get(metric) for run in runs])
               for metric in metrics]  # fmt: skip
    rows = [[column[i] for column in columns] for i in range(len(runs))]
    return TaskComparison(task, metrics, rows)


def _column(metric: str, found: Sequence[Figure | None]) -> list[Cell]:
    of_metric = metric_of(metric)
    values = [None if one is None else one.value for one in found]
    losses = [of_metric.loss(value) for value in values if value is not None]
    # A lone figure is not the best of anything.
    least = min(losses) if len(losses) > 1 and of_metric.better is not None else None
    first = values[0]
    return [
        Cell(
            found=one,
            difference=None if i == 0 or value is None or first is None else value - first,
            is_best=value is not None and least is not None and of_metric.loss(value) == least,
        )
        for i, (one, value) in enumerate(zip(found, values, strict=True))
    ]


def _labels(runs: Sequence[Run]) -> list[str]:
    """Names of the runs; with the folder where two share one."""
    names = [run.name for run in runs]
    return [
        run.name if names.count(run.name) == 1 else f"{run.name} ({run.folder})" for run in runs
    ]


def _warnings(runs: Sequence[Run], labels: Sequence[str]) -> list[str]:
    """Figures of different rows are not comparable, and look as if they were."""
    found = []
    prints = {run.data for run in runs if run.data is not None}
    if len(prints) > 1:
        found.append("the runs were evaluated on different data: their figures are not comparable")
    for task in dict.fromkeys(task for run in runs for task in run.rows):
        rows = {label: run.rows[task] for label, run in zip(labels, runs, strict=True)
                if task in run.rows}  # fmt: skip
        if len(set(rows.values())) > 1:
            said = ", ".join(f"{shown(label)} {count:,}" for label, count in rows.items())
            found.append(f"{shown(task)}: different numbers of evaluated rows: {said}")
    for label, run in zip(labels, runs, strict=True):
        if run.facts.get("status", "done") != "done":
            found.append(f"{shown(label)}: its status is {shown(run.facts['status'])}, not done")
        elif not run.figures:
            found.append(f"{shown(label)}: it holds no figures (was there data to evaluate on?)")
    return found


def _markdown_cell(cell: Cell, metric: str) -> str:
    if cell.found is None:
        return NOTHING
    if cell.found.value is None:
        return f"{NOTHING} ({escaped(cell.found.reason or 'no reason given')})"
    text = number(cell.found.value, metric)
    text = f"**{text}**" if cell.is_best else text
    if between := interval(cell.found.low, cell.found.high, metric):
        text += f" ({between})"
    return text if cell.difference is None else f"{text}, {signed(cell.difference, metric)}"
