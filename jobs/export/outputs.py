"""Names an artefact's outputs: the evaluation's targets and the heads' other columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from marigold_rec.analysis.targets import targets_of
from marigold_rec.config.tasks import Task
from marigold_rec.errors import ConfigError
from marigold_rec.serving.artefact import Output


def outputs_of(
    tasks: Sequence[Task], extra_columns: Sequence[tuple[str, str]]
) -> tuple[Output, ...]:
    """Lists the outputs in the tasks' order, each conversion over all rows behind its task as
    <task>_over_all_rows; then the columns that heads predict beside the expected value
    (task, column), each as <task>_<column>.

    Raises ConfigError if a task has the name of another one's output.
    """
    named = [
        Output(
            name=target.column,
            kind=target.kind,
            space=target.space,
            observed_if=target.observed_if,
            factors=target.tasks,
        )
        for target in targets_of(tasks)
    ]
    by_name = {task.name: task for task in tasks}
    for name, column in extra_columns:
        named.append(
            Output(
                name=f"{name}_{column}",
                kind=by_name[name].kind,
                space="observed",
                observed_if=by_name[name].observed_if,
                factors=(f"{name}_{column}",),
            )
        )
    counts = Counter(output.name for output in named)
    if doubled := [name for name, count in counts.items() if count > 1]:
        raise ConfigError(
            [
                f"tasks: two outputs would be called {name!r}; rename the task {name}"
                for name in doubled
            ]
        )
    return tuple(named)
