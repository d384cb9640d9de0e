"""Labels that teach nothing: none observed, all 0, all 1, all the same number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from data_pipelines.inputs.examples import Examples
from marigold_rec.config.label_kinds import has_classes
from marigold_rec.config.tasks import Task
from marigold_rec.transforms.columns import lone_array

_MANY_WITHOUT_1, _MANY_WITHOUT_0 = 10_000, 1_000
"""Labels of a sample that can lack a class by chance only where it is rarer than 1 of 1,000 (1), or
of 100 (0): positives are the rare ones."""
_FEW = 100


class LabelTally:
    """Fed with pieces of one task's labels, raw and as training reads them."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._rows = 0
        self._observed = 0
        self._least, self._greatest = np.inf, -np.inf
        self._labels, self._conditions = Examples(3), Examples(3)

    def add(self, table: pa.Table, labels_B: np.ndarray, observed_B: np.ndarray) -> None:
        """`observed_B`: true where a label counts."""
        self._rows += table.num_rows
        self._labels.add(lone_array(table.column(self._task.label)))
        if self._task.observed_if is not None:
            self._conditions.add(lone_array(table.column(self._task.observed_if)))
        values = labels_B[observed_B]
        self._observed += len(values)
        if len(values):
            self._least = min(self._least, float(values.min()))
            self._greatest = max(self._greatest, float(values.max()))

    def findings(self, total_rows: int) -> Iterator[str]:
        """`total_rows`: of the split. Where all were looked at, no chance is left."""
        where = f"tasks.{self._task.name}"
        holds = f"column {self._task.label!r} holds {self._labels}"
        if self._task.observed_if is not None:
            holds += f", observed_if column {self._task.observed_if!r} {self._conditions}"
        is_all = self._rows >= total_rows
        if not self._observed:
            if self._rows and (is_all or self._rows >= _MANY_WITHOUT_1):
                yield (
                    f"{where}: no label is observed in {self._rows:,} rows ({holds}): there is "
                    "nothing to learn; look at label and observed_if (observed is where it is 1)"
                )
            return
        if self._least < self._greatest:
            return
        only = self._least
        if not has_classes(self._task.kind):
            many = _FEW
            remedy = "is it the right column?"
        elif only == 0:
            many = _MANY_WITHOUT_1
            remedy = (
                "is label the right column, is observed_if right, and have its events arrived by "
                "these days?"
            )
        else:
            many = _MANY_WITHOUT_0
            remedy = "is label null, or observed_if 0, where label should be 0?"
        if is_all or self._observed >= many:
            yield (
                f"{where}: all {self._observed:,} observed labels are {only:g} ({holds}): there "
                f"is nothing to tell apart; {remedy}"
            )
