"""What an artefact predicts, by name: the evaluation's targets and the heads' other columns."""

from __future__ import annotations

from collections.abc import Sequence

from marigold_rec.analysis.targets import targets_of
from marigold_rec.config.tasks import Task
from marigold_rec.serving import Output


def outputs_of(tasks: Sequence[Task], prediction_columns: Sequence[str]) -> tuple[Output, ...]:
    """In the tasks' order, each conversion over all rows behind its task; then the columns that
    heads predict beside the expected value, each as <task>_<column>."""
    named = [
        Output(
            name=target.name,
            kind=target.kind,
            space=target.space,
            observed_if=target.observed_if,
            factors=target.tasks,
        )
        for target in targets_of(tasks)
    ]
    by_name = {task.name: task for task in tasks}
    for column in prediction_columns[len(tasks) :]:
        task = next(task for name, task in by_name.items() if column.startswith(f"{name}_"))
        named.append(
            Output(
                name=column,
                kind=task.kind,
                space="observed",
                observed_if=task.observed_if,
                factors=(column,),
            )
        )
    return tuple(named)
