"""Measures how good the training's own predictions are: NE, AUC, ... over the newest rows.

A row is predicted before the step that learns it, so that in the first epoch these are metrics of
rows never seen. A step costs a reference to what its forward has made anyway; the metrics are
computed at logging steps only, by TorchRec's metrics on the first rank.

The window belongs to no checkpoint: after a resume it starts empty.

Shapes: B rows of a batch, N rows of the window, T tasks, K outputs of a head.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.distributed as dist
from torch import Tensor
from torchrec.metrics.metrics_config import RecTaskInfo
from torchrec.metrics.rec_metric import RecMetric

from marigold_rec.config.label_kinds import has_classes
from marigold_rec.config.tasks import Task
from marigold_rec.config.window_figures import window_figure, window_metrics
from marigold_rec.contracts import Head
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.metrics import LOG_LOSS_CLIP, METRICS, imported
from marigold_rec.training.monitoring.sanity import TaskMetrics
from marigold_rec.training.objective import StepOutput
from marigold_rec.training.step_hook import Scalars, StepHook


@dataclass(frozen=True)
class WindowValues:
    """Holds the metrics of all ranks' rows; empty without rows, and on all but the first rank."""

    scalars: Scalars = field(default_factory=dict)
    """train/window_<metric>/<task>; None where the window has no such value."""
    tasks: list[TaskMetrics] = field(default_factory=list)
    is_full: bool = False
    """The window had as many rows as it may: right after a start it has few, and metrics of few
    rows are good or bad by chance."""

    @property
    def for_manifest(self) -> dict[str, float]:
        """Returns window_auc/ctr, ... for the manifest of a checkpoint; nothing if not full."""
        if not self.is_full:
            return {}
        found = {name.removeprefix("train/"): value for name, value in self.scalars.items()}
        return {n: v for n, v in found.items() if v is not None and math.isfinite(v)}


@dataclass(frozen=True)
class _Rows:
    """Holds one task's observed rows of positive weight, N of them."""

    predictions_N: Tensor
    """float32."""
    labels_N: Tensor
    weights_N: Tensor
    """float64, as the labels: TorchRec's sums take their inputs' precision."""


class WindowMetrics(StepHook):
    """Looks at the newest `window_rows` rows of all ranks, in whole batches, at least one per rank.

    Its values equal the evaluation's but for one thing: TorchRec's AUC takes ties of a positive and
    a negative in any order, where the evaluation counts them half.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        heads: Sequence[Head],
        ranks: Ranks,
        *,
        batch_size: int,
        window_rows: int | None,
    ) -> None:
        """`batch_size` counts rows per rank; with `window_rows` None there are no metrics."""
        self._tasks = tuple(tasks)
        self._heads = tuple(heads)
        self._ranks = ranks
        step_rows = batch_size * ranks.world_size
        num_batches = 0 if window_rows is None else max(1, window_rows // step_rows)
        self._batches: deque[_BatchRows] = deque(maxlen=num_batches)
        self.newest = WindowValues()
        """The values of the last logging step."""
        self._metrics: dict[str, RecMetric] = {}
        if ranks.is_first and num_batches:
            self._metrics = _metrics(self._tasks, num_batches * step_rows, ranks.device)

    def after_optimizer(self, output: StepOutput) -> None:
        """Keeps a step's outputs and labels; computes nothing."""
        batch = output.batch
        # Not the batch itself: its ids would be most of the memory.
        self._batches.append(
            _BatchRows(output.outputs, batch.labels_BT, batch.observed_BT, batch.weights_B)
        )

    def on_log(self, step: int, output: StepOutput) -> Scalars:
        """Collective."""
        self.newest = self.compute()
        return self.newest.scalars

    def on_save(self, step: int) -> dict[str, float]:
        return self.newest.for_manifest

    def compute(self) -> WindowValues:
        """Computes the metrics of the rows in the window. Collective; waits for the device."""
        if not self._batches:
            return WindowValues()
        with torch.no_grad():
            gathered_3TN = self._gathered()
            if gathered_3TN is None:
                return WindowValues()
            rows = {task.name: _observed(gathered_3TN[:, i]) for i, task in enumerate(self._tasks)}
            found = {name: self._values(name, rows) for name in self._metrics}
            tasks = [_task_metrics(task, rows[task.name], found) for task in self._tasks]
        tasks = _with_twins(tasks, rows)
        scalars = {
            f"train/{window_figure(name, task.name)}": found[name][task.name]
            for task in self._tasks
            for name in window_metrics(task.kind)
        }
        return WindowValues(scalars, tasks, len(self._batches) == self._batches.maxlen)

    def _gathered(self) -> Tensor | None:
        """Gathers predictions, labels and weights (0: not observed) of all ranks on the first."""
        rows = list(self._batches)
        outputs_TNK = [torch.cat(parts) for parts in zip(*(r.outputs for r in rows), strict=True)]
        predictions_TN = torch.stack(
            [
                head.predict(output_NK)[:, 0]
                for head, output_NK in zip(self._heads, outputs_TNK, strict=False)
            ]
        )
        labels_TN = torch.cat([r.labels_BT for r in rows]).T
        weights_TN = torch.cat([r.observed_BT * r.weights_B[:, None] for r in rows]).T
        mine_3TN = torch.stack([predictions_TN, labels_TN, weights_TN])
        if self._ranks.world_size == 1:
            return mine_3TN
        parts = None
        if self._ranks.is_first:
            parts = [torch.empty_like(mine_3TN) for _ in range(self._ranks.world_size)]
        dist.gather(mine_3TN, parts, dst=0, group=self._ranks.group)
        return None if parts is None else torch.cat(parts, dim=2)

    def _values(self, name: str, rows: dict[str, _Rows]) -> dict[str, float | None]:
        """Computes one metric of all its tasks; None where the rows have no such value."""
        metric = self._metrics[name]
        tasks = [task.name for task in self._tasks if name in window_metrics(task.kind)]
        # A probability of 0 or 1 costs what it costs in the evaluation.
        clip = LOG_LOSS_CLIP if METRICS[name].clips else None
        metric.update(
            predictions={t: _clipped(rows[t].predictions_N, clip) for t in tasks},
            labels={t: rows[t].labels_N for t in tasks},
            weights={t: rows[t].weights_N for t in tasks},
        )
        # Of this process alone: the rows of all ranks are here already.
        values = metric.local_compute()
        metric.reset()
        theirs = metric._namespace.value
        return {
            t: values[f"{theirs}-{t}|local_window_{theirs}"].item()
            if _has_value(name, rows[t])
            else None
            for t in tasks
        }


@dataclass(frozen=True)
class _BatchRows:
    outputs: tuple[Tensor, ...]
    labels_BT: Tensor
    observed_BT: Tensor
    weights_B: Tensor


def _metrics(tasks: Sequence[Task], rows: int, device: torch.device) -> dict[str, RecMetric]:
    infos: dict[str, list[RecTaskInfo]] = {}
    for task in tasks:
        for name in window_metrics(task.kind):
            infos.setdefault(name, []).append(RecTaskInfo(name=task.name))
    return {
        name: imported(METRICS[name].window or "")(
            world_size=1, my_rank=0, batch_size=rows, tasks=of, window_size=rows
        ).to(device)
        for name, of in infos.items()
    }


def _observed(rows_3N: Tensor) -> _Rows:
    # Several times faster than a mask over all three.
    seen = rows_3N[2].nonzero().squeeze(1)
    predictions_N, labels_N, weights_N = (row_N.index_select(0, seen) for row_N in rows_3N)
    return _Rows(predictions_N, labels_N.double(), weights_N.double())


def _clipped(predictions_N: Tensor, clip: float | None) -> Tensor:
    return predictions_N if clip is None else predictions_N.double().clamp(clip, 1 - clip)


def _has_value(name: str, rows: _Rows) -> bool:
    """Returns whether the metric has a value; if it has none, TorchRec gives NaN, 0 or 0.5."""
    labels_N = rows.labels_N
    match METRICS[name].needs:
        case "rows":
            return len(labels_N) > 0
        case "positives":
            return bool((labels_N > 0).any())
        case "classes":
            return bool((labels_N > 0).any()) and bool((labels_N == 0).any())
        case "spread":
            return bool((labels_N != labels_N[:1]).any())


def _task_metrics(
    task: Task, rows: _Rows, found: dict[str, dict[str, float | None]]
) -> TaskMetrics:
    low, high = rows.predictions_N.aminmax() if len(rows.predictions_N) else (0, 1)
    is_constant = bool(low == high)
    if not has_classes(task.kind):
        return TaskMetrics(task.name, _as_many(rows.weights_N), is_constant=is_constant)
    positives = _as_many(rows.weights_N[rows.labels_N > 0])
    negatives = _as_many(rows.weights_N[rows.labels_N == 0])
    values = {name: of_task[task.name] for name, of_task in found.items() if task.name in of_task}
    known = TaskMetrics.of(task.name, positives + negatives, positives, values)
    return replace(known, is_constant=is_constant)


def _as_many(weights_N: Tensor) -> float:
    """Returns Kish's effective sample size: so many rows of equal weight have as steady a mean."""
    squares = float(weights_N.square().sum())
    return float(weights_N.sum()) ** 2 / squares if squares > 0 else 0.0


def _with_twins(tasks: list[TaskMetrics], rows: dict[str, _Rows]) -> list[TaskMetrics]:
    """Adds to each task the first earlier one that has the same labels."""
    found: list[TaskMetrics] = []
    for of in tasks:
        alike = (
            other.task
            for other in found
            # Counts first: they tell nearly all pairs apart without a look at the rows.
            if other.positives is not None
            and (other.rows, other.positives) == (of.rows, of.positives)
            and torch.equal(rows[other.task].labels_N, rows[of.task].labels_N)
            and torch.equal(rows[other.task].weights_N, rows[of.task].weights_N)
        )
        found.append(replace(of, twin=next(alike, None)))
    return found
