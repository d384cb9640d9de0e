"""Label columns -> values and masks; and per-row weights. Invalid ones are counted, not learned.

Shapes: B rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from marigold_rec.config.schema import BinaryTask, Task
from marigold_rec.transforms import float64_values, lone_array


@dataclass(frozen=True, slots=True)
class Tally:
    """How many of a block's observed labels of one task, or of its weights, are invalid."""

    name: str
    what: str
    """Key, column and what was expected: the beginning of a refusal."""
    num_seen: int
    num_invalid: int
    example: float
    """The first invalid value; NaN also for a null, and if there is none."""


@dataclass(frozen=True)
class Labels:
    """Labels of B rows; all float32, C-contiguous and finite."""

    labels_BT: np.ndarray
    """0 where not observed."""
    observed_BT: np.ndarray
    """1 where the label counts, else 0."""
    weights_B: np.ndarray
    tallies: tuple[Tally, ...]

    @property
    def counts(self) -> dict[str, int]:
        """`invalid/<task>` and `invalid/weight`; only what occurred."""
        return {f"invalid/{t.name}": t.num_invalid for t in self.tallies if t.num_invalid}


class LabelColumns:
    """Reads the labels of a config's tasks. Stateless, safe in threads.

    A label is observed where it is not null or NaN and `observed_if` (if any) is 1. An observed
    label is invalid if it is not 0 or 1 (binary), or outside [0, max_s] (watch time): it counts as
    unobserved. Labels that are not observed are not judged: any sentinel may stand there.
    A weight is invalid if it is null, NaN, infinite or negative: it becomes 0.
    """

    def __init__(self, tasks: Sequence[Task], weight: str | None) -> None:
        self._tasks = tuple(tasks)
        self._weight = weight

    @property
    def columns(self) -> tuple[str, ...]:
        names: list[str] = []
        for task in self._tasks:
            names += [task.label] if task.observed_if is None else [task.label, task.observed_if]
        if self._weight is not None:
            names.append(self._weight)
        return tuple(dict.fromkeys(names))

    def __call__(self, table: pa.Table) -> Labels:
        """The labels of all rows of `table`; LabelLimit judges whether too many are invalid."""
        shape = (table.num_rows, len(self._tasks))
        labels_BT = np.zeros(shape, np.float32)
        observed_BT = np.zeros(shape, np.float32)
        tallies: list[Tally] = []
        for index, task in enumerate(self._tasks):
            labels_B = _numbers(table, task.label)
            observed_B = ~np.isnan(labels_B)
            if task.observed_if is not None:
                observed_B &= _numbers(table, task.observed_if) == 1
            valid_B = observed_B & _is_valid(task, labels_B)
            what = f"tasks.{task.name}: labels in column {task.label!r}: {_wanted(task)}"
            tallies.append(_tally(task.name, what, labels_B, observed_B, valid_B))
            np.copyto(labels_BT[:, index], labels_B, where=valid_B, casting="same_kind")
            observed_BT[:, index] = valid_B
        return Labels(labels_BT, observed_BT, self._weights(table, tallies), tuple(tallies))

    def _weights(self, table: pa.Table, tallies: list[Tally]) -> np.ndarray:
        if self._weight is None:
            return np.ones(table.num_rows, np.float32)
        weights_B = _numbers(table, self._weight)
        valid_B = (weights_B >= 0) & (weights_B <= np.finfo(np.float32).max)
        what = f"data.weight: column {self._weight!r}: a weight must be a finite number >= 0"
        tallies.append(_tally("weight", what, weights_B, np.ones_like(valid_B), valid_B))
        return np.where(valid_B, weights_B, 0.0).astype(np.float32)


def _tally(
    name: str, what: str, values_B: np.ndarray, seen_B: np.ndarray, valid_B: np.ndarray
) -> Tally:
    """`valid_B` is true only where `seen_B` is."""
    num_seen = int(np.count_nonzero(seen_B))
    num_invalid = num_seen - int(np.count_nonzero(valid_B))
    example = float(values_B[np.argmax(seen_B & ~valid_B)]) if num_invalid else float("nan")
    return Tally(name, what, num_seen, num_invalid, example)


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
