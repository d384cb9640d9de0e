"""Label columns -> values and masks; and per-row weights. Invalid ones are counted, not learned.

Shapes: B rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from data_pipelines.labels.due import LabelTimes
from marigold_rec.config.due import Due
from marigold_rec.config.label_kinds import LABEL_KINDS
from marigold_rec.config.schema import Config
from marigold_rec.config.tasks import Task
from marigold_rec.transforms.columns import float64_values, lone_array


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
    num_zero: int = 0
    """Of weights: those that are 0 as training holds them, so small ones that round to it, too."""


@dataclass(frozen=True)
class Labels:
    """Labels of B rows; all float32, C-contiguous and finite."""

    labels_BT: np.ndarray
    """0 where not observed."""
    observed_BT: np.ndarray
    """1 where the label counts, else 0."""
    weights_B: np.ndarray
    tallies: tuple[Tally, ...]
    by_time: Mapping[str, int] = field(default_factory=dict)
    """See DueLabels.counts."""

    @property
    def counts(self) -> dict[str, int]:
        """`invalid/<task>`, `invalid/weight`, `invalid/time`, `not_due/<task>` and `late/<task>`;
        only what occurred."""
        invalid = {f"invalid/{t.name}": t.num_invalid for t in self.tallies if t.num_invalid}
        return {**invalid, **self.by_time}


class LabelColumns:
    """Reads the labels of a config's tasks. Stateless, safe in threads.

    A label is observed where it is not null or NaN and `observed_if` (if any) is 1. An observed
    label that is not of its kind (see `config.label_kinds`) is invalid: it counts as unobserved.
    Labels that are not observed are not judged: any sentinel may stand there.
    Where a split has a window of due times, labels that are not due in it are unobserved, and so is
    any label of a row without a time, which is invalid (see LabelTimes).
    A weight is invalid if it is null, NaN, infinite or negative: it becomes 0.
    """

    def __init__(
        self, tasks: Sequence[Task], weight: str | None, times: LabelTimes | None = None
    ) -> None:
        self._tasks = tuple(tasks)
        self._weight = weight
        self._times = times if times is not None and times.is_needed else None

    @classmethod
    def of(cls, config: Config, due: Due | None) -> LabelColumns:
        """`due`: of the split that is read."""
        return cls(config.tasks, config.data.weight, LabelTimes(config, due))

    @property
    def columns(self) -> tuple[str, ...]:
        names: list[str] = []
        for task in self._tasks:
            names += [task.label] if task.observed_if is None else [task.label, task.observed_if]
        if self._weight is not None:
            names.append(self._weight)
        if self._times is not None:
            names += self._times.columns
        return tuple(dict.fromkeys(names))

    def __call__(self, table: pa.Table) -> Labels:
        """The labels of all rows of `table`; LabelLimit judges whether too many are invalid."""
        shape = (table.num_rows, len(self._tasks))
        labels_BT = np.zeros(shape, np.float32)
        observed_BT = np.zeros(shape, np.float32)
        tallies: list[Tally] = []
        by_time: dict[str, int] = {}
        rows = None if self._times is None else self._times.rows(table)
        for index, task in enumerate(self._tasks):
            labels_B = _numbers(table, task.label)
            observed_B = ~np.isnan(labels_B)
            if task.observed_if is not None:
                observed_B &= _numbers(table, task.observed_if) == 1
            no_event_B = np.zeros_like(observed_B)
            if self._times is not None and rows is not None:
                due = self._times.look(table, rows, task, labels_B, observed_B)
                labels_B, observed_B, no_event_B = due.labels_B, due.observed_B, due.has_no_event_B
                by_time |= due.counts
            kind = LABEL_KINDS[task.kind]
            valid_B = observed_B & kind.is_valid(task, labels_B) & ~no_event_B
            what = f"tasks.{task.name}: labels in column {task.label!r}: {kind.expected(task)}"
            tallies.append(_tally(task.name, what, labels_B, observed_B, valid_B))
            np.copyto(labels_BT[:, index], labels_B, where=valid_B, casting="same_kind")
            observed_BT[:, index] = valid_B
        weights_B = self._weights(table, tallies)
        if self._times is not None and rows is not None:
            what = f"data.time: column {self._times.time!r}: every row needs its event time"
            no_time_B = np.full(table.num_rows, np.nan)
            tallies.append(
                _tally("time", what, no_time_B, np.ones_like(rows.is_known_B), rows.is_known_B)
            )
        return Labels(labels_BT, observed_BT, weights_B, tuple(tallies), by_time)

    def _weights(self, table: pa.Table, tallies: list[Tally]) -> np.ndarray:
        if self._weight is None:
            return np.ones(table.num_rows, np.float32)
        weights_B = _numbers(table, self._weight)
        valid_B = (weights_B >= 0) & (weights_B <= np.finfo(np.float32).max)
        rounded_B = np.where(valid_B, weights_B, 0.0).astype(np.float32)
        what = f"data.weight: column {self._weight!r}: a weight must be a finite number >= 0"
        tally = _tally("weight", what, weights_B, np.ones_like(valid_B), valid_B)
        tallies.append(replace(tally, num_zero=int(np.count_nonzero(rounded_B == 0))))
        return rounded_B


def zero_weights(column: str, rows: int) -> str:
    """What is said of a split in which no row counts."""
    return (
        f"data.weight: column {column!r}: all {rows:,} weights are 0 in float32; there is nothing "
        "to learn from or to be judged by: mend the column, or set data.weight=null"
    )


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
