"""The tasks and figures that a report will have: a rule for another is a slip of the pen."""

from __future__ import annotations

from collections.abc import Iterable

from marigold_rec.config.features import FeatureSettings
from marigold_rec.config.gate import FigureRules, GateConfig
from marigold_rec.config.label_kinds import Kind, has_classes
from marigold_rec.config.nearest import did_you_mean
from marigold_rec.config.tasks import Task
from marigold_rec.metrics import metrics_of


def figures_of(kind: Kind, group: str | None, ndcg_at: Iterable[int]) -> tuple[str, ...]:
    """The metrics that a report has of a kind of label; those within a slate with
    evaluation.group only, and for each of their depths."""
    depths = tuple(ndcg_at)
    found: list[str] = []
    for name, metric in metrics_of(kind).items():
        if metric.within != "slate":
            found.append(name)
        elif group is not None:
            found += [f"{name}@{depth}" for depth in depths] if metric.suffix else [name]
    return tuple(found)


def report_tasks(tasks: Iterable[Task]) -> dict[str, Kind]:
    """Name in the report -> kind: conversions of a funnel are judged over all rows, too."""
    first_step: dict[str | None, Task] = {}
    found: dict[str, Kind] = {}
    for task in tasks:
        found[task.name] = task.kind
        first = first_step[task.name] = first_step.get(task.given, task)
        if first is not task and first.observed_if is None and has_classes(task.kind):
            found[f"{task.name} over all rows"] = task.kind
    return found


def gate_problems(
    gate: GateConfig,
    tasks: Iterable[Task],
    features: Iterable[FeatureSettings],
    group: str | None,
    ndcg_at: Iterable[int],
) -> list[str]:
    """One line for each name that no report and no profile will have."""
    known, ndcg_at = report_tasks(tasks), tuple(ndcg_at)
    problems: list[str] = []

    def look(path: str, rules: FigureRules, kind: Kind) -> None:
        figures = figures_of(kind, group, ndcg_at)
        problems.extend(
            f"nightly.gate.{path}.{figure}: a {kind} task has no such figure; "
            f"{did_you_mean(figure, figures)}"
            for figure in rules
            if figure not in figures
        )

    for kind, rules in gate.defaults.items():
        look(f"defaults.{kind}", rules, kind)
    for task, rules in gate.tasks.items():
        if task in known:
            look(f"tasks.{task}", rules, known[task])
        else:
            problems.append(
                f"nightly.gate.tasks.{task}: there is no such task; {did_you_mean(task, known)}"
            )
    columns = dict.fromkeys(column for feature in features for column in feature.columns)
    problems += [
        f"nightly.gate.drift.ignore: no feature reads a column {column!r}; "
        f"{did_you_mean(column, columns)}"
        for column in gate.drift.ignore
        if column not in columns
    ]
    return problems
