"""What is judged: each task on its observed rows, and a conversion on the whole space.

A conversion rate is learned and judged on clicks, but serves on impressions. On the whole space
p(click) * p(conversion | click) (CTCVR) meets the label "clicked and converted" of every row.

Shapes: N rows of the split.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from marigold_rec.analysis.row_arrays import chunks
from marigold_rec.analysis.score_files import ScoreFiles
from marigold_rec.config.label_kinds import Kind, has_classes
from marigold_rec.config.tasks import Task


@dataclass(frozen=True)
class Target:
    """One thing that is predicted. `tasks`: the factors of the prediction, the condition first."""

    name: str
    kind: Kind
    space: Literal["observed", "all"]
    label: str
    observed_if: str | None
    tasks: tuple[str, ...]

    @property
    def column(self) -> str:
        """The name as a column of a table: without the blanks that a report's name has."""
        return self.name.replace(" ", "_")

    def score(self, files: ScoreFiles) -> NDArray[np.float32]:
        """float32 [N]."""
        score_N = files.score(self.tasks[0])
        for task in self.tasks[1:]:
            score_N *= files.score(task)
        return score_N

    def columns(self, files: ScoreFiles) -> dict[str, NDArray[np.float32]]:
        """What the head predicts beside the expected value, by column; nothing for a product."""
        task, *others = self.tasks
        names = () if others else files.columns_of(task)
        return {name: files.score(task, name) for name in names}

    def label_of(self, files: ScoreFiles) -> NDArray[np.float32]:
        """float32 [N]; NaN where not observed."""
        label_N = files.label(self.tasks[0])
        for task in self.tasks[1:]:
            other_N = files.label(task)
            for part in chunks(len(label_N)):
                label_n = label_N[part]
                np.copyto(label_n, other_N[part], where=label_n == 1)
        return label_N


def targets_of(tasks: Sequence[Task], *, has_due: bool = False) -> tuple[Target, ...]:
    """In the tasks' order; each conversion over all rows follows its task.

    `has_due`: only labels that became due within a window are observed (data.eval.due). A
    conversion that matures later than its click is then not judged over all rows, see
    `without_whole_space`.
    """
    return tuple(target for task in tasks for target in _targets(task, tasks, has_due))


def without_whole_space(tasks: Sequence[Task]) -> list[str]:
    """Why conversions are not judged over all rows where only due labels are observed."""
    return [
        f"no figures of {task.name} over all rows: in a window of due labels (data.eval.due) "
        f"{chain[0].name} (due after {chain[0].matures_h:g} h) and {task.name} (due after "
        f"{task.matures_h:g} h) are observed on other rows, and a clicked row would be missing; "
        "evaluate without data.eval.due on days whose labels are all mature"
        for task in tasks
        if (chain := _funnel(task, tasks)) is not None and not _matures_alike(chain)
    ]


def _targets(task: Task, tasks: Sequence[Task], has_due: bool) -> Iterator[Target]:
    yield Target(task.name, task.kind, "observed", task.label, task.observed_if, (task.name,))
    chain = _funnel(task, tasks)
    if chain is None or (has_due and not _matures_alike(chain)):
        return
    yield Target(
        f"{task.name} over all rows",
        task.kind,
        "all",
        " and ".join(step.label for step in chain),
        None,
        tuple(step.name for step in chain),
    )


def _funnel(task: Task, tasks: Sequence[Task]) -> list[Task] | None:
    """The steps that lead to a conversion, itself last; None where it hangs on no task, is no
    yes/no label, or its first step is not observed on all rows."""
    by_name = {other.name: other for other in tasks}
    chain = [task]
    while chain[0].given is not None:
        chain.insert(0, by_name[chain[0].given])
    is_whole = len(chain) > 1 and chain[0].observed_if is None
    return chain if is_whole and all(has_classes(step.kind) for step in chain) else None


def _matures_alike(chain: Sequence[Task]) -> bool:
    return len({step.matures_h for step in chain}) == 1
