"""How good the training's own predictions are: NE, AUC, calibration and MAE over the last rows.

A row is predicted before the step that learns it, so that in the first epoch these are figures of
rows never seen. A step costs a reference to what its forward has made anyway; the figures are
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
from marigold_rec.distributed import Ranks
from marigold_rec.metrics import LOG_LOSS_CLIP, METRICS, imported
from marigold_rec.training.monitoring.sanity import TaskFigures
from marigold_rec.training.objective import StepOutput


@dataclass(frozen=True)
class WindowFigures:
    """Of all ranks' rows; empty on ranks other than the first, and where there is no window."""

    scalars: dict[str, float | None] = field(default_factory=dict)
    """train/window_<metric>/<task>; None where the window has no such figure."""
    figures: list[TaskFigures] = field(default_factory=list)
    is_full: bool = False
    """The window had as many rows as it may: right after a start it has few, and figures of few
    rows are good or bad by chance."""

    @property
    def to_note(self) -> dict[str, float]:
        """For the manifest of a checkpoint: window_auc/ctr, ...; nothing where it isn't full."""
        if not self.is_full:
            return {}
        found = {name.removeprefix("train/"): value for name, value in self.scalars.items()}
        return {n: v for n, v in found.items() if v is not None and math.isfinite(v)}


@dataclass(frozen=True)
class _Rows:
    """One task's observed rows of positive weight, N of them."""

    predictions_N: Tensor
    """float32."""
    labels_N: Tensor
    weights_N: Tensor
    """float64, as the labels: TorchRec's sums take their inputs' precision."""


class WindowMetrics:
    """The newest `window_rows` rows of all ranks, in whole batches and at least one of each rank.

    Equal to the evaluation's figures but for one thing: TorchRec's AUC takes ties of a positive and
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
        """`batch_size`: rows per rank; `window_rows` None: no window, and no figures."""
        self._tasks = tuple(tasks)
        self._heads = tuple(heads)
        self._ranks = ranks
        step_rows = batch_size * ranks.world_size
        num_batches = 0 if window_rows is None else max(1, window_rows // step_rows)
        self._batches: deque[_Kept] = deque(maxlen=num_batches)
        self._metrics: dict[str, RecMetric] = {}
        if ranks.is_first and num_batches:
            self._metrics = _metrics(self._tasks, num_batches * step_rows, ranks.device)

    def add(self, output: StepOutput) -> None:
        """Keeps a step's outputs and labels; computes nothing."""
        batch = output.batch
        # Not the batch itself: its ids would be most of the memory.
        self._batches.append(
            _Kept(output.outputs, batch.labels_BT, batch.observed_BT, batch.weights_B)
        )

    def compute(self) -> WindowFigures:
        """The figures of the rows in the window. Collective; syncs with the device."""
        if not self._batches:
            return WindowFigures()
        with torch.no_grad():
            gathered_3TN = self._gathered()
            if gathered_3TN is None:
                return WindowFigures()
            rows = {task.name: _observed(gathered_3TN[:, i]) for i, task in enumerate(self._tasks)}
            found = {name: self._values(name, rows) for name in self._metrics}
            figures = [_figures(task, rows[task.name], found) for task in self._tasks]
        figures = _with_twins(figures, rows)
        scalars = {
            f"train/{window_figure(name, task.name)}": found[name][task.name]
            for task in self._tasks
            for name in window_metrics(task.kind)
        }
        return WindowFigures(scalars, figures, len(self._batches) == self._batches.maxlen)

    def _gathered(self) -> Tensor | None:
        """Predictions, labels and weights (0: not observed) of all ranks' rows, on the first."""
        kept = list(self._batches)
        outputs_TNK = [torch.cat(parts) for parts in zip(*(k.outputs for k in kept), strict=True)]
        predictions_TN = torch.stack(
            [
                head.predict(output_NK)[:, 0]
                for head, output_NK in zip(self._heads, outputs_TNK, strict=False)
            ]
        )
        labels_TN = torch.cat([k.labels_BT for k in kept]).T
        weights_TN = torch.cat([k.observed_BT * k.weights_B[:, None] for k in kept]).T
        mine_3TN = torch.stack([predictions_TN, labels_TN, weights_TN])
        if self._ranks.world_size == 1:
            return mine_3TN
        parts = None
        if self._ranks.is_first:
            parts = [torch.empty_like(mine_3TN) for _ in range(self._ranks.world_size)]
        dist.gather(mine_3TN, parts, dst=0, group=self._ranks.group)
        return None if parts is None else torch.cat(parts, dim=2)

    def _values(self, name: str, rows: dict[str, _Rows]) -> dict[str, float | None]:
        """One metric of all its tasks; None where the rows have no such figure."""
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
            if _has_figure(name, rows[t])
            else None
            for t in tasks
        }


@dataclass(frozen=True)
class _Kept:
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


def _has_figure(name: str, rows: _Rows) -> bool:
    """Where there is none, TorchRec gives NaN, 0 or 0.5."""
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


def _figures(task: Task, rows: _Rows, found: dict[str, dict[str, float | None]]) -> TaskFigures:
    low, high = rows.predictions_N.aminmax() if len(rows.predictions_N) else (0, 1)
    is_constant = bool(low == high)
    if not has_classes(task.kind):
        return TaskFigures(task.name, _as_many(rows.weights_N), is_constant=is_constant)
    positives = _as_many(rows.weights_N[rows.labels_N > 0])
    negatives = _as_many(rows.weights_N[rows.labels_N == 0])
    values = {name: of_task[task.name] for name, of_task in found.items() if task.name in of_task}
    known = TaskFigures.of(task.name, positives + negatives, positives, values)
    return replace(known, is_constant=is_constant)


def _as_many(weights_N: Tensor) -> float:
    """The number of rows of equal weight whose mean is as steady (Kish's effective sample size)."""
    squares = float(weights_N.square().sum())
    return float(weights_N.sum()) ** 2 / squares if squares > 0 else 0.0


def _with_twins(figures: list[TaskFigures], rows: dict[str, _Rows]) -> list[TaskFigures]:
    """Each task with the first earlier one that has the same labels."""
    found: list[TaskFigures] = []
    for of in figures:
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
