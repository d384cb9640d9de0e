"""What a profile keeps of each task's labels: read as training reads them, over all rows."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from data_pipelines.labels.columns import LabelColumns
from data_pipelines.statistics.moments import Moments
from marigold_rec.config.label_kinds import has_classes
from marigold_rec.config.tasks import Task
from marigold_rec.profile import LabelProfile
from marigold_rec.transforms.arrow_types import is_number, plain_type


class LabelTally:
    """Of one task whose columns are there and hold numbers."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._columns = LabelColumns((task,), None)
        self._moments = Moments()
        self._invalid = 0
        self._example: float | None = None

    def add(self, table: pa.Table) -> None:
        labels = self._columns(table)
        observed_B = labels.observed_BT[:, 0] > 0
        self._moments.add(labels.labels_BT[:, 0][observed_B].astype(np.float64))
        tally = labels.tallies[0]
        if self._example is None and not math.isnan(tally.example):
            self._example = tally.example
        self._invalid += tally.num_invalid

    def profile(self) -> LabelProfile:
        moments = self._moments
        is_counted = has_classes(self._task.kind)
        return LabelProfile(
            kind=self._task.kind,
            column=self._task.label,
            observed=moments.count,
            invalid=self._invalid,
            invalid_example=self._example,
            mean=moments.mean if moments.count else None,
            std=moments.std if moments.count else None,
            positives=round(moments.mean * moments.count) if is_counted else None,
        )


def label_tallies(tasks: tuple[Task, ...], schema: pa.Schema) -> dict[str, LabelTally]:
    """By task; none for a task whose columns are missing or hold no numbers."""
    return {
        task.name: LabelTally(task)
        for task in tasks
        if all(_is_readable(name, schema) for name in (task.label, task.observed_if) if name)
    }


def _is_readable(column: str, schema: pa.Schema) -> bool:
    if column not in schema.names:
        return False
    kind = plain_type(schema.field(column).type)
    return is_number(kind) or pat.is_boolean(kind)
