"""The tasks and figures that a report will have: a rule for another is a slip of the pen."""

from __future__ import annotations

from collections.abc import Iterable

from marigold_rec.config.features import Feature
from marigold_rec.config.gate import FigureRules, GateConfig
from marigold_rec.config.nearest import did_you_mean
from marigold_rec.config.tasks import Task

FIGURES = {
    "binary": (
        *("auc", "pr_auc", "log_loss", "ne", "rig", "calibration", "ece"),
        *("gauc", "gauc_unweighted", "gauc_user_share", "gauc_row_share"),
    ),
    "watch_time": ("mae_s", "rmse_s", "r2_log", "xauc", "gxauc"),
}
"""Kind of task -> what every report has of it; the tests hold it against a report."""
SLATE_FIGURES = ("mrr", "slates_share")
"""Of yes/no tasks, with evaluation.group; and ndcg@K."""


def figures_of(kind: str, group: str | None, ndcg_at: Iterable[int]) -> tuple[str, ...]:
    if kind != "binary" or group is None:
        return FIGURES[kind]
    return (*FIGURES[kind], *SLATE_FIGURES, *(f"ndcg@{k}" for k in ndcg_at))


def report_tasks(tasks: Iterable[Task]) -> dict[str, str]:
    """Name in the report -> kind: conversions on clicks are judged over all rows, too."""
    tasks = list(tasks)
    whole = {task.label for task in tasks if task.kind == "binary" and task.observed_if is None}
    found: dict[str, str] = {}
    for task in tasks:
        found[task.name] = task.kind
        if task.kind == "binary" and task.observed_if in whole:
            found[f"{task.name} over all rows"] = "binary"
    return found


def gate_problems(
    gate: GateConfig,
    tasks: Iterable[Task],
    features: Iterable[Feature],
    group: str | None,
    ndcg_at: Iterable[int],
) -> list[str]:
    """One line for each name that no report and no profile will have."""
    known, ndcg_at = report_tasks(tasks), tuple(ndcg_at)
    problems: list[str] = []

    def look(path: str, rules: FigureRules, kind: str) -> None:
        figures = figures_of(kind, group, ndcg_at)
        problems.extend(
            f"nightly.gate.{path}.{figure}: a {kind} task has no such figure; "
            f"{did_you_mean(figure, figures)}"
            for figure in rules
            if figure not in figures
        )

    for kind in FIGURES:
        look(f"defaults.{kind}", getattr(gate.defaults, kind), kind)
    for task, rules in gate.tasks.items():
        if task in known:
            look(f"tasks.{task}", rules, known[task])
        else:
            problems.append(
                f"nightly.gate.tasks.{task}: there is no such task; {did_you_mean(task, known)}"
            )
    columns = dict.fromkeys(feature.source for feature in features)
    problems += [
        f"nightly.gate.drift.ignore: no feature reads a column {column!r}; "
        f"{did_you_mean(column, columns)}"
        for column in gate.drift.ignore
        if column not in columns
    ]
    return problems
