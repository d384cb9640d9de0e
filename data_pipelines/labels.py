"""Label columns -> values and masks; and per-row weights. Invalid ones are counted, not learned.

Shapes: B rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from marigold_rec.config.schema import BinaryTask, Task
from marigold_rec.errors import DataError
from marigold_rec.transforms import float64_values, lone_array


@dataclass(frozen=True)
class Labels:
    """Labels of B rows; all float32, C-contiguous and finite."""

    labels_BT: np.ndarray
    """0 where not observed."""
    observed_BT: np.ndarray
    """1 where the label counts, else 0."""
    weights_B: np.ndarray
    counts: dict[str, int]
    """`invalid/<task>` and `invalid/weight`; only what occurred."""


class LabelColumns:
    """Reads the labels of a config's tasks. Stateless, safe in threads.

    A label is observed where it is not null or NaN and `observed_if` (if any) is 1. An observed
    label is invalid if it is not 0 or 1 (binary), or outside [0, max_s] (watch time): it counts as
    unobserved. Labels that are not observed are not judged: any sentinel may stand there.
    A weight is invalid if it is null, NaN, infinite or negative: it becomes 0.
    """

    def __init__(self, tasks: Sequence[Task], weight: str | None, max_invalid: float) -> None:
        self._tasks = tuple(tasks)
        self._weight = weight
        self._max_invalid = max_invalid

    @property
    def columns(self) -> tuple[str, ...]:
        names: list[str] = []
        for task in self._tasks:
            names += [task.label] if task.observed_if is None else [task.label, task.observed_if]
        if self._weight is not None:
            names.append(self._weight)
        return tuple(dict.fromkeys(names))

    def __call__(self, table: pa.Table) -> Labels:
        """The labels of all rows of `table`.

        Raises DataError when more than the share `max_invalid` of a task's observed labels, or of
        the weights, is invalid.
        """
        shape = (table.num_rows, len(self._tasks))
        labels_BT = np.zeros(shape, np.float32)
        observed_BT = np.zeros(shape, np.float32)
        counts: dict[str, int] = {}
        for index, task in enumerate(self._tasks):
            labels_B = _numbers(table, task.label)
            observed_B = ~np.isnan(labels_B)
            if task.observed_if is not None:
                observed_B &= _numbers(table, task.observed_if) == 1
            valid_B = observed_B & _is_valid(task, labels_B)
            num_invalid = int(np.count_nonzero(observed_B) - np.count_nonzero(valid_B))
            if num_invalid:
                counts[f"invalid/{task.name}"] = num_invalid
                what = f"tasks.{task.name}: labels in column {task.label!r}: {_wanted(task)}"
                self._judge(what, labels_B[observed_B], valid_B[observed_B])
            np.copyto(labels_BT[:, index], labels_B, where=valid_B, casting="same_kind")
            observed_BT[:, index] = valid_B
        return Labels(labels_BT, observed_BT, self._weights(table, counts), counts)

    def _weights(self, table: pa.Table, counts: dict[str, int]) -> np.ndarray:
        if self._weight is None:
            return np.ones(table.num_rows, np.float32)
        weights_B = _numbers(table, self._weight)
        valid_B = (weights_B >= 0) & (weights_B <= np.finfo(np.float32).max)
        num_invalid = table.num_rows - int(np.count_nonzero(valid_B))
        if num_invalid:
            counts["invalid/weight"] = num_invalid
            what = f"data.weight: column {self._weight!r}: a weight must be a finite number >= 0"
            self._judge(what, weights_B, valid_B)
        return np.where(valid_B, weights_B, 0.0).astype(np.float32)

    def _judge(self, what: str, values: np.ndarray, valid: np.ndarray) -> None:
        """Raises DataError when too many of `values` are not `valid`."""
        num_invalid = len(values) - int(np.count_nonzero(valid))
        share = num_invalid / len(values)
        if share <= self._max_invalid:
            return
        example = values[int(np.argmin(valid))]
        found = "null or NaN" if np.isnan(example) else format(example, "g")
        raise DataError(
            f"{what}, but {num_invalid:,} of {len(values):,} are not ({share:.2%}), e.g. {found}; "
            f"mend the column or raise data.max_invalid_labels ({self._max_invalid:.2%})"
        )


def _numbers(table: pa.Table, column: str) -> np.ndarray:
    return float64_values(lone_array(table.column(column)))


def _is_valid(task: Task, labels_B: np.ndarray) -> np.ndarray:
    if isinstance(task, BinaryTask):
        return (labels_B == 0) | (labels_B == 1)
    return (labels_B >= 0) & (labels_B <= task.max_s)


def _wanted(task: Task) -> str:
    if isinstance(task, BinaryTask):
        return "a binary label must be 0 or 1"
    return f"a watch time must lie in [0, max_s = {task.max_s:g}] seconds"
